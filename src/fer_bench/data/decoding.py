"""The images of a split: each is decoded once, kept, and looked up by its index."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import StringConstraints, TypeAdapter

from fer_bench.data.cached_results import cached_result
from fer_bench.data.contents import SAMPLED, Digests, Verification, Verify
from fer_bench.data.images import VERSION, Box, Pixels, read_image, resize
from fer_bench.data.manifest import BOX, Manifest
from fer_bench.data.sources import KIND, ImageFiles
from fer_bench.device.machine import usable_cores
from fer_bench.device.threads import in_order
from fer_bench.storage.array_cache import Sources, Store, Wanted
from fer_bench.storage.files import read_bounded

# Without a cache, up to this many bytes of decoded images are kept in memory; larger splits are
# decoded each time.
MEMORY_BYTES = 4 * 2**30
# The number of images that a thread decodes at once: enough to make the hand-over cheap, and few
# enough to limit the memory of many threads.
DECODE_BATCH = 32
# A change of an image before it is resized: (uint8 image (h, w, channels), index of the sample in
# its split) → uint8 image of the same shape. Called from several threads at once.
Change = Callable[[Pixels, int], Pixels]

_DIGEST = TypeAdapter(Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")])


@dataclass(frozen=True)
class Split:
    """The samples of one split, whose images have all been decoded once.

    Attributes:
        paths: absolute file names, shape (n,).
        codes: class indices, shape (n,).
        valence_arousal: float32 in [-1, 1], shape (n, 2), NaN where unknown.
        boxes: the part of each image that is used, in pixels: left, top, width, height, shape
            (n, 4); None for whole images.
        pixels: decoded uint8 images (n, size, size, channels), in memory or mapped from the cache;
            None if they are too many.
        size: height and width in pixels.
        channels: 1 or 3.
        soft_labels: float32 shares of the classes, shape (n, C), each row summing to 1; None for
            hard labels.
        change: applied to each image between decoding and resizing; None for no change.
        digest: SHA-256 of all pixels; empty without a cache.
        contents: of the files, as a run records it; empty where unknown.
    """

    paths: NDArray[np.str_]
    codes: NDArray[np.int32]
    valence_arousal: NDArray[np.float32]
    boxes: NDArray[np.int32] | None
    pixels: NDArray[np.uint8] | None
    size: int
    channels: int
    soft_labels: NDArray[np.float32] | None = None
    change: Change | None = None
    digest: str = ""
    contents: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all pixels: (n, size, size, channels)."""
        return len(self), self.size, self.size, self.channels


@dataclass(frozen=True)
class Rows:
    """Values in place of images, such as features: one row for each fixed view of each image.

    Attributes:
        values: shape (views * m, ...), m images (with those of `dataset.expand`) in each view;
            bfloat16 as uint16.
        dtype: the name of the type of the values.
    """

    values: NDArray[Any]
    dtype: str

    def __len__(self) -> int:
        return len(self.values)


def open_split(
    manifest: Manifest,
    split: str,
    size: int,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    store: Store | None = None,
    change: Change | None = None,
    check: Verification = SAMPLED,
) -> Split:
    """Decode every image of a split, so that a broken one is reported before training starts.

    With a `store`, the decoded images are kept for later calls, and decoded again if the content of
    a file changed.

    Args:
        manifest: the dataset.
        split: the name of the split.
        size: height and width in pixels.
        on_progress: called with (images decoded, all images).
        store: where decoded images are kept; None: in memory.
        change: applied to each image after the crop and before the resize. Changed images are
            never kept in a store.
        check: what the content of the files is compared with.

    Raises:
        DataError: an image cannot be decoded, or is not what the run was trained on; the message
            names it.
    """
    files = replace(split_files(manifest, split, size), change=change)
    if store is None or change is not None:
        return _decoded(files, on_progress)
    sources = _image_files(manifest, split, check)
    key = _key(files, sources)
    note = {"dataset": manifest.name, "split": split, "images": len(files), "size": size}
    wanted = Wanted("images", key, files.shape, "uint8", note)
    blocks = partial(_decoded_blocks, files, on_progress, sources.digests)
    array = store.keep(wanted, blocks, (), Sources(sources.keep, sources.changed))
    if array is not None:
        kept = sources.kept(array.path.parent)
        found = replace(files, pixels=array.memmap(), digest=array.digest)
    else:
        digest, kept = _checked(key, sources, blocks)
        found = replace(files, digest=digest)
    if kept is None:
        return found
    found = replace(found, contents=sources.digest(kept))
    sources.compare(kept)
    return found


