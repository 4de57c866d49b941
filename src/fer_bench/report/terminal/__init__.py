"""Output for the terminal: tables, and progress while something runs."""
