"""Mirrors of a run directory in TensorBoard and MLflow, which never hold a run up."""
