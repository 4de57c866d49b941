"""From the name of a backbone to a network, its first weights, and which of its layers train.

`backbones` has the networks, `build` adds neck and head, `weights` loads weights, `freezing` finds
the layers of a stage, `trunk` cuts off what stays frozen, and `inference` predicts.
"""
