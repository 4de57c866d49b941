"""One run, from an experiment to its selected model, however often it is interrupted.

`train` is the whole job, `session` what it needs before the first step, `stage` one stretch of it,
`steps` the compiled steps, `checkpoint` what survives a kill.
"""
