"""What is wrong with the images of a dataset: unusable files, and copies that leak.

`findings` is the audit; `copies` finds duplicates by `perceptual_hash`; `image_files` reads every
file.
"""
