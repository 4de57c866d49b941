"""Copies in another pose are found, and nothing else is."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import affine_transform

from fer_bench.data.audit.alignment import moved_pairs
from fer_bench.data.audit.perceptual_hash import SIDE
from fer_bench.data.datasets.drawn.face import draw_face

FACES = [Image.fromarray(draw_face(3, index, 64).image).convert("L") for index in range(24)]
FILLS = ("constant", "nearest", "reflect")

Linear = tuple[tuple[float, float], tuple[float, float]]


def thumbnails(images: list[Image.Image]) -> NDArray[np.uint8]:
    small = [image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in small])


def moved(
    image: Image.Image, linear: Linear, shift: tuple[float, float] = (0, 0), fill: str = "constant"
) -> Image.Image:
    """As an augmentation does it; `shift` in pixels."""
    pixels, matrix = np.asarray(image).astype(np.float32), np.array(linear)
    centre = (np.array(pixels.shape) - 1) / 2
    offset = centre - matrix @ centre + shift
    values = affine_transform(pixels, matrix, offset, order=1, mode=fill)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def turned(degrees: float) -> Linear:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (cos, sin), (-sin, cos)


def zoomed(factor: float) -> Linear:
    return (1 / factor, 0), (0, 1 / factor)


UPRIGHT = zoomed(1)
POSES: dict[str, tuple[Linear, tuple[float, float]]] = {
    **{f"turned by {angle} degrees": (turned(angle), (0, 0)) for angle in (5, -10, 15, -20, 40)},
    **{f"zoomed by {factor:.2f}": (zoomed(factor), (0, 0)) for factor in (1.1, 1.2, 1 / 1.2)},
    "shifted by 5 %": (UPRIGHT, (3.2, 0)),
    "shifted by 10 %": (UPRIGHT, (-6.4, 6.4)),
    "sheared": (((1, 0), (0.2, 1)), (0, 0)),
    "turned, enlarged and shifted": (((0.85, 0.15), (-0.15, 0.85)), (3, -2)),
}


def found(images: list[Image.Image]) -> set[tuple[int, int]]:
    pairs = moved_pairs(thumbnails(images))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    return {(int(first), int(second)) for first, second in pairs}


def each_with_its_copy(count: int) -> set[tuple[int, int]]:
    return {(index, index + count) for index in range(count)}


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS)
def test_copies_in_other_poses_are_found(fill: str) -> None:
    """And copies of copies, but nothing of two faces."""
    faces = FACES[:5]
    copies = [moved(face, *pose, fill) for pose in POSES.values() for face in faces]
    pairs = found([*faces, *copies])
    assert all(one % len(faces) == other % len(faces) for one, other in pairs)
    for number, pose in enumerate(POSES, start=1):
        expected = {(index, number * len(faces) + index) for index in range(len(faces))}
        assert len(expected & pairs) >= len(faces) - 1, pose


@pytest.mark.parametrize(
    "change",
    [
        ImageOps.mirror,
        *(
            pytest.param(change, marks=pytest.mark.slow)
            for change in (
                lambda image: ImageOps.crop(image, 5),
                lambda image: ImageEnhance.Brightness(image).enhance(1.3),
                lambda image: ImageEnhance.Contrast(image).enhance(0.6),
                lambda image: ImageOps.mirror(moved(image, turned(12))),
                lambda image: ImageEnhance.Brightness(moved(image, zoomed(1.15))).enhance(0.7),
            )
        ),
    ],
)
def test_a_copy_that_was_changed_otherwise_is_found(
    change: Callable[[Image.Image], Image.Image],
) -> None:
    copies = [change(face) for face in FACES[:8]]
    assert found([*FACES[:8], *copies]) == each_with_its_copy(8)


def test_different_faces_are_no_copies() -> None:
    assert found(FACES) == set()


def test_a_quarter_turn_and_an_upside_down_copy_are_not_looked_for() -> None:
    assert found([FACES[0], FACES[0].rotate(90), FACES[1], ImageOps.flip(FACES[1])]) == set()


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.permutations(range(9)))
def test_the_order_of_the_pictures_does_not_matter(order: list[int]) -> None:
    images = [*FACES[:4], *(moved(face, turned(14)) for face in FACES[:2])]
    images += [ImageOps.mirror(face) for face in FACES[:3]]
    expected = found(images)
    among = [images[index] for index in order]
    renamed = {tuple(sorted((order[one], order[other]))) for one, other in found(among)}
    assert renamed == expected
    assert {(0, 4), (1, 5), (0, 6), (1, 7), (2, 8), (4, 6), (5, 7)} == expected


@pytest.mark.slow
def test_only_pairs_of_one_that_is_asked_about_and_one_that_is_not() -> None:
    images = [FACES[0], moved(FACES[0], turned(9)), moved(FACES[0], turned(-9)), FACES[1]]
    assert found(images) == {(0, 1), (0, 2), (1, 2)}
    asked = np.array([True, True, False, False])
    for question in (asked, ~asked):
        pairs = moved_pairs(thumbnails(images), question)
        assert pairs.tolist() == [[0, 2], [1, 2]]
    for nobody in (np.zeros(4, dtype=bool), np.ones(4, dtype=bool)):
        assert moved_pairs(thumbnails(images), nobody).shape == (0, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert moved_pairs(thumbnails(FACES[:1])[:count]).shape == (0, 2)


def test_progress_ends_at_all() -> None:
    calls: list[tuple[int, int]] = []
    moved_pairs(thumbnails(FACES), on_progress=lambda done, total: calls.append((done, total)))
    assert [total for _, total in calls] == [24] * len(calls)
    assert [done for done, _ in calls] == [16, 24]


def test_hard_edges_and_flat_parts_are_no_proof() -> None:
    """A bright and a dark half, stripes, a spot: aligned, they are alike where they overlap."""
    flat = np.full((SIDE, SIDE), 40, dtype=np.uint8)
    half, stripes, spot = flat.copy(), flat.copy(), flat.copy()
    half[:, SIDE // 2 :] = 200
    stripes[::4] = 200
    spot[20:24, 20:24] = 200
    pairs = moved_pairs(np.stack([half, stripes, spot]))
    assert pairs.shape == (0, 2)


def test_pictures_without_anything_in_the_band_are_no_copies() -> None:
    """Too fine to be seen in a thumbnail: what is left is grey."""
    grey = np.full((3, SIDE, SIDE), 128, dtype=np.uint8)
    grey[1] += 1
    assert moved_pairs(grey).shape == (0, 2)
