"""From image files to triplets on the device.

Readers make a table, the table's images are packed, and batches are drawn from the packed images.
"""
