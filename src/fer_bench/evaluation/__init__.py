"""A trained model's answers and what they are worth.

`evaluate` predicts a split and measures it; `robustness` does so on corrupted images, `explain`
shows where the network looks, `adopt` takes predictions of any other program.
"""
