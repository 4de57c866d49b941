"""Where the places of a feature map look, against what moves when the image moves."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fer_bench.models.receptive_field import centres

SIZE = 32


def residual(x: Any) -> Any:
    """A block of ResNet-D: a strided convolution beside an average pooling."""
    shortcut = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Conv2D(1, 3, strides=2, padding="same")(x)
    return layers.Add()([x, shortcut])


def gated(x: Any) -> Any:
    """Squeeze and excitation."""
    x = layers.Conv2D(1, 3, strides=2, padding="same")(x)
    return layers.Multiply()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])


NETWORKS: dict[str, list[Any]] = {
    "stride 2, same": [layers.Conv2D(1, 3, strides=2, padding="same") for _ in range(3)],
    "valid and pooling": [layers.Conv2D(1, 3), layers.MaxPooling2D(2), layers.Conv2D(1, 3)],
    "explicit padding": [layers.ZeroPadding2D(3), layers.Conv2D(1, 7, strides=2)],
    "uneven padding": [layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Conv2D(1, 3, strides=2)],
    "dilated": [layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")],
    "enlarged": [layers.AveragePooling2D(4), layers.UpSampling2D(2), layers.Cropping2D(1)],
    "residual": [residual, residual],
    "gated": [gated],
}


def network(parts: list[Any]) -> Any:
    x = inputs = keras.Input((SIZE, SIZE, 1))
    for part in parts:
        x = part(x)
    model = keras.Model(inputs, x)
    for layer in model.layers:  # each sees all of its window alike
        layer.set_weights([np.full_like(w, w.ndim > 1) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_a_spot_that_moves_is_found_where_it_is(name: str) -> None:
    model = network(NETWORKS[name])
    rows, columns = centres(model, model.layers[-1])
    assert model.output.shape[1:3] == (len(rows), len(columns))
    np.testing.assert_allclose(rows, columns)
    found = []
    middle = range(SIZE // 4, 3 * SIZE // 4)
    for column in middle:
        spot = np.zeros((1, SIZE, SIZE, 1), np.float32)
        spot[0, SIZE // 2, column] = 1
        seen = np.asarray(model(spot, training=False))[0, ..., 0].sum(axis=0)
        found.append(float(seen @ columns / seen.sum()))
    # Over all columns the error is half the width of a place at most in each, and 0 on average; the
    # branches of a residual block look at places that differ by half a pixel per level.
    step = columns[1] - columns[0]
    assert np.mean(np.subtract(found, middle)) == pytest.approx(0, abs=0.2 * step)
    even = (np.arange(len(columns)) + 0.5) * SIZE / len(columns) - 0.5
    if name == "stride 2, same":
        assert columns[0] - even[0] == pytest.approx(3.5)  # 0.44 of a place


def test_a_layer_of_unknown_effect_leaves_an_even_grid() -> None:
    model = network([layers.Conv2DTranspose(1, 3, strides=2), layers.Conv2D(1, 3)])
    rows, _ = centres(model, model.layers[-1])
    assert rows[0] + rows[-1] == pytest.approx(SIZE - 1)
    np.testing.assert_allclose(np.diff(rows), SIZE / len(rows))
