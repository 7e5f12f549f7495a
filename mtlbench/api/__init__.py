"""mtlbench from Python: run, results, load. What is public stands in `mtlbench` itself."""
