"""The audit of a dataset: files that cannot be used, and duplicates that leak between splits.

`findings` is the audit. `image_files` reads every file; `duplicates` finds copies of one image:
edited ones by `perceptual_hash`, moved ones by `poses` and `alignment`.
"""
