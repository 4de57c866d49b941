"""What a model is shown of each image at test time."""

import numpy as np
import pytest

from fer_bench.evaluation.test_time_views import Views, native_size, windows

SIZE = 14


def shown(views: Views) -> list[np.ndarray]:
    side = native_size(views, SIZE)
    images = np.arange(2 * side * side * 3, dtype=np.float32).reshape(2, side, side, 3)
    return [images, *(np.asarray(window(images)) for window in windows(views, SIZE))]


def test_one_view_is_the_image_itself() -> None:
    images, *views = shown("none")
    assert len(views) == 1
    np.testing.assert_array_equal(views[0], images)


def test_flip_shows_both_ways() -> None:
    images, one, other = shown("flip")
    np.testing.assert_array_equal(one, images)
    np.testing.assert_array_equal(other, images[:, :, ::-1])


def test_ten_crop_shows_corners_and_centre_both_ways() -> None:
    images, *views = shown("ten_crop")
    assert images.shape[1] == 16
    assert [view.shape for view in views] == [(2, SIZE, SIZE, 3)] * 10
    starts = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    for (top, left), plain, mirrored in zip(starts, views[::2], views[1::2], strict=True):
        expected = images[:, top : top + SIZE, left : left + SIZE]
        np.testing.assert_array_equal(plain, expected)
        np.testing.assert_array_equal(mirrored, expected[:, :, ::-1])


@pytest.mark.parametrize("size", [24, 48, 96, 224])
def test_a_crop_is_seven_eighths(size: int) -> None:
    assert native_size("ten_crop", size) == pytest.approx(size * 8 / 7, abs=0.5)
    assert native_size("flip", size) == size
