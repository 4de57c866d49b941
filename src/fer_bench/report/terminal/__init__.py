"""What the terminal shows: tables, and progress while something runs."""
