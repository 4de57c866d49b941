"""What computes, and what it can do.

`machine` knows the cores, `selection` chooses the device and its precision, `workers` and
`collective` join several hosts, `signals` says when to stop, `inventory` lists what is installed.
"""
