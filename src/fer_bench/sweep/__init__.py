"""Many runs: `suite` expands them, `scheduler` orders them, an engine runs them.

`job` is one run in processes of its own, `local_engine` and `ray_engine` run several at a time,
`progress` follows them, and `search` looks for the best values of an experiment.
"""
