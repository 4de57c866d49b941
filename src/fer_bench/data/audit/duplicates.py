"""Which images of a dataset are duplicates, and which test images training has seen.

Two images are exact duplicates when all their pixels are equal after decoding, and near duplicates
when they show one photograph: edited, by the rule of `fer_bench.data.audit.perceptual_hash`, or
moved, by that of `fer_bench.data.audit.alignment`. Blank images, which are all alike, are not
duplicates of anything.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.sparse import coo_array

from fer_bench.data.audit.alignment import LEAST_SHARED, LEVELS, moved_pairs
from fer_bench.data.audit.image_files import Seen, inspect_all
from fer_bench.data.audit.perceptual_hash import CORRELATION, DISTANCE, SIDE, near_pairs
from fer_bench.data.audit.poses import RESEMBLANCE, VIEWS
from fer_bench.data.cached_results import cached_result
from fer_bench.data.contents import FILE, Verification, Verify
from fer_bench.data.images import VERSION, Box
from fer_bench.data.manifest import BOX, Manifest
from fer_bench.data.sources import ImageFiles
from fer_bench.data.splits import split_digest
from fer_bench.storage.files import read_bounded

Relation = Literal["exact", "near"]
Codes = NDArray[np.intp]
Progress = Callable[[int, int], None]
_SEEN = TypeAdapter(dict[str, Relation])

# What counts as a duplicate, for the report of an audit. scripts/augmented_copies.py measures these
# limits.
LOOKED_FOR = (
    "the same pixels",
    "one photograph cropped, mirrored, turned by up to 20 degrees, zoomed by up to 1.2, shifted by "
    "up to 10 % of the side, sheared by up to 0.2, brightened, compressed or edited",
)
NOT_LOOKED_FOR = (
    "turned or zoomed much farther, or upside down",
    "cropped to less than half of the area, or largely covered",
    "another photograph of the same person",
)


def seen_in_training(
    manifest: Manifest,
    split: str,
    workers: int | None,
    on_progress: Progress | None = None,
    on_compared: Progress | None = None,
    verify: Verify = "sample",
) -> dict[str, Relation]:
    """The samples of `split` with a duplicate in another split, and whether it is exact or near.

    In a test split, these are the images that training or model selection has seen. Every image is
    read once; the result is kept in the cache, and found again if an image changed.

    Args:
        manifest: the dataset in the splits of the experiment.
        split: the name of the split.
        workers: number of threads; None means one per usable core.
        on_progress: called with (images read, all images).
        on_compared: called with (different images compared, all different images).
        verify: which images are read again to find out whether they changed.
    """
    paths, ids = _paths(manifest), manifest.samples["sample_id"].tolist()
    files = ImageFiles(manifest.root, "compared", paths, ids, Verification(verify))

    def find(folder: Path) -> None:
        own = (manifest.samples["split"] == split).to_numpy()
        seen = inspect_images(manifest, workers, on_progress)
        duplicates = find_duplicates(seen, own, on_compared)
        found = _seen_elsewhere(manifest.samples["sample_id"].to_numpy(), own, duplicates)
        (folder / "twins.json").write_text(json.dumps(found), encoding="utf-8")
        files.keep_all(folder)

    def read(folder: Path) -> dict[str, Relation]:
        return _SEEN.validate_json(read_bounded(folder / "twins.json"))

    def changed(folder: Path) -> str | None:
        # To find twins takes minutes: the result of an older version, without digests, is used.
        return files.changed(folder) if (folder / FILE).exists() else None

    rule = (SIDE, DISTANCE, CORRELATION, VIEWS.tolist(), RESEMBLANCE, LEVELS, LEAST_SHARED)
    parts = (VERSION, manifest.fingerprint, split_digest(manifest.samples), split, *rule)
    return cached_result("twins", " ".join(map(str, parts)), find, read, changed)


def _seen_elsewhere(
    names: NDArray[np.object_], own: NDArray[np.bool_], duplicates: "Duplicates"
) -> dict[str, Relation]:
    found: dict[str, Relation] = {}
    relations: tuple[Relation, ...] = ("near", "exact")
    for relation in relations:
        elsewhere = duplicates.count(relation, own.astype(np.intp))[:, 0] > 0
        found |= dict.fromkeys(names[own & elsewhere].tolist(), relation)
    return dict(sorted(found.items()))


def inspect_images(
    manifest: Manifest, workers: int | None, on_progress: Progress | None = None
) -> list[Seen]:
    """The content of every image file, in the order of the manifest."""
    files = list(zip(_paths(manifest), _boxes(manifest.samples), strict=True))
    return inspect_all(files, "L" if manifest.channels == 1 else "RGB", workers, on_progress)


def _paths(manifest: Manifest) -> list[str]:
    return [f"{manifest.root}/{path}" for path in manifest.samples["path"].tolist()]


def _boxes(samples: pd.DataFrame) -> list[Box]:
    if not set(BOX) <= set(samples):
        return [None] * len(samples)
    x, y, width, height = samples[list(BOX)].to_numpy(dtype=float).round().T
    edges = np.stack([x, y, x + width, y + height], axis=1)
    unknown = np.isnan(edges).any(axis=1)
    whole = np.where(unknown[:, None], 0, edges).astype(int).tolist()
    return [None if skip else tuple(box) for skip, box in zip(unknown, whole, strict=True)]


@dataclass(frozen=True)
class Duplicates:
    """Which images are duplicates of which. Images with equal pixels have the same content.

    Attributes:
        contents: the index of each image's content, shape (images,); -1 if it cannot be used.
        members: sparse, (contents, images): 1 where an image has the content.
        near: sparse, (contents, contents): 1 where two contents are near duplicates.
    """

    contents: Codes
    members: Any
    near: Any

    def of(self, image: int, relation: Relation) -> Codes:
        """The indices of the duplicates of an image."""
        content = self.contents[image]
        contents = [content] if relation == "exact" else row_columns(self.near, content)
        found = [np.empty(0, dtype=np.intp), *(row_columns(self.members, one) for one in contents)]
        images = np.concatenate(found)
        others: Codes = images[images != image]
        return others

    def count(self, relation: Relation, categories: Codes) -> NDArray[np.int64]:
        """The number of duplicates of each image in each category, shape (images, categories)."""
        own = np.zeros((len(categories), categories.max() + 1), dtype=np.int64)
        known = np.flatnonzero(self.contents >= 0)
        own[known, categories[known]] = 1
        by_content = self.members @ own
        if relation == "exact":
            totals = by_content[self.contents] - own
        else:
            totals = (self.near @ by_content)[self.contents]
        return np.where(self.contents[:, None] >= 0, totals, 0)


def row_columns(matrix: Any, row: int) -> Codes:
    """The columns where a row of a sparse matrix is not 0, ascending."""
    columns: Codes = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
    return columns


def find_duplicates(
    seen: list[Seen],
    asked: NDArray[np.bool_] | None = None,
    on_compared: Progress | None = None,
) -> Duplicates:
    """The duplicates among all images of a dataset.

    Args:
        seen: the content of each file.
        asked: shape (images,); if given, near duplicates are only looked for between an image that
            is asked about and one that is not, and not for images with an exact duplicate there.
        on_compared: called with (different images compared, all different images).
    """
    digests = np.array([file.digest or None for file in seen], dtype=object)
    contents, distinct = pd.factorize(digests)  # numbered as they appear, -1 for None
    count = max(len(distinct), 1)
    known = np.flatnonzero(contents >= 0)
    _, first = np.unique(contents[known], return_index=True)
    joined = b"".join(seen[image].thumbnail for image in known[first])
    thumbnails = np.frombuffer(joined, dtype=np.uint8).reshape(-1, SIDE, SIDE)
    asked_contents = None
    if asked is not None:
        asked_contents = np.ones(len(thumbnails), dtype=bool)
        asked_contents[contents[known][~asked[known]]] = False
    moved = moved_pairs(thumbnails, asked_contents, on_compared)
    pairs = np.unique(np.concatenate([near_pairs(thumbnails), moved]), axis=0)
    return Duplicates(
        contents,
        _matrix(contents[known], known, (count, len(seen))),
        _matrix(pairs.ravel(), pairs[:, ::-1].ravel(), (count, count)),
    )


def _matrix(rows: Codes, columns: Codes, shape: tuple[int, int]) -> Any:
    matrix = coo_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape).tocsr()
    matrix.sort_indices()
    return matrix
