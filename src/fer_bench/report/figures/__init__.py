"""Pictures: PNG files of runs, searches and explanations."""
