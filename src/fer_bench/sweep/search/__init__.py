"""Looking for better parameters with Optuna, on validation alone."""
