"""The experiment: its schema, and the way from a YAML file to a checked, frozen `Experiment`.

`experiment` holds the whole, `dataset`, `model` and `training` its sections; `loading` reads one.
"""
