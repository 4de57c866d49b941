"""From the name of a backbone to a network, its first weights, and what of it trains.

`build` makes the network, `weights` fills it, `freezing` resolves a stage's layers, `trunk` cuts
off what stays frozen, `inference` predicts.
"""
