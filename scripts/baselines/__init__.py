"""What `benchmark.py` measures fer-bench against, and how it takes turns with it."""
