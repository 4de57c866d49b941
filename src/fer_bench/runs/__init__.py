"""The run directory: the only place that knows its files.

`directory` names them; `record`, `history` and `predictions` read and write one kind each;
`tracking` mirrors them to TensorBoard and MLflow.
"""
