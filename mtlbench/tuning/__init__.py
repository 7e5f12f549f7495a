"""Tuning: the same number of trials for every method, judged on the validation split alone, and what comes of them."""
