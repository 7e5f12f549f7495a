"""Brings published data sets to disk: resuming downloads, official checksums, safe unpacking."""
