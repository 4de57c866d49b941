"""From a folder to batches, in the order in which a sample travels.

`datasets` and `load` read a folder into a `manifest` with `splits`; `audit` looks for what is wrong
with it; `images` and `decoding` make pixels of files; `augmentation` and `pipeline` make batches.
"""
