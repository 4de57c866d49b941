"""The hardware: which device computes, and what it can do.

`machine` counts cores and memory, `selection` chooses the device and `precision` its arithmetic,
`workers` and `collective` join several hosts, `signals` stops a run, `inventory` lists what is
installed.
"""
