"""What a program or a notebook calls: train, evaluate, compare, and look at what there is.

`import fer_bench` offers all of it, one name each, imported when it is first used. The commands
of `fer` call the same functions.
"""
