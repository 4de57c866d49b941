"""The custom networks, layer by layer as published."""

from typing import Any

import keras
import numpy as np
import pytest

from fer_bench.config.model import Model
from fer_bench.models.build import build_model
from fer_bench.registry import BACKBONES


def build(name: str, size: int) -> Any:
    return build_model(Model(backbone=name), size, 7)


def parameters(model: Any, kind: Any) -> list[int]:
    return [layer.count_params() for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("cnn_slides", 48, 527_559),
        ("cnn_slides", 64, 920_775),
        ("cnn_slides", 96, 2_493_639),
        ("cnn_pisa", 180, 1_066_311),
        ("cnn_pisa_l2", 180, 7_405_127),
    ],
)
def test_the_published_number_of_parameters(name: str, size: int, count: int) -> None:
    assert build(name, size).count_params() == count


def test_slides_trains_all_but_the_statistics() -> None:
    model = build("cnn_slides", 48)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 525_575


def test_slides_layer_by_layer() -> None:
    block = ["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]
    end = ["Flatten", "Dense", "BatchNormalization", "Dropout", "Dense"]
    kinds = [type(layer).__name__ for layer in build("cnn_slides", 48).layers]
    assert kinds == ["InputLayer", "Rescaling", *block * 4, *end]


def test_pisa_layer_by_layer() -> None:
    model = build("cnn_pisa", 180)
    expected = [896, 18_496, 73_856, 295_168, 590_080]
    assert parameters(model, keras.layers.Conv2D) == expected
    assert parameters(model, keras.layers.Dense) == [87_815]
    assert not parameters(model, keras.layers.Dropout)


def test_pisa_with_a_penalty_layer_by_layer() -> None:
    model = build("cnn_pisa_l2", 180)
    expected = [896, 18_496, 73_856, 295_168, 590_080]
    assert parameters(model, keras.layers.Conv2D) == expected
    assert parameters(model, keras.layers.Dense) == [6_423_040, 3_591]
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.2] * 5 + [0.5]
    penalised = [layer for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    assert [layer.units for layer in penalised] == [512]
    assert float(penalised[0].kernel_regularizer.l2) == pytest.approx(0.01)


@pytest.mark.parametrize("size", [16, 48, 96])
def test_compact_stays_compact_at_any_size(size: int) -> None:
    assert build("cnn_compact", size).count_params() <= 2_000_000


@pytest.mark.parametrize("name", ["cnn_slides", "cnn_pisa", "cnn_pisa_l2"])
def test_one_pixel_less_does_not_build(name: str) -> None:
    spec = BACKBONES[name]
    with pytest.raises(ValueError, match=r"negative|dimension|size"):
        spec.build(spec.smallest_size - 1)
