"""Near duplicates that show one photograph, edited or mirrored but not moved.

They are found without comparing every pair. A picture is reduced to a small grey one, and that to a
perceptual hash: the signs of its 64 lowest frequencies. Two pictures are near duplicates when their
hashes differ in at most `DISTANCE` bits and they correlate by at least `CORRELATION`, one of them
mirrored or not. `fer_bench.data.audit.alignment` finds moved ones, but misses some of these: after
a watermark or a change of contrast, the correlation may be below its limits.

The two limits were chosen on the 32,298 faces of OpenCV Emotion without exact duplicates: all pairs
were compared, and random ones inspected by eye. Within the distance, all of 96 pairs that correlate
by 0.93 to 0.95 showed one photograph twice: cropped or compressed again, with another contrast, or
with a watermark; from 0.92 to 0.93, about 4 of 96 showed two persons. All 26 mirrored pairs from
0.93 on were duplicates, 11 of the 21 from 0.90 on were not. Beyond the distance, 4 of 48 pairs that
correlate by 0.93 to 0.94 showed two persons; the limit misses one in six duplicates there. In 5,392
other faces (muxspace, 128 pixels), 8 pairs are found, of which 4 are different persons with similar
pose and light.

Of 1,500 faces, each with an edited copy, these shares were found: all when compressed to JPEG
quality 20 or mirrored, 98 % when 30 % brighter (which clips), 94 % when cropped by 1 of 48 pixels
at two edges, 17 % when cropped by 2.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

# Sides in pixels of a thumbnail, and of the smaller picture that is hashed.
SIDE = 48
SMALL = SIDE // 2
DISTANCE = 8
CORRELATION = 0.93

_CHUNK = 4096
# Hashes that differ in 8 bits agree in at least 4 of 12 bands.
_BANDS = 12
_EDGES = [64 * band // _BANDS for band in range(_BANDS + 1)]
_BAND_MASKS = [np.uint64(2**end - 2**start) for start, end in pairwise(_EDGES)]
# The lowest frequencies without the mean.
_VERTICAL, _HORIZONTAL = np.array(
    sorted(np.ndindex(SMALL, SMALL), key=lambda frequency: (sum(frequency), frequency))[1:65]
).T
# Mirroring inverts the waves that are odd along a row.
_MIRROR_SIGNS = np.where(_HORIZONTAL % 2, -1, 1).astype(np.float32)
# For unit vectors. A symmetric picture has waves of amplitude 0, whose sign would be random.
_NO_AMPLITUDE = 1e-5


def halved(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (n, side, side) at half their size, by a triangle filter like Pillow's BILINEAR."""
    side = pictures.shape[1]
    apart = np.abs(np.subtract.outer(2 * np.arange(side // 2) + 0.5, np.arange(side)))
    weights = np.maximum(2 - apart, 0)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    small = np.empty((len(pictures), side // 2, side // 2), dtype=np.uint8)
    for start in range(0, len(pictures), _CHUNK):
        part = slice(start, start + _CHUNK)
        # Rounded after each axis, like Pillow.
        narrow = np.floor(pictures[part].astype(np.float32) @ weights.T + 0.5)
        small[part] = np.floor(weights @ narrow + 0.5)
    return small


def perceptual_hashes(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes of pictures (n, SMALL, SMALL) and of their mirror images, shape (2, n).

    They are independent of brightness and contrast; a constant picture has the hash 0.
    """
    hashes = np.empty((2, len(pictures)), dtype=np.uint64)
    for start in range(0, len(pictures), _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors = _normalised(pictures[part]).reshape(-1, SMALL, SMALL)
        waves = dctn(vectors, axes=(1, 2), norm="ortho")[:, _VERTICAL, _HORIZONTAL]
        hashes[0, part] = _packed(waves > _NO_AMPLITUDE)
        hashes[1, part] = _packed(waves * _MIRROR_SIGNS > _NO_AMPLITUDE)
    return hashes


def near_pairs(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The near duplicates among thumbnails (n, SIDE, SIDE), none of them constant.

    Returns:
        Indices, shape (m, 2): the smaller one first, the rows sorted.
    """
    count = len(thumbnails)
    pictures = halved(thumbnails)
    pairs = close_pairs(perceptual_hashes(pictures).ravel())
    # From `count` on, hashes are those of mirror images. A pair of two of these is nothing new.
    pairs = pairs[(pairs[:, 0] < count) & (pairs[:, 0] < pairs[:, 1] % max(count, 1))]
    alike = [_alike(pictures, pairs[at : at + _CHUNK]) for at in range(0, len(pairs), _CHUNK)]
    verified = pairs[np.concatenate([np.empty(0, dtype=bool), *alike])]
    verified[:, 1] %= max(count, 1)
    return np.unique(verified, axis=0)


def close_pairs(hashes: NDArray[np.uint64], distance: int = DISTANCE) -> NDArray[np.int64]:
    """All pairs of hashes (n,) that differ in at most `distance` bits, fewer than 12.

    Returns:
        Indices, shape (m, 2): the smaller one first, each pair once, in no particular order.
    """
    distinct, kind = np.unique(hashes, return_inverse=True)
    found = [np.stack([np.arange(len(distinct))] * 2, axis=1)]
    found += _close_distinct(distinct, distance)
    return _with_members(np.concatenate(found), kind)


def candidates(
    hashes: NDArray[np.uint64], kept: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs of hashes (n,) that agree in the bands `kept`, in portions of at most n."""
    mask = np.bitwise_or.reduce([_BAND_MASKS[band] for band in kept])
    keys = hashes & mask
    order = np.argsort(keys)
    keys = keys[order]
    # Equal keys are adjacent: first compare those one place apart, of these those two apart, …
    here, apart = np.arange(len(keys)), 0
    while len(here):
        apart += 1
        here = here[: np.searchsorted(here, len(keys) - apart)]
        here = here[keys[here] == keys[here + apart]]
        yield order[here], order[here + apart]


def _close_distinct(hashes: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.int64]]:
    for kept in combinations(range(_BANDS), _BANDS - distance):
        skipped = [_BAND_MASKS[band] for band in range(kept[-1]) if band not in kept]
        for first, second in candidates(hashes, kept):
            differing = hashes[first] ^ hashes[second]
            close = np.bitwise_count(differing) <= distance
            first, second, differing = first[close], second[close], differing[close]
            # A pair that agrees in more bands is found repeatedly; only the first time counts.
            new = np.ones(len(first), dtype=bool)
            for mask in skipped:
                new &= (differing & mask) != 0
            yield np.stack([first[new], second[new]], axis=1)


def _with_members(pairs: NDArray[np.int64], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn pairs of kinds (m, 2), some of a kind with itself, into pairs of their members."""
    order = np.argsort(kind, kind="stable")
    sizes = np.bincount(kind, minlength=1)
    starts = np.cumsum(sizes) - sizes
    left, right = pairs.T
    products = sizes[left] * sizes[right]
    row = np.repeat(np.arange(len(pairs)), products)
    place = np.arange(products.sum()) - np.repeat(np.cumsum(products) - products, products)
    first = order[starts[left[row]] + place // sizes[right[row]]]
    second = order[starts[right[row]] + place % sizes[right[row]]]
    once = (left[row] != right[row]) | (first < second)
    return np.sort(np.stack([first[once], second[once]], axis=1), axis=1)


def _alike(pictures: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs (m, 2) correlate; index n + i is the mirror image of picture i of n."""
    second = pictures[pairs[:, 1] % len(pictures)]
    mirrored = pairs[:, 1] >= len(pictures)
    second[mirrored] = second[mirrored][:, :, ::-1]
    one, other = _normalised(pictures[pairs[:, 0]]), _normalised(second)
    return np.asarray(np.einsum("ij,ij->i", one, other) >= CORRELATION)


def _normalised(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As vectors (n, SMALL * SMALL) of mean 0 and length 1, or all 0 for a constant picture."""
    vectors = pictures.reshape(len(pictures), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return vectors


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Shape (n, 64) → (n,)."""
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64).ravel()
