"""Candidates for near duplicates in two poses: rotated, zoomed, shifted, mirrored.

A pose is an affine map. Every picture gets a descriptor, and one for each of its `VIEWS`: how it
would look in each pose of a lattice. When a view of one picture resembles another picture, the two
are candidates, which `fer_bench.data.audit.alignment` confirms or rejects.

Faces are alike, so a descriptor keeps what distinguishes them: a picture is band-passed, faded out
towards its edges, and whitened by the mean and the covariance of all pictures, as in [1]. All of
this is linear, so that a view is one matrix product. With few pictures the covariance is uncertain;
it is shrunk to one that decreases with distance, like that of natural images [2].

The lattice is as coarse as the descriptor allows. Measured on 3,000 faces of OpenCV Emotion: of
copies rotated by 5 to 20 degrees, zoomed, sheared or shifted by 10 %, 99 % resemble a view by
`RESEMBLANCE` or more; of other pairs, 2 in 1,000 do.

[1] Kessy, Lewin, Strimmer (2018), Optimal whitening and decorrelation, The American Statistician.
[2] Ruderman (1994), The statistics of natural images, Network: Computation in Neural Systems.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from fer_bench.data.audit.perceptual_hash import SMALL

FloatArray = NDArray[np.float32]

RESEMBLANCE = 0.58

# Degrees, factors, and half sides of the picture along one axis.
_TURNS = (-16, 0, 16)
_ZOOMS = (1.1, 1 / 1.1)
_SHIFTS = (-0.16, 0, 0.16)
# Two copies of one photograph may be rotated in opposite directions.
_FAR_TURNS = (-34, 34)

_DIMENSIONS = 64
# The band in pixels, and where the picture is faded out, in half sides from the centre.
_FINE, _COARSE, _EDGE = 1.3, 3.0, 1.1
# The range of the prior covariance in pixels, and the number of pictures it counts as.
_RANGE, _PRIOR = 8.0, 500
# Relative to the largest variance: added before whitening, so that noise is not amplified.
_NOISE = 0.02
# With fewer pictures than this, descriptors are poor but pairs are few: more of them are tried.
_FEW = 200
# The number of pictures that views are compared with at once: they fit into the processor cache.
_COLUMNS = 256
_CHUNK = 4096


class Candidates(NamedTuple):
    """Pairs of pictures that may show one photograph.

    Attributes:
        first: indices, shape (m,).
        second: indices, shape (m,), different from those in `first`.
        maps: affine, shape (m, 2, 3): from a place in the second picture, (row, column, 1) in half
            sides from the centre, to the same place of the photograph in the first one.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    maps: FloatArray


def _views() -> FloatArray:
    """The maps of the lattice, (views, 2, 3); every other one is mirrored."""
    poses = [*product(_TURNS, _ZOOMS, _SHIFTS, _SHIFTS), *((turn, 1, 0, 0) for turn in _FAR_TURNS)]
    maps = []
    for (turn, zoom, down, right), mirror in product(poses, (1, -1)):
        cos, sin = np.cos(np.deg2rad(turn)) / zoom, np.sin(np.deg2rad(turn)) / zoom
        maps.append([[cos, sin * mirror, down], [-sin, cos * mirror, right]])
    return np.array(maps, dtype=np.float32)


VIEWS = _views()


