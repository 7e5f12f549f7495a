"""Losses: a batch and its embeddings -> a loss per task."""
