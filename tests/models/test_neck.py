"""The inverted pyramid pooling: what it is, what it is not, and what it should have been."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from tiers import some_fast

from fer_bench.config.model import Model, Neck
from fer_bench.errors import ConfigError
from fer_bench.models.build import build_model, head_layers
from fer_bench.models.neck import FORMS, NECK_PREFIX, add_neck

FACTORS = (2, 3, 4, 6)
CHANNELS = 6
Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def equal_weights_in_every_run() -> None:
    keras.utils.set_random_seed(0)


def neck(form: str, **changes: Any) -> Neck:
    return Neck.model_validate({"name": "ippm", "form": form, "filters": 4, **changes})


def levels(form: str, height: int = 4, width: int = 4) -> Any:
    """The neck without the convolutions that follow its levels."""
    inputs = keras.Input((height, width, CHANNELS))
    return keras.Model(inputs, add_neck(inputs, neck(form, convolutions=())))


def features(height: int = 4, width: int = 4) -> Array:
    return np.random.default_rng(1).normal(size=(2, height, width, CHANNELS)).astype(np.float32)


def counts(model: Any) -> tuple[int, int]:
    """(all parameters, those that train)."""
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return model.count_params(), trainable


@pytest.mark.parametrize("factor", some_fast(FACTORS, 2, 3))
@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (1, 1)])
def test_enlarged_and_pooled_a_map_is_what_it_was(factor: int, height: int, width: int) -> None:
    model, maps = levels("published", height, width), features(height, width)
    for name in ("up", "pool"):
        assert model.get_layer(f"{NECK_PREFIX}{name}_{factor}")
    pooled = keras.Model(model.input, model.get_layer(f"{NECK_PREFIX}pool_{factor}").output)
    np.testing.assert_allclose(pooled(maps), maps, rtol=1e-5)  # a mean of equal numbers


def test_the_published_form_is_one_convolution() -> None:
    published, single = levels("published"), levels("conv1x1")
    branches = [published.get_layer(f"{NECK_PREFIX}level_{factor}") for factor in FACTORS]
    kernels, biases = zip(*(branch.get_weights() for branch in branches), strict=True)
    (convolution,) = (layer for layer in single.layers if layer.weights)
    convolution.set_weights([np.concatenate(kernels, axis=-1), np.concatenate(biases)])
    one, other = (np.asarray(model(features())) for model in (published, single))
    assert one.any()
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_block_has_the_published_number_of_parameters(form: str) -> None:
    inputs = keras.Input((4, 4, 2048))
    config = neck(form, filters=128, convolutions=())
    assert counts(keras.Model(inputs, add_neck(inputs, config))) == (1_049_088, 1_049_088)


@pytest.mark.slow
@pytest.mark.parametrize("form", [None, "conv1x1"])
def test_resnet50_with_it_has_the_published_number_of_parameters(form: str | None) -> None:
    config = (
        Model(backbone="resnet50", neck=Neck(name="ippm", form=form))
        if form
        else Model(backbone="resnet50_ippm")
    )
    with keras.StatelessScope(initialize_variables=False):  # to count, shapes are enough
        model = build_model(config, 128, 8)
    keras.utils.clear_session(free_memory=False)
    head = sum(layer.count_params() for layer in head_layers(model))
    assert (model.count_params(), head) == (25_301_064, 1_713_352)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (5, 7), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((3, 2), (8, 8)))],
)
def test_the_size_of_the_map_stays(form: str, height: int, width: int) -> None:
    assert levels(form, height, width).output_shape == (None, height, width, 16)
    inputs = keras.Input((height, width, CHANNELS))
    assert add_neck(inputs, neck(form)).shape == (None, height, width, 64)


@pytest.mark.parametrize(("form", "reaches"), [("published", 0), ("conv1x1", 0), ("pyramid", 3)])
def test_how_far_a_pixel_reaches(form: str, reaches: int) -> None:
    model, maps = levels(form, 7, 7), np.abs(features(7, 7))
    for layer in model.layers:  # nothing is cut off by the ReLU
        layer.set_weights([np.abs(values) for values in layer.get_weights()])
    changed = maps.copy()
    changed[:, 0, 0] += 1
    differs = (np.abs(np.asarray(model(maps)) - model(changed)) > 1e-4).any(axis=(0, 3))
    rows, columns = np.nonzero(differs)
    if reaches == 0:
        assert (rows.tolist(), columns.tolist()) == ([0], [0])
    else:
        assert min(rows.max(), columns.max()) >= reaches


@pytest.mark.parametrize("size", [4, 12])
def test_the_pyramid_moves_nothing_to_one_side(size: int) -> None:
    model, maps = levels("pyramid", size, size), features(size, size)
    mirrored = np.asarray(model(np.ascontiguousarray(maps[:, :, ::-1])))
    np.testing.assert_allclose(mirrored, np.asarray(model(maps))[:, :, ::-1], atol=1e-5)


def test_convolutions_follow_the_levels() -> None:
    inputs = keras.Input((4, 4, CHANNELS))
    model = keras.Model(inputs, add_neck(inputs, neck("conv1x1", convolutions=(8, 5))))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size) for layer in layers] == [
        (16, (1, 1)),
        (8, (3, 3)),
        (5, (3, 3)),
    ]


def test_a_single_level_needs_no_joining() -> None:
    inputs = keras.Input((4, 4, CHANNELS))
    config = neck("published", factors=(3,), convolutions=())
    assert add_neck(inputs, config).shape == (None, 4, 4, 4)


@pytest.mark.parametrize("form", FORMS)
def test_a_vector_cannot_take_it(form: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.neck: ippm(?s:.*)Remove model\.neck"):
        build_model(Model(backbone="cnn_slides", neck=neck(form)), 46, 7)


@pytest.mark.parametrize("form", some_fast(FORMS, "published"))
def test_saved_and_loaded_it_is_the_same(form: str, tmp_path: Path) -> None:
    inputs = keras.Input((5, 4, CHANNELS))
    model, maps = keras.Model(inputs, add_neck(inputs, neck(form))), features(5, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(loaded(maps), model(maps), rtol=1e-5, atol=1e-5)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    modules = {layer["module"] for layer in config["config"]["layers"]}
    assert all(module.startswith("keras") for module in modules)
