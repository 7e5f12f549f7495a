"""Sampling: how the batches of training are drawn."""
