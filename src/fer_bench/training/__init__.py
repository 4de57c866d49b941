"""Training one run, from an experiment to its selected model, however often it is interrupted.

`train` is the whole job, `session` everything before the first step, `stage` one stage, `steps` the
compiled steps, and `checkpoint` what survives a kill.
"""
