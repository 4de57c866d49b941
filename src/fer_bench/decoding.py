"""The images of a split: each decoded once, kept, and looked up by its number."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.cache import Store, Wanted
from fer_bench.cachedir import cached
from fer_bench.errors import DataError
from fer_bench.manifest import BOX, Manifest

# Without a cache, up to this many bytes of decoded images are kept in memory; beyond, files are
# decoded each time.
MEMORY_BYTES = 4 * 2**30
DECODE_BATCH = 256
# Part of the key of every decoded image. It changes when decoding or resizing does.
_DECODING = 1
# What is done to an image before it is resized: (uint8 image (h, w, channels), index of the sample
# in its split) → uint8 image of the same shape. Called from several threads at once.
Change = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Split:
    """The samples of one split, every image of which has been decoded once.

    Attributes:
        paths: absolute file names, shape (n,).
        codes: class indices, shape (n,).
        valence_arousal: float32 in [-1, 1], shape (n, 2), NaN where unknown.
        boxes: what of each image is used, in pixels: left, top, width, height, shape (n, 4); None
            where that is the whole image.
        pixels: decoded uint8 images (n, size, size, channels), in memory or mapped from the cache;
            None where they are too many.
        size: height and width in pixels.
        channels: 1 or 3.
        soft_labels: float32 shares of the classes, shape (n, C), each row summing to 1; None
            where labels are hard.
        change: what happens to each image between decoding and resizing; None for nothing.
        digest: SHA-256 of all pixels; empty where no cache was asked.
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

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all pixels: (n, size, size, channels)."""
        return len(self), self.size, self.size, self.channels


@dataclass(frozen=True)
class Rows:
    """Values that stand for images: one row for each fixed view of each image.

    Attributes:
        values: shape (views * m, ...), m images (with those of `dataset.expand`) in each view;
            bfloat16 as uint16.
        dtype: the name of their type.
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
) -> Split:
    """Decode every image of a split, so that a broken one is named before anything is computed.

    With a `store`, each image is decoded once, ever: the next call finds what this one left.

    Args:
        manifest: the dataset.
        split: the name of the split.
        size: height and width in pixels.
        on_progress: called with (images decoded, images in all).
        store: where decoded images are kept; None: in memory.
        change: is made to each image as it comes from its file, after the crop and before the
            resize. Such images are never kept in a store.

    Raises:
        DataError: an image cannot be decoded; the message names it.
    """
    files = replace(split_files(manifest, split, size), change=change)
    if store is None or change is not None:
        return _decoded(files, on_progress)
    key = _key(files, manifest.root)
    note = {"dataset": manifest.name, "split": split, "images": len(files), "size": size}
    wanted = Wanted("images", key, files.shape, "uint8", note)
    array = store.keep(wanted, lambda: _decoded_blocks(files, on_progress))
    if array is not None:
        return replace(files, pixels=array.memmap(), digest=array.digest)
    return replace(files, digest=_checked(files, key, on_progress))


def _key(files: Split, root: Path) -> str:
    """What the pixels of a split depend on; a file is known by its name, size and last change."""
    hashed, above = hashlib.sha256(), f"{root}{os.sep}"
    for path in files.paths.tolist():
        status = _status(path)
        name = path.removeprefix(above)
        hashed.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    if files.boxes is not None:
        hashed.update(files.boxes.tobytes())
    return f"{_DECODING} {files.size} {files.channels} {hashed.hexdigest()}"


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - twice as fast as Path for 100,000 files
    except OSError as error:
        raise DataError(
            f"{path}: this image cannot be read ({error.strerror}).\n"
            "Restore the file from the original archive."
        ) from error


def _checked(files: Split, key: str, on_progress: Callable[[int, int], None] | None) -> str:
    """Decode what is too much to keep, once, ever; the SHA-256 of all pixels."""

    def check(folder: Path) -> None:
        hashed = hashlib.sha256()
        for block in _decoded_blocks(files, on_progress):
            hashed.update(block.data)
        (folder / "digest.json").write_text(json.dumps(hashed.hexdigest()), encoding="utf-8")

    folder = cached("checked", key, check)
    return str(json.loads((folder / "digest.json").read_text(encoding="utf-8")))


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
    files: Split, on_progress: Callable[[int, int], None] | None
) -> Iterator[NDArray[np.uint8]]:
    """All images in their order. Raises: DataError naming the first that cannot be decoded."""
    done = 0
    try:
        for block in _decoded_batches(files):
            yield block
            done += len(block)
            if on_progress:
                on_progress(done, len(files))
    except tf.errors.OpError as error:
        paths, channels = files.paths, files.channels
        if files.change is not None and _first_undecodable(paths, channels) is None:
            raise  # `change` failed: a bug, whose traceback the message holds
        raise undecodable(paths[done : done + DECODE_BATCH], channels) from error


