"""Tuning: the same number of trials for every method, judged on the validation split; the best becomes a recipe."""
