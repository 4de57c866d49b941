"""What a dataset holds, before anything is trained on it: the document of `fer data stats`."""

from collections import Counter
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from fer_bench.data.images import ImageError, upright_size
from fer_bench.data.manifest import Manifest, ManifestDocument
from fer_bench.device.threads import in_order
from fer_bench.labels import ATTRIBUTES

BINS = 20


class Histogram(TypedDict):
    """How values in [-1, 1] are distributed over bins of equal width.

    `counts` has one number for each bin, `edges` one more; `mean` is None without known values.
    """

    known: int
    missing: int
    mean: float | None
    edges: list[float]
    counts: list[int]


class Summary(ManifestDocument):
    """The document of `fer data stats`.

    `image_sizes` is {"WIDTHxHEIGHT" or "unreadable": images}, `attributes` is {attribute: {value:
    samples}}.
    """

    image_sizes: dict[str, int]
    valence: NotRequired[Histogram]
    arousal: NotRequired[Histogram]
    attributes: NotRequired[dict[str, dict[str, int]]]


def describe(manifest: Manifest) -> Summary:
    """Release, counts and problems of a manifest, the sizes of its images and its annotations."""
    samples = manifest.samples
    paths = (f"{manifest.root}/{path}" for path in samples["path"].unique())
    # Only headers are read: most of the time is spent opening files, which threads do in parallel.
    sizes = dict(Counter(in_order(_size, paths)).most_common())
    document = cast("Summary", {**manifest.to_json(), "image_sizes": sizes})
    if "valence" in samples:
        document["valence"] = _histogram(samples["valence"].to_numpy(np.float64))
    if "arousal" in samples:
        document["arousal"] = _histogram(samples["arousal"].to_numpy(np.float64))
    attributes = {
        name: {str(value): int(n) for value, n in samples[name].value_counts().items()}
        for name in ATTRIBUTES
        if name in samples
    }
    if attributes:
        document["attributes"] = attributes
    return document


def _size(path: str) -> str:
    try:
        width, height = upright_size(path)
    except ImageError:
        return "unreadable"
    return f"{width}x{height}"


def _histogram(values: NDArray[np.float64]) -> Histogram:
    known = values[~np.isnan(values)]
    counts, edges = np.histogram(known, bins=BINS, range=(-1, 1))
    return {
        "known": len(known),
        "missing": int(len(values) - len(known)),
        "mean": float(known.mean()) if len(known) else None,
        "edges": edges.round(6).tolist(),
        "counts": counts.tolist(),
    }
