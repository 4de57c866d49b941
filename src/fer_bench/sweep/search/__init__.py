"""The search for the best values of an experiment, with Optuna and on the validation split.

`space` is what may vary, `study` the trials, `rounds` trains them, `search` joins the three.
"""
