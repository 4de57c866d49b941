"""PNG files: figures of runs, datasets, networks and searches, and sheets of explanations."""
