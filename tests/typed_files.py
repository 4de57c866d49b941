"""The experiment of the tests of what people type."""

EXPERIMENT = """\
dataset: {name: drawn, root: faces, validation: 0.25}
image: {size: 24}
model: {backbone: cnn_compact}
training: {batch_size: 16}
stages:
  - {name: head, train: head, epochs: 1, learning_rate: 1.0e-3}
  - {name: all, train: all, epochs: 2, learning_rate: 1.0e-4}
"""