def split_contents(manifest: Manifest, split: str, verify: Verify = "sample") -> str:
    """`Split.contents` of a split that is not decoded; its files are read once.

    Raises:
        DataError: a file cannot be read.
    """
    sources = _image_files(manifest, split, Verification(verify))

    def read(folder: Path) -> Digests:
        kept = sources.kept(folder)
        if kept is None:
            raise ValueError("it has no digests")
        return kept

    key = sources.names().hexdigest()
    return sources.digest(cached_result(KIND, key, sources.keep_all, read, sources.changed))


def _image_files(manifest: Manifest, split: str, check: Verification) -> ImageFiles:
    rows = manifest.split(split)
    root = f"{manifest.root}{os.sep}"
    paths = [root + path for path in rows["path"].tolist()]
    ids = rows["sample_id"].tolist()
    return ImageFiles(manifest.root, split, paths, ids, check, manifest.source_digest)


def _key(files: Split, sources: ImageFiles) -> str:
    """Everything that the pixels of a split depend on; files by name, size and time of change."""
    hashed = sources.names()
    if files.boxes is not None:
        hashed.update(files.boxes.tobytes())
    return f"{VERSION} {files.size} {files.channels} {hashed.hexdigest()}"


def _checked(
    key: str, sources: ImageFiles, blocks: Callable[[], Iterator[Pixels]]
) -> tuple[str, Digests | None]:
    """The SHA-256 of pixels that are too many to keep, and those of the files.

    They are decoded for it only once.
    """

    def check(folder: Path) -> None:
        hashed = hashlib.sha256()
        for block in blocks():
            hashed.update(block.data)
        sources.keep(folder)
        (folder / "digest.json").write_text(json.dumps(hashed.hexdigest()), encoding="utf-8")

    def read(folder: Path) -> tuple[str, Digests | None]:
        digest = _DIGEST.validate_json(read_bounded(folder / "digest.json"))
        return digest, sources.kept(folder)

    return cached_result("checked", key, check, read, sources.changed)


def _decoded(files: Split, on_progress: Callable[[int, int], None] | None) -> Split:
    """A split with its pixels in memory, if they fit."""
    keep = int(np.prod(files.shape, dtype=np.int64)) <= MEMORY_BYTES
    pixels = np.empty(files.shape, dtype=np.uint8) if keep else None
    done = 0
    for block in _decoded_blocks(files, on_progress):
        if pixels is not None:
            pixels[done : done + len(block)] = block
        done += len(block)
    return replace(files, pixels=pixels)


def _decoded_blocks(
    files: Split,
    on_progress: Callable[[int, int], None] | None,
    digests: list[bytes] | None = None,
) -> Iterator[Pixels]:
    """All images in order; `digests` then has the SHA-256 of each file.

    Raises: DataError that names the first one that cannot be decoded.
    """

    def decode_part(rows: NDArray[np.int64]) -> tuple[Pixels, list[bytes]]:
        own: list[bytes] = []
        return decode(files, rows, None if digests is None else own), own

    done = 0
    if digests is not None:
        digests.clear()
    for block, own in in_order(decode_part, _parts(np.arange(len(files)))):
        if digests is not None:
            digests += own
        yield block
        done += len(block)
        if on_progress:
            on_progress(done, len(files))


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + DECODE_BATCH] for start in range(0, len(rows), DECODE_BATCH)]


def decode(split: Split, rows: NDArray[np.int64], digests: list[bytes] | None = None) -> Pixels:
    """Decode some images of a split: shape (rows, size, size, channels).

    The SHA-256 of each file is appended to `digests`.

    Raises:
        DataError: an image cannot be decoded; the message names it.
    """
    images = np.empty((len(rows), *split.shape[1:]), dtype=np.uint8)
    for place, row in enumerate(rows.tolist()):
        image = read_image(str(split.paths[row]), split.channels, _box(split, row), digests)
        if split.change is not None:
            image = split.change(image, row)
        images[place] = resize(image, split.size)
    return images


def decode_together(split: Split, rows: NDArray[np.int64]) -> Pixels:
    """`decode` with several threads."""
    # Each thread gets about the same number of images, however few they are.
    parts = np.array_split(rows, min(usable_cores().number, len(rows)) or 1)
    return np.concatenate(list(in_order(partial(decode, split), parts)))


def _box(split: Split, row: int) -> Box:
    if split.boxes is None:
        return None
    left, top, width, height = split.boxes[row].tolist()
    return left, top, left + width, top + height


def split_files(manifest: Manifest, split: str, size: int) -> Split:
    """A split of which no image has been decoded yet."""
    rows = manifest.split(split)
    root = f"{manifest.root}{os.sep}"  # joined as text: creating a Path each is ten times slower
    paths = np.array([root + path for path in rows["path"].tolist()])
    boxes = rows[list(BOX)].to_numpy(np.int32) if BOX[0] in rows else None
    values = manifest.valence_arousal(split)
    soft, channels = manifest.soft_labels(split), manifest.channels
    return Split(paths, manifest.codes(split), values, boxes, None, size, channels, soft)
