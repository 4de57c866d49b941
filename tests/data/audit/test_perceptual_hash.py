import io
from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from fer_bench.data.audit.perceptual_hash import (
    DISTANCE,
    SIDE,
    SMALL,
    candidates,
    close_pairs,
    halved,
    near_pairs,
    perceptual_hashes,
)
from fer_bench.data.datasets.drawn.face import draw_face

Change = Callable[[Image.Image], Image.Image]
FACES = [Image.fromarray(draw_face(3, index, 64).image).convert("L") for index in range(40)]


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


CHANGES: dict[str, Change] = {
    "compressed": jpeg,
    "mirrored": ImageOps.mirror,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "smaller": lambda image: image.resize((32, 32)),
    "larger": lambda image: image.resize((150, 150)),
    "mirrored and compressed": lambda image: jpeg(ImageOps.mirror(image)),
}


def thumbnails(*images: Image.Image) -> NDArray[np.uint8]:
    small = [image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in small])


def pictures(*images: Image.Image) -> NDArray[np.uint8]:
    return halved(thumbnails(*images))


def as_set(pairs: NDArray[np.int64]) -> set[tuple[int, int]]:
    rows = [(int(first), int(second)) for first, second in pairs]
    assert len(set(rows)) == len(rows)
    return set(rows)


def compared_each_with_each(hashes: NDArray[np.uint64], distance: int) -> set[tuple[int, int]]:
    return {
        (one, other)
        for one, other in combinations(range(len(hashes)), 2)
        if int(hashes[one] ^ hashes[other]).bit_count() <= distance
    }


# A few centres and a few bits changed, so that every distance occurs, 0 included.
clusters = st.lists(
    st.tuples(st.integers(0, 2), st.sets(st.integers(0, 63), max_size=9)), max_size=40
)
centres = st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3)


@pytest.mark.slow
@settings(max_examples=25)
@given(centres, clusters, st.integers(0, 8))
def test_the_search_finds_what_comparing_each_with_each_does(
    middle: list[int], members: list[tuple[int, set[int]]], distance: int
) -> None:
    # Distances far below the default need tables of many bands, which are many.
    distance = max(distance, 5)
    values = [middle[centre] ^ sum(2**bit for bit in bits) for centre, bits in members]
    hashes = np.array(values, dtype=np.uint64)
    found = as_set(close_pairs(hashes, distance))
    assert found == compared_each_with_each(hashes, distance)
    assert all(one < other for one, other in found)


def test_every_distance_up_to_the_limit_is_found_and_none_above() -> None:
    generator = np.random.default_rng(0)
    for changed in range(13):
        base = generator.integers(0, 2**64, 50, dtype=np.uint64)
        flips = [generator.choice(64, changed, replace=False) for _ in base]
        masks = np.array([sum(2 ** int(bit) for bit in bits) for bits in flips], dtype=np.uint64)
        found = as_set(close_pairs(np.concatenate([base, base ^ masks])))
        expected = {(index, index + 50) for index in range(50)} if changed <= DISTANCE else set()
        assert found == expected


def test_many_equal_hashes_give_each_pair_once() -> None:
    hashes = np.array([5] * 300 + [4] * 200 + [2**63], dtype=np.uint64)
    found = as_set(close_pairs(hashes))
    assert len(found) == comb(501, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert close_pairs(np.zeros(count, dtype=np.uint64)).shape == (0, 2)
    assert near_pairs(thumbnails(*FACES[:1])[:count]).shape == (0, 2)


def candidates_per_hash(count: int) -> float:
    hashes = np.random.default_rng(1).integers(0, 2**64, count, dtype=np.uint64)
    tables = list(combinations(range(12), 12 - DISTANCE))
    some = tables[::5]
    pairs = sum(len(first) for kept in some for first, _ in candidates(hashes, kept))
    return pairs / count * len(tables) / len(some)


def test_the_search_is_not_quadratic() -> None:
    # Comparing each with each would be 5,000 and 10,000 candidates a hash.
    assert 0 < candidates_per_hash(10_000) < 3
    assert 0 < candidates_per_hash(20_000) < 6


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str) -> None:
    copies = [CHANGES[change](face) for face in FACES]
    found = as_set(near_pairs(thumbnails(*FACES, *copies)))
    assert found == {(index, index + len(FACES)) for index in range(len(FACES))}


def test_most_slightly_cropped_copies_are_found() -> None:
    copies = [ImageOps.crop(face, 1) for face in FACES]
    found = as_set(near_pairs(thumbnails(*FACES, *copies)))
    expected = {(index, index + len(FACES)) for index in range(len(FACES))}
    assert found <= expected
    assert len(found) > 0.8 * len(FACES)


def test_different_faces_are_no_duplicates() -> None:
    assert len(near_pairs(thumbnails(*FACES))) == 0


def test_a_symmetric_picture_is_not_its_own_duplicate() -> None:
    face = np.asarray(FACES[0])
    symmetric = Image.fromarray(np.hstack([face, face[:, ::-1]]))
    assert len(near_pairs(thumbnails(symmetric))) == 0
    assert as_set(near_pairs(thumbnails(symmetric, symmetric))) == {(0, 1)}


def test_half_the_side_is_what_pillow_makes_of_it() -> None:
    made = pictures(*FACES)
    sizes = (SMALL, SMALL)
    for face, small in zip(thumbnails(*FACES), made, strict=True):
        expected = Image.fromarray(face).resize(sizes, Image.Resampling.BILINEAR)
        assert np.array_equal(small, np.asarray(expected))


def test_hashes_of_mirror_images_are_exact() -> None:
    small = pictures(*FACES)
    plain, mirrored = perceptual_hashes(small)
    assert np.array_equal(perceptual_hashes(small[:, :, ::-1]), [mirrored, plain])
    assert not np.array_equal(plain, mirrored)


def test_brightness_and_contrast_do_not_matter_to_the_hash() -> None:
    small = pictures(*FACES) // 2
    assert np.array_equal(perceptual_hashes(small), perceptual_hashes(small + 100))
    assert np.array_equal(perceptual_hashes(small), perceptual_hashes(small * 2))


def test_a_constant_picture_has_the_hash_0() -> None:
    constant = np.full((3, SMALL, SMALL), 77, dtype=np.uint8)
    assert np.array_equal(perceptual_hashes(constant), np.zeros((2, 3)))


def test_the_hash_is_balanced() -> None:
    bits = [int(value).bit_count() for value in perceptual_hashes(pictures(*FACES))[0]]
    assert 24 < np.mean(bits) < 40
