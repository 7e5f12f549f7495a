"""From image files to triplets on the device: readers make a table, the table is packed, batches are drawn from it."""
