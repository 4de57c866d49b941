"""Near duplicates that show one photograph in two poses, confirmed by image alignment.

Two candidates of `fer_bench.data.audit.poses` are aligned: the affine map between them is refined
from coarse to fine by Gauss-Newton steps (inverse compositional, with gain and bias; Baker and
Matthews (2004), Lucas-Kanade 20 years on, International Journal of Computer Vision 56). They show
one photograph when, where they overlap, they correlate by at least the floor of each of the
`LEVELS`, and their details by `DETAIL`. Corners that an augmentation has filled are outside the
other picture and do not count.

The last floors were chosen on all pairs of the 30,765 distinct faces of OpenCV Emotion. The
correlations of the pairs found there have two modes: different persons in similar poses, halving
with every 0.01 and nearly gone at 0.93, and copies from 0.93 on. Of 8,135 pairs from 0.95 on, the
112 with the fewest common details and all 357 up to 0.965 were inspected: one showed two persons,
with details at 0.5. In 5,392 other faces (muxspace, smooth and on dark backgrounds), whose persons
are known, 16 pairs of two persons correlate by 0.95 or more, and their details by 0.6 to 0.77; the
details of 99 % of augmented copies correlate by 0.85 or more.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fer_bench.data.audit.perceptual_hash import SIDE, SMALL, halved
from fer_bench.data.audit.poses import Candidates, FloatArray, Search, places
from fer_bench.device.machine import usable_cores


class Level(NamedTuple):
    """A size in pixels, the number of steps at it, and the least correlation to continue."""

    side: int
    steps: int
    floor: float


LEVELS = (Level(SMALL // 2, 4, 0.8), Level(SMALL, 3, 0.9), Level(SIDE, 2, 0.95))
# The least correlation of details at the last level, and the width of a detail in pixels: smooth
# faces on a dark background differ in nothing else.
DETAIL = 0.8
_WIDTH = 2.5
# Of the area of each of the two pictures.
LEAST_SHARED = 0.4

# Up to this number of pictures, each of a pair is aligned to the other: cheap, and finds more.
BOTH_WAYS = 2_000
# Numbers of pictures that a thread compares with all others, and of pairs that it aligns, at once.
_ROWS, _BATCH = 16, 512
# The longest step, in half sides: beyond it, a linear model of a picture is not valid.
_LONGEST_STEP = 0.15
# Relative to the mean curvature: regularises directions in which the picture does not change.
_STIFFNESS = 1e-5
_FLATTEST = 0.1

Progress = Callable[[int, int], None]
Pyramid = dict[int, NDArray[np.uint8]]
Indices = NDArray[np.int64]


def moved_pairs(
    thumbnails: NDArray[np.uint8],
    asked: NDArray[np.bool_] | None = None,
    on_progress: Progress | None = None,
) -> Indices:
    """The pairs that show one photograph, in any pose, brightness and contrast.

    Args:
        thumbnails: grey values, shape (n, SIDE, SIDE), none of them constant.
        asked: shape (n,); if given, only pairs of a picture that is asked about and one that is not
            are looked for.
        on_progress: called with (pictures compared, all pictures).

    Returns:
        Indices, shape (m, 2): the smaller one first, the rows sorted.
    """
    count = len(thumbnails)
    # Which picture of a pair is aligned to the other must not depend on the order of files. To take
    # the darker one finds more of the copies with black corners.
    order = np.array(sorted(range(count), key=lambda index: thumbnails[index].tobytes()), dtype=int)
    blocks = _blocks(count, None if asked is None else asked[order])
    found = [np.empty((0, 2), dtype=np.int64)]
    if blocks:
        found += [order[pairs] for pairs in _found(thumbnails[order], blocks, on_progress)]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def aligned(pyramid: Pyramid, candidates: Candidates) -> Indices:
    """The candidates that show one photograph, as pairs (m, 2).

    Args:
        pyramid: the pictures at the size of each level, (n, side, side).
        candidates: pairs of pictures, and roughly the map between them.
    """
    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(candidates.first), _BATCH):
        part = slice(start, start + _BATCH)
        first, second = candidates.first[part], candidates.second[part]
        maps = candidates.maps[part]
        for level in LEVELS:
            pictures = pyramid[level.side]
            maps, same = _refined(pictures[first], pictures[second], maps, level)
            first, second, maps = first[same], second[same], maps[same]
        kept.append(np.stack([first, second], axis=1))
    return np.concatenate(kept)


# Pairs of pictures ------------------------------------------------------------------------------


def _blocks(count: int, asked: NDArray[np.bool_] | None) -> list[tuple[Indices, Indices]]:
    """Which pictures are compared with which others, in blocks independent of the cores."""
    everything = np.arange(count)
    sweeps = [(everything, everything)]
    if asked is not None:
        inside, outside = np.flatnonzero(asked), np.flatnonzero(~asked)
        sweeps = [(inside, outside), (outside, inside)]
    blocks = []
    for rows, columns in sweeps:
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            first = 0 if count <= BOTH_WAYS else np.searchsorted(columns, block[0])
            blocks.append((block, columns[first:]))
    return blocks


def _found(
    thumbnails: NDArray[np.uint8],
    blocks: list[tuple[Indices, Indices]],
    on_progress: Progress | None,
) -> Iterator[Indices]:
    """The pairs, block by block."""
    half = halved(thumbnails)
    pyramid = {SIDE: thumbnails, SMALL: half, SMALL // 2: halved(half)}
    done = 0
    # One block per core is faster than every matrix product on all cores.
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores().number) as executor:
        search = Search(half)
        pairs = executor.map(lambda block: aligned(pyramid, search.near(*block)), blocks)
        try:
            for (rows, _), found in zip(blocks, pairs, strict=True):
                yield found
                done += len(rows)
                if on_progress:
                    on_progress(done, len(thumbnails))
        finally:
            executor.shutdown(cancel_futures=True)


# Aligning: pictures of m pairs as (m, pixels), grey values ---------------------------------------


def _refined(
    first: NDArray[np.uint8], second: NDArray[np.uint8], maps: FloatArray, level: Level
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Better maps from the second pictures to the first ones, and which may be copies."""
    source, target = (
        pictures.reshape(-1, level.side**2).astype(np.float32) for pictures in (first, second)
    )
    slopes = _slopes(target, level.side)
    for _ in range(level.steps):
        maps = _step(maps, slopes, *_sampled(source, maps, level.side))
    values, inside = _sampled(source, maps, level.side)
    shared = inside.mean(axis=1)
    of_source = shared * np.abs(np.linalg.det(maps[:, :, :2]))
    same = (np.minimum(shared, of_source) >= LEAST_SHARED) & (
        _correlation(values, target, inside) >= level.floor
    )
    if level == LEVELS[-1]:
        fine, other = (_details(grey, inside, level.side) for grey in (values, target))
        same &= _correlation(fine, other, inside) >= DETAIL
    return maps, same


