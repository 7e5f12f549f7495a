"""Readers of data sets: one file each, with its options and where to get the data; `contract` says what a reader is."""
