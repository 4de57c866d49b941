"""The custom networks of the prior work, with the published layers.

Keras is imported inside the builders: looking up a name must stay instant.
"""

from typing import Any

from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES

PISA_FILTERS = (32, 64, 128, 256, 256)


def cnn_slides(size: int) -> Any:
    """`slides`: 4 × (Conv 3×3 ReLU, BatchNorm, MaxPool, Dropout 0.2), Dense 512, BatchNorm.

    527,559 parameters with 7 classes at 48×48×3.
    """
    from keras import Input, Model, layers

    inputs = Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128, 256):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(0.2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2)(x)
    return Model(inputs, x)


def cnn_pisa(size: int) -> Any:
    """`pisa` trials 1 to 4: five Conv 3×3 ReLU, MaxPool after the first four, Flatten.

    1,066,311 parameters with 7 classes at 180×180×3. Trial 4's Dropout 0.5 after Flatten is
    `head: {pooling: none, dropout: 0.5}`.
    """
    from keras import Input, Model, layers

    inputs = Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for index, filters in enumerate(PISA_FILTERS):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        if index < 4:
            x = layers.MaxPooling2D(2)(x)
    return Model(inputs, layers.Flatten()(x))


def cnn_pisa_l2(size: int) -> Any:
    """`pisa` trial 5: Dropout 0.2 after each convolution, 0.5 after Flatten, Dense 512 with L2.

    7,405,127 parameters with 7 classes at 180×180×3.
    """
    from keras import Input, Model, layers, regularizers

    inputs = Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for index, filters in enumerate(PISA_FILTERS):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.Dropout(0.2)(x)
        if index < 4:
            x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(512, activation="relu", kernel_regularizer=regularizers.L2(0.01))(x)
    return Model(inputs, x)


BACKBONES.register("cnn_slides", BackboneSpec(cnn_slides, "cnn", 46, "none"))
BACKBONES.register("cnn_pisa", BackboneSpec(cnn_pisa, "cnn", 78, "none"))
BACKBONES.register("cnn_pisa_l2", BackboneSpec(cnn_pisa_l2, "cnn", 78, "none"))