def _slopes(target: FloatArray, side: int) -> FloatArray:
    """Derivatives of pictures by the six numbers of a map, by gain and bias: (m, 8, pixels)."""
    y, x = places(side)
    squares = target.reshape(-1, side, side) * np.float32(side / 2)
    down, right = (np.gradient(squares, axis=axis).reshape(target.shape) for axis in (1, 2))
    slopes = (down * y, down * x, down, right * y, right * x, right, target, np.ones_like(target))
    return np.stack(slopes, axis=1)


def _sampled(source: FloatArray, maps: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Pictures sampled through the maps, bilinear, and 1 where both of a pair overlap, else 0."""
    seen = places(side)
    wanted = maps[:, :, :2] @ seen + maps[:, :, 2:]
    # The outermost pixels are mixed with the fill of a copy's corners.
    inside = (np.maximum(np.abs(wanted), np.abs(seen)) < (side - 2) / side).all(axis=1)
    place = np.clip(wanted * (side / 2) + (side - 1) / 2, 0, side - 1)
    corner = np.minimum(place.astype(np.int32), side - 2)
    down, right = (place - corner).transpose(1, 0, 2)
    at = corner[:, 0] * side + corner[:, 1] + np.arange(len(source))[:, None] * side**2
    flat = source.ravel()
    upper = flat[at] + right * (flat[at + 1] - flat[at])
    lower = flat[at + side] + right * (flat[at + side + 1] - flat[at + side])
    return upper + down * (lower - upper), inside.astype(np.float32)


def _step(
    maps: FloatArray, slopes: FloatArray, values: FloatArray, inside: FloatArray
) -> FloatArray:
    """The maps after one Gauss-Newton step towards `values` that equal the target up to light.

    `values` ≈ gain · target(place + change) + bias, linear in gain · change, gain and bias. Moving
    the target by `change` is moving the source by its inverse.
    """
    weighted = slopes * inside[:, None]
    normal = (weighted @ slopes.transpose(0, 2, 1)).astype(np.float64)
    curvature = np.trace(normal[:, :6, :6], axis1=1, axis2=2) / 6
    stiffness = np.array([1.0] * 6 + [0.0] * 2)
    normal += np.eye(8) * (1 + _STIFFNESS * curvature[:, None, None] * stiffness)
    solution = np.linalg.solve(normal, weighted @ values[:, :, None])[:, :, 0]
    gain = np.maximum(solution[:, 6:7], _FLATTEST)
    change = np.clip(solution[:, :6] / gain, -_LONGEST_STEP, _LONGEST_STEP).reshape(-1, 2, 3)
    linear = maps[:, :, :2] @ np.linalg.inv(np.eye(2) + change[:, :, :2])
    offset = maps[:, :, 2:] - linear @ change[:, :, 2:]
    moved: FloatArray = np.concatenate([linear, offset], axis=2).astype(np.float32)
    return moved


def _details(pictures: FloatArray, inside: FloatArray, side: int) -> FloatArray:
    """The difference between pictures and their blur, computed where `inside` is 1."""
    apart = np.subtract.outer(np.arange(side), np.arange(side))
    blur = np.exp(-(apart**2) / (2 * _WIDTH**2)).astype(np.float32)
    squares = [values.reshape(-1, side, side) for values in (pictures * inside, inside)]
    coarse, weight = (blur @ square @ blur for square in squares)
    blurred = (coarse / np.maximum(weight, 1e-6)).reshape(pictures.shape)
    return (pictures - blurred).astype(np.float32)


def _correlation(one: FloatArray, other: FloatArray, inside: FloatArray) -> FloatArray:
    """Pearson's correlation in [-1, 1] where both are known; 0 if one of them is constant."""
    known = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    one, other = (
        (values - (values * inside).sum(axis=1, keepdims=True) / known) * inside
        for values in (one, other)
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    correlation: FloatArray = (one * other).sum(axis=1) / np.maximum(lengths, 1e-3)
    return correlation
