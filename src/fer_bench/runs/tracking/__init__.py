"""Mirrors of a run directory in TensorBoard and MLflow, which never delay a run.

`mirror` sends in the background; `outbox` knows what is left to send; `tensorboard` and `mlflow`
send it.
"""
