"""Grad-CAM against closed forms: where it looks, and that its numbers are the paper's."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from messages import says
from numpy.typing import NDArray

from fer_bench.config.model import Head, Model, Neck
from fer_bench.errors import RunError
from fer_bench.evaluation.grad_cam import BATCH, class_maps, last_feature_map, on_image
from fer_bench.models.build import LOGITS, attach_head, build_model
from fer_bench.models.receptive_field import centres

CLASSES, SIZE = 7, 24
BOTH = ("expression", "valence_arousal")
Images = NDArray[np.float32]


def images(number: int, size: int = SIZE) -> Images:
    return np.random.default_rng(0).uniform(0, 255, (number, size, size, 3)).astype(np.float32)


def small(head: Head | None = None, targets: Any = BOTH[:1]) -> Any:
    """Two convolutions with a head; a map of 6 × 6 places."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    config = Model(backbone="cnn_compact", head=head, targets=targets)
    return attach_head(keras.Model(inputs, x), config, CLASSES)


@pytest.fixture(scope="module")
def pooled() -> Any:
    """A network of a map, global average pooling, and a dense layer."""
    return small()


def cam(model: Any, pictures: Images, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class activation maps (Zhou et al., 2016): the map, weighted as the dense layer does."""
    trunk = keras.Model(model.input, model.get_layer("head_pool").input)
    features = np.asarray(trunk(pictures, training=False), dtype=np.float64)
    kernel = np.asarray(model.get_layer(LOGITS).kernel, dtype=np.float64)
    maps = np.maximum(np.einsum("nhwk,kn->nhw", features, kernel[:, codes]), 0)
    most = maps.max(axis=(1, 2), keepdims=True)
    expected: NDArray[np.float64] = np.divide(maps, most, out=np.zeros_like(maps), where=most > 0)
    return expected


# Which map -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "size", "prefix", "shape"),
    [
        ({"backbone": "cnn_compact"}, 24, "re_lu", (3, 3, 256)),
        (
            {"backbone": "cnn_compact", "neck": Neck(name="ippm", convolutions=())},
            24,
            "neck_levels",
            (3, 3, 512),
        ),
        ({"backbone": "cnn_compact", "neck": Neck(name="ippm")}, 24, "neck_conv_1", (3, 3, 64)),
        # It ends in a vector.
        ({"backbone": "cnn_slides"}, 48, "batch_normalization", (2, 2, 256)),
        *(
            pytest.param({"backbone": name}, *found, marks=pytest.mark.slow)
            for name, *found in (
                ("cnn_pisa", 78, "conv2d", (1, 1, 256)),  # so does this one
                ("cnn_pisa_l2", 94, "conv2d", (2, 2, 256)),  # and this one
                ("vgg16", 32, "block5_conv3", (2, 2, 512)),  # it ends in a pooled map
            )
        ),
    ],
)
def test_the_last_map_of_a_network(
    config: dict[str, Any], size: int, prefix: str, shape: tuple[int, ...]
) -> None:
    layer = last_feature_map(build_model(Model(**config), size, CLASSES))
    assert layer.name.startswith(prefix)
    assert layer.output.shape[1:] == shape


def test_a_network_without_a_map_is_refused() -> None:
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(2, name=LOGITS)(layers.Flatten()(inputs)))
    with pytest.raises(RunError) as error:
        class_maps(model, images(1, 8), np.array([0]))
    says(error.value, model.name, "convolutional backbone")


# Closed forms ----------------------------------------------------------------------------------


def test_with_average_pooling_it_is_the_class_activation_map(pooled: Any) -> None:
    pictures, codes = images(BATCH + 3), np.arange(BATCH + 3) % CLASSES
    maps = class_maps(pooled, pictures, codes)
    assert maps.dtype == np.float32
    assert maps.shape == (BATCH + 3, 6, 6)
    expected = cam(pooled, pictures, codes)
    assert (expected == 0).any()
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def corner_detector() -> Any:
    """Class 0 is how much red there is, class 1 how much blue; green is nothing to it."""
    inputs = keras.Input((16, 16, 3))
    x = layers.AveragePooling2D(4, name="blocks")(inputs)
    x = layers.Conv2D(2, 1, activation="relu", use_bias=False, name="colours")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, name=LOGITS)(x))
    detectors = np.array([[1, -1], [-1, -1], [-1, 1]], np.float32)
    model.get_layer("colours").set_weights([detectors[np.newaxis, np.newaxis]])
    model.get_layer(LOGITS).set_weights([np.array([[1, -1], [-1, 1]], np.float32)])
    return model


def test_a_network_that_looks_at_one_corner() -> None:
    picture = np.zeros((1, 16, 16, 3), np.float32)
    picture[:, :, :, 1] = 120
    picture[:, :4, :4] = (250, 0, 0)
    picture[:, 12:, 8:] = (0, 0, 200)
    red, blue = class_maps(corner_detector(), picture.repeat(2, axis=0), np.array([0, 1]))
    expected = np.zeros((4, 4))
    expected[0, 0] = 1
    np.testing.assert_allclose(red, expected, atol=1e-5)
    expected = np.zeros((4, 4))
    expected[3, 2:] = 1
    np.testing.assert_allclose(blue, expected, atol=1e-5)


def test_where_nothing_speaks_for_the_class_all_is_zero() -> None:
    picture = np.zeros((1, 16, 16, 3), np.float32)
    picture[:, :4, :4] = (250, 0, 0)
    (blue,) = class_maps(corner_detector(), picture, np.array([1]))
    assert not blue.any()


def test_maps_fill_their_range_and_know_no_unit() -> None:
    generator = np.random.default_rng(4)
    pictures = generator.uniform(0, 255, (200, 16, 16, 3))
    pictures *= generator.integers(0, 2, (200, 1, 1, 3))
    codes = generator.integers(0, 2, 200)
    model = corner_detector()
    maps = class_maps(model, pictures, codes)
    assert set(np.unique(maps.max(axis=(1, 2)))) == {0.0, 1.0}
    assert maps.min() == 0
    (kernel,) = model.get_layer(LOGITS).get_weights()
    model.get_layer(LOGITS).set_weights([kernel * 700])
    np.testing.assert_allclose(class_maps(model, pictures, codes), maps, atol=1e-4)


# Where a map is drawn --------------------------------------------------------------------------


def test_the_map_of_a_bright_spot_moves_with_the_spot() -> None:
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for _ in range(3):
        x = layers.Conv2D(1, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, layers.Dense(1, name=LOGITS)(x))
    for layer in model.layers:  # the class is how bright the image is
        layer.set_weights([np.full_like(w, w.ndim > 1) for w in layer.get_weights()])
    spots = np.zeros((16, 32, 32, 3), np.float32)
    columns = np.arange(8, 24)
    spots[np.arange(16), columns - 4, columns] = 255
    maps = class_maps(model, spots, np.zeros(16, int))
    assert maps.shape == (16, 4, 4)
    placed = np.stack([on_image(m, *centres(model, last_feature_map(model)), 32) for m in maps])
    pixels = np.arange(32)
    found_column = (placed.sum(axis=1) @ pixels) / placed.sum(axis=(1, 2))
    found_row = (placed.sum(axis=2) @ pixels) / placed.sum(axis=(1, 2))
    assert np.mean(found_column - columns) == pytest.approx(0, abs=0.8)  # a tenth of a place
    assert np.mean(found_row - columns + 4) == pytest.approx(0, abs=0.8)


def test_a_map_on_an_image_is_exact_at_the_centres_and_constant_beyond() -> None:
    map_ = np.array([[0, 1], [0.5, 0.25]], np.float32)
    placed = on_image(map_, np.array([2.0, 6.0]), np.array([1.0, 5.0]), 8)
    assert placed.shape == (8, 8)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed[np.ix_([2, 6], [1, 5])], map_)
    np.testing.assert_allclose(placed[[0, 7]][:, [0, 7]], map_)
    assert placed[2, 3] == pytest.approx(0.5)


# Networks as they come -------------------------------------------------------------------------


def test_a_second_output_changes_nothing(pooled: Any) -> None:
    two = small(targets=BOTH)
    two.get_layer(LOGITS).set_weights(pooled.get_layer(LOGITS).get_weights())
    pictures, codes = images(4), np.arange(4)
    np.testing.assert_allclose(
        class_maps(two, pictures, codes), class_maps(pooled, pictures, codes), atol=1e-5
    )


def test_a_frozen_network_that_was_saved(pooled: Any, tmp_path: Any) -> None:
    pictures, codes = images(4), np.arange(4)
    expected = class_maps(pooled, pictures, codes)
    pooled.trainable = False
    try:
        pooled.save(tmp_path / "model.keras")
    finally:
        pooled.trainable = True
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert not loaded.trainable_variables
    np.testing.assert_allclose(class_maps(loaded, pictures, codes), expected, atol=1e-5)


@pytest.mark.parametrize(
    "head", [Head(pooling="max", dense=(8,), dropout=0.5), Head(pooling="flatten")]
)
def test_every_kind_of_head_gives_maps(head: Head) -> None:
    maps = class_maps(small(head), images(CLASSES), np.arange(CLASSES))
    assert np.isfinite(maps).all()
    assert maps.max() == 1


def test_a_network_that_ends_in_a_vector() -> None:
    keras.utils.set_random_seed(1)
    model = build_model(Model(backbone="cnn_slides"), 64, CLASSES)
    maps = class_maps(model, images(2, 64), np.arange(2))
    assert maps.shape == (2, *last_feature_map(model).output.shape[1:3])
    assert maps.max() == 1


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    "policy",
    [pytest.param("mixed_bfloat16", marks=pytest.mark.bfloat16), "mixed_float16"],
    indirect=True,
)
def test_mixed_precision_changes_the_maps_little(policy: str, pooled: Any) -> None:
    mixed = small()
    assert mixed.get_layer("head_pool").compute_dtype == policy.removeprefix("mixed_")
    pictures, codes = images(CLASSES), np.arange(CLASSES)
    maps = class_maps(mixed, pictures, codes)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, class_maps(pooled, pictures, codes), atol=0.05)


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_small_gradients_survive_float16(policy: str) -> None:
    """Pooling over 32 × 32 places divides a weight of 1e-5 below what float16 can hold."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(1, 1, activation="relu", use_bias=False)(inputs)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, layers.Dense(1, dtype="float32", name=LOGITS)(x))
    model.layers[1].set_weights([np.full((1, 1, 3, 1), 1 / 3)])
    model.get_layer(LOGITS).set_weights([np.full((1, 1), 1e-5), np.zeros(1)])
    grey = images(1, 32).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    (found,) = class_maps(model, grey, np.array([0]))
    np.testing.assert_allclose(found, grey[0, ..., 0] / grey.max(), atol=0.01)
