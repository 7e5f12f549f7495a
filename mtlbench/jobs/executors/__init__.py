"""Executors, one per file: they decide where jobs run and how many at a time."""
