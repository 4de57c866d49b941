"""What every registered backbone promises."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_bench.backbones import BackboneSpec
from fer_bench.config import Experiment, Model
from fer_bench.model import HEAD_PREFIX, build_model
from fer_bench.registry import BACKBONES

CLASSES = 7
NAMES = BACKBONES.names()


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")


def spec_of(name: str) -> BackboneSpec:
    spec: BackboneSpec = BACKBONES[name]
    return spec


def build(name: str, size: int) -> Any:
    return build_model(Model(backbone=name), size, CLASSES)


@cache
def smallest(name: str) -> Any:
    """The backbone in float32 at its smallest size; read only."""
    return build(name, spec_of(name).smallest_size)


def images(count: int, size: int) -> NDArray[np.float32]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3))
    return pixels.astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_without_building(name: str) -> None:
    spec = spec_of(name)
    assert name == name.lower()
    assert spec.family
    assert spec.smallest_size <= 1024
    logits = smallest(name).layers[-1]
    pooled = any(layer.name == HEAD_PREFIX + "pool" for layer in smallest(name).layers)
    is_map = pooled and len(smallest(name).get_layer(HEAD_PREFIX + "pool").input.shape) == 4
    assert len(logits.input.shape) == 2
    assert spec.pooling == ("avg" if is_map else "none")


@pytest.mark.parametrize("more", [0, 17])
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_finite_float32_logits_at_any_batch_size(name: str, more: int) -> None:
    size = spec_of(name).smallest_size + more
    model, batch = build(name, size) if more else smallest(name), images(8, size)
    together = np.asarray(model(batch, training=False))
    alone = np.concatenate([model(image[None], training=False) for image in batch[:2]])
    assert together.shape == (8, CLASSES)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert np.ptp(together, axis=0).max() > 0, "the logits do not depend on the image"
    np.testing.assert_allclose(alone, together[:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    model, batch = smallest(name), images(2, spec_of(name).smallest_size)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert np.array_equal(loaded(batch, training=False), model(batch, training=False))


@pytest.mark.parametrize("name", NAMES)
def test_one_pixel_less_is_refused(name: str) -> None:
    size = spec_of(name).smallest_size - 1
    document = {
        "name": "x",
        "dataset": {"name": "drawn"},
        "image": {"size": size},
        "model": {"backbone": name},
        "stages": [{"name": "all", "epochs": 1, "learning_rate": 0.1}],
    }
    with pytest.raises(ValueError, match=f"image.size.*got {size}|image.size\n"):
        Experiment.model_validate(document)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_convolution_sees_the_range_that_it_expects(name: str) -> None:
    size = spec_of(name).smallest_size
    model = smallest(name)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    before = keras.Model(model.input, first.input)
    black, white = (
        np.asarray(before(np.full((1, size, size, 3), level, np.float32))) for level in (0, 255)
    )
    ends = (black.min(), black.max(), white.min(), white.max())
    assert ends == pytest.approx((-1, -1, 1, 1)) or ends == pytest.approx((0, 0, 1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_in_mixed_precision_the_logits_stay_float32(name: str) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = build(name, spec_of(name).smallest_size)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    logits = np.asarray(model(images(1, spec_of(name).smallest_size), training=False))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_flat(name: str) -> None:
    model = smallest(name)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    layers = [layer.name for layer in model.layers]
    inside = [layer for layer in layers if not layer.startswith(HEAD_PREFIX)]
    assert layers[: len(inside)] == inside
    assert len(set(layers)) == len(layers)
