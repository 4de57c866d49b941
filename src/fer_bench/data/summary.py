"""What is in a dataset, before anything is trained on it: the document of `fer data stats`."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from fer_bench.data.images import ImageError, upright_size
from fer_bench.data.manifest import Manifest
from fer_bench.device.threads import in_order
from fer_bench.labels import ATTRIBUTES, AXES

BINS = 20


def describe(manifest: Manifest) -> dict[str, Any]:
    """Release, counts and problems of a manifest, and what its images and annotations are like.

    Returns:
        `Manifest.to_json`, with `image_sizes` {"WIDTHxHEIGHT" or "unreadable": images}; where the
        dataset has them, `valence` and `arousal` {`known`, `missing`, `mean`, `edges`, `counts`}
        (a histogram of 20 bins over [-1, 1]) and `attributes` {attribute: {value: samples}}.
    """
    samples = manifest.samples
    document = manifest.to_json()
    document["image_sizes"] = _sizes(f"{manifest.root}/{path}" for path in samples["path"].unique())
    for axis in AXES:
        if axis in samples:
            document[axis] = _histogram(samples[axis].to_numpy(np.float64))
    attributes = {
        name: {str(value): int(n) for value, n in samples[name].value_counts().items()}
        for name in ATTRIBUTES
        if name in samples
    }
    if attributes:
        document["attributes"] = attributes
    return document


def _sizes(paths: Iterable[str]) -> dict[str, int]:
    # Only headers are read; the time goes to opening files, which threads do side by side.
    return dict(Counter(in_order(_size, paths)).most_common())


def _size(path: str) -> str:
    try:
        width, height = upright_size(path)
    except ImageError:
        return "unreadable"
    return f"{width}x{height}"


def _histogram(values: Any) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    counts, edges = np.histogram(known, bins=BINS, range=(-1, 1))
    return {
        "known": len(known),
        "missing": int(len(values) - len(known)),
        "mean": float(known.mean()) if len(known) else None,
        "edges": edges.round(6).tolist(),
        "counts": counts.tolist(),
    }
