"""Networks, one file per family, each ending in features for the head.

Every module here registers its backbones in `registry.BACKBONES` when it is imported. A new one
needs only a file: `backbone_spec` says what it registers, `applications` takes a network of Keras.
"""
