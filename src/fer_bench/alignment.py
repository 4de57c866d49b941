"""Which pictures show one photograph, proven by laying one upon the other.

The candidates of `fer_bench.poses` are aligned: the affine map between the two is refined from
coarse to fine by Gauss-Newton steps (inverse compositional, with gain and bias; Baker and Matthews
(2004), Lucas-Kanade 20 years on, International Journal of Computer Vision 56). Two pictures show
one photograph when what they share then correlates by the floor of the last of the `LEVELS`.

What an augmentation filled its corners with lies outside the other picture, and does not count.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fer_bench.machine import usable_cores
from fer_bench.poses import Candidates, FloatArray, Search, places

# The side of the thumbnails in pixels.
SIDE = 48


class Level(NamedTuple):
    """A size in pixels, how many steps are made at it, and what must correlate to go on."""

    side: int
    steps: int
    floor: float


LEVELS = (Level(12, 4, 0.8), Level(24, 3, 0.9), Level(48, 2, 0.95))
# Of the area of a picture.
LEAST_SHARED = 0.5

_ROWS = 16
_BATCH = 512
# Half sides that one step moves a place at most: beyond, the linear model is no guide.
_LONGEST_STEP = 0.15
_STIFFNESS = 1e-5

Pyramid = dict[int, NDArray[np.uint8]]


def moved_pairs(
    thumbnails: NDArray[np.uint8],
    asked: NDArray[np.bool_] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """The pictures that show one photograph, in whatever pose, brightness and contrast.

    Args:
        thumbnails: grey values, shape (n, SIDE, SIDE), none of them constant.
        asked: shape (n,); where given, pairs of a picture that is asked about and one that is not
            are looked for, and no others.
        on_progress: called with (pictures done, pictures in all).

    Returns:
        Indices, shape (m, 2): the smaller one first, the rows sorted.
    """
    count = len(thumbnails)
    found = [np.empty((0, 2), dtype=np.int64)]
    if count > 1:
        # Of a pair, one is laid upon the other: which one must not depend on their order.
        order = np.array(sorted(range(count), key=lambda index: thumbnails[index].tobytes()))
        sorted_asked = None if asked is None else asked[order]
        for pairs in _found(thumbnails[order], sorted_asked, on_progress):
            found.append(order[pairs])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def halved(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (n, side, side) at half their side, by a triangle filter as Pillow's BILINEAR."""
    side = pictures.shape[1]
    apart = np.abs(np.subtract.outer(2 * np.arange(side // 2) + 0.5, np.arange(side)))
    weights = np.maximum(2 - apart, 0)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    small = np.empty((len(pictures), side // 2, side // 2), dtype=np.uint8)
    for start in range(0, len(pictures), _BATCH):
        part = slice(start, start + _BATCH)
        small[part] = np.rint(weights @ pictures[part].astype(np.float32) @ weights.T)
    return small


def _found(
    thumbnails: NDArray[np.uint8],
    asked: NDArray[np.bool_] | None,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[NDArray[np.int64]]:
    """Pairs of indices, by blocks: each is as large whatever the number of cores."""
    half = halved(thumbnails)
    pyramid = {12: halved(half), 24: half, 48: thumbnails}
    everything = np.arange(len(thumbnails))
    sweeps = [(everything, everything)]
    if asked is not None:
        inside, outside = np.flatnonzero(asked), np.flatnonzero(~asked)
        sweeps = [(inside, outside), (outside, inside)]
    done = 0
    # Threads of our own, one core each, compare more than those of the library for matrices.
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores().number) as executor:
        search = Search(half)
        blocks = [
            (rows[start : start + _ROWS], columns)
            for rows, columns in sweeps
            for start in range(0, len(rows), _ROWS)
        ]
        try:
            for (rows, _), pairs in zip(
                blocks,
                executor.map(lambda block: aligned(pyramid, search.near(*block)), blocks),
                strict=True,
            ):
                done += len(rows)
                if on_progress:
                    on_progress(done, len(thumbnails))
                yield pairs
        finally:
            executor.shutdown(cancel_futures=True)


def aligned(pyramid: Pyramid, candidates: Candidates) -> NDArray[np.int64]:
    """Those candidates that correlate when aligned, as pairs (m, 2)."""
    first, second, maps = candidates
    for level in LEVELS:
        pictures = pyramid[level.side].reshape(len(pyramid[level.side]), -1)
        parts = [
            _align(pictures, *(array[start : start + _BATCH] for array in (first, second, maps)), level.steps)
            for start in range(0, len(first), _BATCH)
        ]
        if not parts:
            break
        maps, correlation, shared = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        good = (correlation >= level.floor) & (shared >= LEAST_SHARED)
        first, second, maps = first[good], second[good], maps[good]
    return np.stack([first, second], axis=1)


def _align(
    pictures: NDArray[np.uint8],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    maps: FloatArray,
    steps: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Better maps from the second picture to the first, their correlation, and the shared part."""
    source = pictures[first].astype(np.float32)
    target = pictures[second].astype(np.float32)
    slopes = _slopes(target)
    for _ in range(steps):
        values, inside = _sampled(source, maps)
        maps = _step(maps, slopes, values, inside)
    values, inside = _sampled(source, maps)
    return maps, _correlation(values, target, inside), inside.mean(axis=1)


def _slopes(target: FloatArray) -> FloatArray:
    """How pictures (m, pixels) change with the six numbers of a map, gain and bias: (m, 8, pixels)."""
    side = int(np.sqrt(target.shape[1]))
    y, x = places(side)
    down, right = np.gradient(target.reshape(-1, side, side) * np.float32(side / 2), axis=(1, 2))
    down, right = down.reshape(target.shape), right.reshape(target.shape)
    slopes = (down * y, down * x, down, right * y, right * x, right, target, np.ones_like(target))
    return np.stack(slopes, axis=1)


def _sampled(source: FloatArray, maps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pictures (m, pixels) as the maps see them, bilinear, and 1 where they are known, else 0."""
    side = int(np.sqrt(source.shape[1]))
    wanted = maps[:, :, :2] @ places(side) + maps[:, :, 2:]
    inside = (np.abs(wanted) <= (side - 1) / side).all(axis=1)
    place = np.clip(wanted * (side / 2) + (side - 1) / 2, 0, side - 1)
    corner = np.minimum(place.astype(np.int32), side - 2)
    down, right = (place - corner).transpose(1, 0, 2)
    start = corner[:, 0] * side + corner[:, 1] + np.arange(len(source))[:, None] * source.shape[1]
    flat = source.ravel()
    upper = flat[start] + right * (flat[start + 1] - flat[start])
    lower = flat[start + side] + right * (flat[start + side + 1] - flat[start + side])
    return upper + down * (lower - upper), inside.astype(np.float32)


def _step(
    maps: FloatArray, slopes: FloatArray, values: FloatArray, inside: FloatArray
) -> FloatArray:
    """The maps after one Gauss-Newton step towards equal `values`, but for gain and bias."""
    weighted = slopes * inside[:, None]
    normal = weighted @ slopes.transpose(0, 2, 1)
    # A picture without structure in some direction does not move that way.
    stiffness = _STIFFNESS * np.trace(normal[:, :6, :6], axis1=1, axis2=2)
    normal += stiffness[:, None, None] * np.diag([1.0] * 6 + [0.0] * 2).astype(np.float32)
    normal += np.eye(8, dtype=np.float32) * 1e-6
    solution = np.linalg.solve(normal, weighted @ values[:, :, None])[:, :, 0]
    gain = solution[:, 6:7]
    gain = np.where(np.abs(gain) < 0.1, np.float32(0.1), gain)
    change = np.clip(solution[:, :6] / gain, -_LONGEST_STEP, _LONGEST_STEP).reshape(-1, 2, 3)
    # The target would have to be warped by `change`; its inverse warps the source instead.
    turned = np.linalg.inv(np.eye(2, dtype=np.float32) + change[:, :, :2])
    linear = maps[:, :, :2] @ turned
    moved = np.concatenate([linear, maps[:, :, 2:] - linear @ change[:, :, 2:]], axis=2)
    return np.clip(moved, -2, 2).astype(np.float32)


def _correlation(one: FloatArray, other: FloatArray, inside: FloatArray) -> FloatArray:
    """Pearson's, of pictures (m, pixels) where both are known."""
    known = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    one = (one - (one * inside).sum(axis=1, keepdims=True) / known) * inside
    other = (other - (other * inside).sum(axis=1, keepdims=True) / known) * inside
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    correlation: FloatArray = (one * other).sum(axis=1) / np.maximum(lengths, 1e-6)
    return correlation
