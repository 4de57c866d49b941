"""A trained model's predictions and what they are worth.

`evaluate` predicts a split and measures it, `robustness` does so on corrupted images, `explain`
shows where the network looks, and `adopt` takes predictions from any other program.
"""
