"""Between the backbone's feature map and the head: the inverted pyramid pooling of the prior work.

The published code enlarges the map by a factor s with nearest-neighbour interpolation and then
takes the maximum over s × s pixels. For every s the result is the map itself, so the four levels of
128 filters are one 1×1 convolution of 512 (`tests/models/test_neck.py` shows both). `conv1x1` is
this convolution; `pyramid` does what the name promises and uses several scales.
"""

from collections.abc import Callable
from typing import Any

from keras import layers

from fer_bench.config.model import Neck
from fer_bench.errors import ConfigError

NECK_PREFIX = "neck_"


def add_neck(features: Any, config: Neck) -> Any:
    """Feature map (n, h, w, c) → (n, h, w, last of `convolutions`, or the filters of all levels).

    Raises:
        ConfigError: the features are a vector.
    """
    if len(features.shape) != 4:
        raise ConfigError(
            f"model.neck: {config.name} needs a feature map, and this backbone ends in a vector.\n"
            "Remove model.neck, or use another backbone."
        )
    x = FORMS[config.form](features, config)
    for index, filters in enumerate(config.convolutions):
        name = f"{NECK_PREFIX}conv_{index}"
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
    return x


def _published(features: Any, config: Neck) -> Any:
    levels = []
    for factor in config.factors:
        x = layers.UpSampling2D(factor, name=f"{NECK_PREFIX}up_{factor}")(features)
        x = layers.MaxPooling2D(factor, name=f"{NECK_PREFIX}pool_{factor}")(x)
        levels.append(_level(x, config, factor))
    return _joined(levels)


def _conv1x1(features: Any, config: Neck) -> Any:
    filters = config.filters * len(config.factors)
    return layers.Conv2D(filters, 1, activation="relu", name=f"{NECK_PREFIX}level")(features)


def _pyramid(features: Any, config: Neck) -> Any:
    """Each level uses the map averaged over s × s pixels, as in PSPNet (Zhao et al., 2017)."""
    height, width = features.shape[1:3]
    levels = []
    for factor in config.factors:
        prefix = f"{NECK_PREFIX}{{}}_{factor}"
        x = layers.AveragePooling2D(factor, padding="same", name=prefix.format("pool"))(features)
        x = _level(x, config, factor)
        up = layers.UpSampling2D(factor, interpolation="bilinear", name=prefix.format("up"))(x)
        surplus = (_halves(up.shape[1] - height), _halves(up.shape[2] - width))
        levels.append(layers.Cropping2D(surplus, name=prefix.format("crop"))(up))
    return _joined(levels)


def _halves(surplus: int) -> tuple[int, int]:
    """The crop per side that undoes the padding of the pooling."""
    return surplus // 2, surplus - surplus // 2


def _level(x: Any, config: Neck, factor: int) -> Any:
    name = f"{NECK_PREFIX}level_{factor}"
    return layers.Conv2D(config.filters, 1, activation="relu", name=name)(x)


def _joined(levels: list[Any]) -> Any:
    if len(levels) == 1:
        return levels[0]
    return layers.Concatenate(name=f"{NECK_PREFIX}levels")(levels)


FORMS: dict[str, Callable[[Any, Neck], Any]] = {
    "published": _published,
    "conv1x1": _conv1x1,
    "pyramid": _pyramid,
}
