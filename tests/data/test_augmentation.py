"""Random changes of images: where pixels go, and that they stay within their limits."""

from typing import Any

import numpy as np
import tensorflow as tf
from batches import decoded
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_bench.config.model import Augment
from fer_bench.data import augmentation, decoding

EVERYTHING = Augment(
    flip=True, rotation=0.1, zoom=0.2, shear=0.1, shift=0.1, brightness=0.2, contrast=0.2
)


def warped(image: Any, augment: Augment, maps: Any) -> Any:
    return augmentation.warp(tf.cast(image, tf.float32), maps, augment.fill).numpy()


def test_no_change_is_the_identity(training: decoding.Split) -> None:
    maps = augmentation.draw_warps(4, Augment(), 24, np.random.default_rng(0))
    images = decoded(training)[:4]
    np.testing.assert_array_equal(
        warped(images, Augment(rotation=0.1), maps), images.astype(np.float32)
    )


def test_flip_mirrors_half_of_the_images(training: decoding.Split) -> None:
    augment = Augment(flip=True)
    maps = augmentation.draw_warps(60, augment, 24, np.random.default_rng(0))
    image = decoded(training)[:1]
    results = warped(np.repeat(image, 60, axis=0), augment, maps)
    mirrored = [np.array_equal(result, image[0, :, ::-1]) for result in results]
    unchanged = [np.array_equal(result, image[0]) for result in results]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert 15 < sum(mirrored) < 45


def test_rotation_turns_around_the_centre() -> None:
    image = np.zeros((1, 25, 25, 1), np.uint8)
    image[0, 12, 20] = 255
    maps = np.array([[0, -1, 24, 1, 0, 0, 0, 0]], np.float32)  # a quarter turn, by hand
    expected = warped(image, Augment(rotation=0.5), maps)

    class Quarter:
        def uniform(self, *_: Any, size: tuple[int, int]) -> Any:
            draws = np.zeros(size)
            draws[:, 0] = 0.5
            return draws

    drawn: Any = augmentation.draw_warps(1, Augment(rotation=0.5), 25, Quarter())  # type: ignore[arg-type]
    np.testing.assert_allclose(warped(image, Augment(rotation=0.5), drawn), expected, atol=0.1)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_warps_stay_within_their_limits(seed: int) -> None:
    augment = Augment(flip=True, rotation=0.1, zoom=0.2, shift=0.1)
    maps = augmentation.draw_warps(50, augment, 48, np.random.default_rng(seed))
    linear = maps[:, [0, 1, 3, 4]].reshape(-1, 2, 2).astype(float)
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    assert ((scale >= 0.8 - 1e-6) & (scale <= 1.2 + 1e-6)).all()
    centre = np.array([23.5, 23.5, 1])
    moved = maps[:, :6].reshape(-1, 2, 3) @ centre - centre[:2]
    assert np.abs(moved).max() <= 4.8 + 1e-4


def test_contrast_and_brightness_stay_in_range(training: decoding.Split) -> None:
    generator = np.random.default_rng(1)
    intensities = augmentation.draw_intensities(30, EVERYTHING, generator)
    images = tf.cast(decoded(training)[:30], tf.float32)
    changed = augmentation.change_intensities(images, intensities, EVERYTHING).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (np.abs(changed - images.numpy()).mean(axis=(1, 2, 3)) > 0).all()


affine = st.lists(st.floats(-2, 2, width=32), min_size=6, max_size=6)


@given(affine, affine, st.tuples(st.floats(0, 50), st.floats(0, 50)))
def test_composed_maps_do_one_after_the_other(
    first: list[float], then: list[float], point: tuple[float, float]
) -> None:
    maps = [np.array([[*values, 0, 0]], np.float32) for values in (first, then)]

    def apply(maps: Any, point: Any) -> Any:
        return maps[0, :6].astype(np.float64).reshape(2, 3) @ [*point, 1]

    expected = apply(maps[0], apply(maps[1], point))
    np.testing.assert_allclose(apply(augmentation.compose(*maps), point), expected, atol=1e-3)
