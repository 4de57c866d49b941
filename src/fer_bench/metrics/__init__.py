"""Numbers computed from predictions, each with its interval. No files and no networks.

`expression` and `valence_arousal` define the metrics, `measure` runs them, `intervals` and
`significance` say how sure they are, `document` makes the JSON of an evaluation.
"""