class Search:
    """Finds candidates among pictures of shape (n, SMALL, SMALL), none of them constant."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self._pictures = pictures.reshape(-1, SMALL * SMALL)
        self._least = RESEMBLANCE * len(pictures) / (len(pictures) + _FEW)
        mean, features = _whitening(self._pictures)
        # A view is linear in the picture: one product with these gives all views of it.
        views = [_warp(view).T @ features for view in VIEWS]
        self._views = np.concatenate(views, axis=1).astype(np.float32)
        self._mean_views = mean @ self._views
        parts = [_unit((part - mean) @ features) for part in _chunks(self._pictures)]
        self._plain = np.concatenate(parts)

    def near(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Candidates:
        """The candidates with the first picture in `rows` and the second in `columns`.

        A pair is given in its best pose and in its best mirrored pose: a face is nearly symmetric,
        so that the better of the two may be the wrong one.
        """
        views = self._pictures[rows].astype(np.float32) @ self._views - self._mean_views
        views = _unit(views.reshape(-1, _DIMENSIONS))
        found, values = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        for start in range(0, len(columns), _COLUMNS):
            part = columns[start : start + _COLUMNS]
            resemblance = views @ self._plain[part].T
            view, column = np.divmod(np.flatnonzero(resemblance > self._least), len(part))
            found.append(np.stack([view, part[column]], axis=1))
            values.append(resemblance[view, column])
        row, view = np.divmod(np.concatenate(found)[:, 0], len(VIEWS))
        return _best(rows[row], np.concatenate(found)[:, 1], view, np.concatenate(values))


def places(side: int) -> FloatArray:
    """Rows and columns of the pixels of a square picture, shape (2, side²), in half sides."""
    grid = (np.indices((side, side)).reshape(2, -1) - (side - 1) / 2) * (2 / side)
    return grid.astype(np.float32)


def _best(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    view: NDArray[np.int64],
    values: NDArray[np.float32],
) -> Candidates:
    """The best view of each pair, and its best view with the opposite mirroring."""
    mirrored = view % 2
    order = np.lexsort((view, -values, mirrored, second, first))
    order = order[second[order] != first[order]]
    keys = np.stack([first, second, mirrored])[:, order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return Candidates(keys[0, new], keys[1, new], VIEWS[view[order[new]]])


def _whitening(pictures: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """The mean of pictures (n, pixels), and a whitening projection (pixels, dimensions)."""
    count = len(pictures) + _PRIOR
    mean = pictures.sum(axis=0, dtype=np.int64) / count
    mean = mean.astype(np.float32)
    band = _band_pass()
    spread = np.zeros((band.shape[1],) * 2)
    for part in _chunks(pictures):
        around = (part - mean) @ band
        spread += around.T @ around
    y, x = places(SMALL) * (SMALL / 2)
    apart = np.hypot(np.subtract.outer(y, y), np.subtract.outer(x, x))
    prior = band.T @ np.exp(-apart / _RANGE) @ band
    prior *= np.trace(spread) / np.trace(prior) / len(pictures)
    variances, axes = np.linalg.eigh((spread + _PRIOR * prior) / count)
    variances, axes = variances[-_DIMENSIONS:], axes[:, -_DIMENSIONS:]
    # Pictures without content in the band have no variance except for rounding errors.
    noise = max(_NOISE * variances[-1], 1e-9)
    features = band @ (axes / np.sqrt(np.maximum(variances, 0) + noise))
    return mean, features.astype(np.float32)


def _band_pass() -> FloatArray:
    """The difference of two blurs, faded out towards the edges, as a matrix (pixels, m)."""
    apart = np.subtract.outer(np.arange(SMALL), np.arange(SMALL))
    fine, coarse = (np.exp(-(apart**2) / (2 * width**2)) for width in (_FINE, _COARSE))
    fine, coarse = (blur / blur.sum(axis=1, keepdims=True) for blur in (fine, coarse))
    window = 1 - (np.hypot(*places(SMALL)) / _EDGE) ** 2
    seen = window > 0
    band = (np.kron(fine, fine) - np.kron(coarse, coarse))[seen] * window[seen, None]
    return np.ascontiguousarray(band.T, dtype=np.float32)


def _warp(view: FloatArray) -> Any:
    """The sparse matrix (pixels, pixels) that samples a picture in a pose, repeating its edges."""
    wanted = view[:, :2] @ places(SMALL) + view[:, 2:]
    place = np.clip(wanted * (SMALL / 2) + (SMALL - 1) / 2, 0, SMALL - 1)
    corner = np.minimum(place.astype(int), SMALL - 2)
    down, right = place - corner
    at = corner[0] * SMALL + corner[1]
    columns = (at, at + 1, at + SMALL, at + SMALL + 1)
    weights = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    rows = np.tile(np.arange(SMALL * SMALL), 4)
    shape = (SMALL * SMALL, SMALL * SMALL)
    return coo_array((np.concatenate(weights), (rows, np.concatenate(columns))), shape).tocsr()


def _chunks(pictures: NDArray[np.uint8]) -> Iterator[FloatArray]:
    for start in range(0, len(pictures), _CHUNK):
        yield pictures[start : start + _CHUNK].astype(np.float32)


def _unit(vectors: NDArray[Any]) -> FloatArray:
    """Vectors (n, dimensions) scaled to length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
