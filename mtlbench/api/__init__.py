"""mtlbench from Python: run, results, load. `mtlbench` itself exports what is public."""
