"""Executors, one file each: who does jobs, and where."""
