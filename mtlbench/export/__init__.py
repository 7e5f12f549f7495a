"""Exporting a run's network: one file that embeds raw images, checked against the run, and a model card beside it."""