def split_files(manifest: Manifest, split: str, size: int) -> Split:
    """A split whose images are decoded each time they are used, and of which none was so far."""
    rows = manifest.split(split)
    root = f"{manifest.root}{os.sep}"  # joined as text: a Path for each takes ten times as long
    paths = np.array([root + path for path in rows["path"].tolist()])
    boxes = rows[list(BOX)].to_numpy(np.int32) if BOX[0] in rows else None
    values = manifest.valence_arousal(split)
    soft, channels = manifest.soft_labels(split), manifest.channels
    return Split(paths, manifest.codes(split), values, boxes, None, size, channels, soft)


def _decoded_batches(split: Split) -> Iterable[NDArray[np.uint8]]:
    dataset = tf.data.Dataset.range(len(split))
    decode = _decoder(split)
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    numbered = dataset.batch(DECODE_BATCH).prefetch(2).as_numpy_iterator()
    batches: Iterable[NDArray[np.uint8]] = numbered
    return batches


def _decoder(split: Split) -> Callable[[Any], Any]:
    """A function from a sample's index to its uint8 image (size, size, channels)."""
    size, channels = split.size, split.channels
    paths = tf.constant(split.paths)
    boxes = None if split.boxes is None else tf.constant(split.boxes)

    def decode(index: Any) -> Any:
        file = tf.io.read_file(paths[index])
        image = tf.io.decode_image(file, channels=channels, expand_animations=False)
        if boxes is not None:
            image = _crop(image, boxes[index])
        if split.change is not None:
            image = _changed(image, index, split.change)
        if tf.reduce_any(tf.shape(image)[:2] != size):
            resized = tf.image.resize(image, (size, size), antialias=True)
            image = tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
        return tf.ensure_shape(image, (size, size, channels))

    return decode


def _changed(image: Any, index: Any, change: Change) -> Any:
    """The uint8 `image` (h, w, channels) after `change`, which runs in Python."""

    def call(pixels: NDArray[np.uint8], row: NDArray[np.int64]) -> NDArray[np.uint8]:
        return change(pixels, int(row))

    changed = tf.numpy_function(call, [image, index], tf.uint8, stateful=False)
    changed.set_shape(image.shape)
    return changed


def _crop(image: Any, box: Any) -> Any:
    """The part of `image` inside `box` (left, top, width, height); at least one pixel."""
    shape = tf.shape(image)
    left, top = tf.clip_by_value(box[0], 0, shape[1] - 1), tf.clip_by_value(box[1], 0, shape[0] - 1)
    right = tf.clip_by_value(box[0] + box[2], left + 1, shape[1])
    bottom = tf.clip_by_value(box[1] + box[3], top + 1, shape[0])
    return image[top:bottom, left:right]


def undecodable(paths: NDArray[np.str_], channels: int) -> DataError:
    """The error that names the first of `paths` which does not decode."""
    return _first_undecodable(paths, channels) or DataError(
        f"an image near {paths[0]} could be read only at the second try; try again."
    )


def _first_undecodable(paths: NDArray[np.str_], channels: int) -> DataError | None:
    for path in paths:
        try:
            tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
        except tf.errors.OpError as error:
            reason = error.message.split("\n")[0].split(" [Op:")[0]
            size = Path(path).stat().st_size if Path(path).exists() else 0
            return DataError(
                f"{path}: this image cannot be decoded ({size:,} bytes; {reason}).\n"
                "Replace the file from the original archive, or remove it."
            )
    return None


def fetch(split: Split, index: Any) -> Any:
    """Sample indices (n,) → uint8 images (n, size, size, channels)."""
    if split.pixels is not None:
        return look_up(Rows(split.pixels, "uint8"), index)
    signature = tf.TensorSpec(split.shape[1:], tf.uint8)
    return tf.map_fn(_decoder(split), index, fn_output_signature=signature)


def look_up(rows: Rows, index: Any) -> Any:
    """Row numbers (n,) → these rows, read from where they are kept."""
    values = rows.values
    stored = tf.as_dtype(values.dtype)
    found = tf.numpy_function(lambda row: np.asarray(values[row]), [index], stored, stateful=False)
    found = tf.ensure_shape(found, (None, *values.shape[1:]))
    return found if stored.name == rows.dtype else tf.bitcast(found, rows.dtype)
