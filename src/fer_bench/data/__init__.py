"""From a folder to batches, in the order in which a sample travels.

`files` reads archives and folders; `datasets` and `load` make a `manifest` with `splits` of them;
`audit` looks for files and duplicates that spoil results; `images` and `decoding` read pixels;
`augmentation` and `pipeline` make batches.
"""
