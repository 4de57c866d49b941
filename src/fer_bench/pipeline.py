"""Manifest → batches of images: decode, resize, augment, batch.

Order and augmentation are pure functions of (seed, epoch). They are drawn with numpy for the whole
epoch at once, so that an epoch can start at any of its steps and no random operation is left for
the parallel part, where it would not be reproducible.
"""

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
from fer_bench.config import Augment, Dataset, Experiment
from fer_bench.errors import DataError
from fer_bench.manifest import BOX, Manifest

# Without a cache, up to this many bytes of decoded images are kept in memory; beyond, files are
# decoded each time.
MEMORY_BYTES = 4 * 2**30
DECODE_BATCH = 256
# Part of the key of every decoded image. It changes when decoding or resizing does.
_DECODING = 1
_ORDER, _AUGMENT = 0, 1  # streams of random numbers of one epoch
_VIEWS, _TRUNK_VIEWS = 2, 3  # streams of random numbers of a split seed
# What `dataset.expand` may do to an image.
VIEW = Augment(flip=True, rotation=20 / 360, shear=0.2, zoom=0.2)
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
    change: Change | None = None
    digest: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all pixels: (n, size, size, channels)."""
        return len(self), self.size, self.size, self.channels


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
        raise _undecodable(paths[done : done + DECODE_BATCH], channels) from error


def split_files(manifest: Manifest, split: str, size: int) -> Split:
    """A split whose images are decoded each time they are used, and of which none was so far."""
    rows = manifest.split(split)
    root = f"{manifest.root}{os.sep}"  # joined as text: a Path for each takes ten times as long
    paths = np.array([root + path for path in rows["path"].tolist()])
    boxes = rows[list(BOX)].to_numpy(np.int32) if BOX[0] in rows else None
    values = manifest.valence_arousal(split)
    return Split(paths, manifest.codes(split), values, boxes, None, size, manifest.channels)


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


def _undecodable(paths: NDArray[np.str_], channels: int) -> DataError:
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


def epoch_order(
    codes: NDArray[np.int32], per_class: int | None, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Sample indices of one training epoch: every sample once, in random order.

    With `per_class`, each class occurs that often: its samples all equally often, but for a random
    remainder.
    """
    generator = np.random.default_rng([seed, epoch, _ORDER])
    if per_class is None:
        return generator.permutation(len(codes))
    order = np.concatenate(
        [
            _repeat_to(np.flatnonzero(codes == code), per_class, generator)
            for code in np.unique(codes)
        ]
    )
    return generator.permutation(order)


def _repeat_to(
    indices: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    whole, rest = divmod(count, len(indices))
    return np.concatenate(
        [np.tile(indices, whole), generator.choice(indices, size=rest, replace=False)]
    )


def draw_warps(
    count: int, augment: Augment, size: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Affine maps from output to input pixels, shape (count, 8), as `ImageProjectiveTransformV3`.

    Row: (a0, a1, a2, b0, b1, b2, 0, 0) with x_in = a0 x + a1 y + a2 and y_in = b0 x + b1 y + b2.
    Mirror, zoom, shear and rotation act around the image centre; the shift comes last.
    """
    uniform = generator.uniform(-1, 1, size=(count, 6))
    angle = uniform[:, 0] * augment.rotation * 2 * np.pi
    scale = 1 + uniform[:, 1] * augment.zoom
    shear = uniform[:, 2] * augment.shear
    shift = uniform[:, 3:5] * augment.shift * size
    mirror = np.where(augment.flip & (uniform[:, 5] < 0), -1.0, 1.0)

    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos * mirror, cos * shear - sin
    linear[:, 1, 0], linear[:, 1, 1] = sin * mirror, sin * shear + cos
    centre = np.full(2, (size - 1) / 2)
    offset = centre - linear @ centre + shift

    maps = np.zeros((count, 8), dtype=np.float32)
    maps[:, 0:2], maps[:, 2] = linear[:, 0], offset[:, 0]
    maps[:, 3:5], maps[:, 5] = linear[:, 1], offset[:, 1]
    return maps


def compose(first: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.float32]:
    """Affine maps (n, 8) that do what `first` and then `then` do, in one step.

    Both map from output to input pixels: the later map's input is the earlier one's output.
    """
    earlier, later = (
        np.concatenate([maps, np.ones((len(maps), 1))], axis=1).reshape(-1, 3, 3)
        for maps in (first, then)
    )
    maps: NDArray[np.float32] = (earlier @ later).reshape(-1, 9)[:, :8].astype(np.float32)
    return maps


def draw_views(
    images: int, dataset: Dataset, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The fixed training views of `dataset.expand`: which image each shows, and its affine map.

    Every image is there unchanged, and again in other views, equally often but for a random
    remainder. Shapes (m,) and (m, 8) with m = expand; m = images and no change without it.
    """
    views = dataset.expand or images
    generator = np.random.default_rng([dataset.split_seed, _VIEWS])
    added = _repeat_to(np.arange(images), views - images, generator)
    unchanged = draw_warps(images, Augment(), size, generator)
    changed = draw_warps(len(added), VIEW, size, generator)
    return np.concatenate([np.arange(images), added]), np.concatenate([unchanged, changed])


def draw_intensities(
    count: int, augment: Augment, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Contrast factors and added intensities in [-255, 255], shape (count, 2)."""
    uniform = generator.uniform(-1, 1, size=(count, 2))
    limits = np.array([augment.contrast, augment.brightness * 255])
    changes: NDArray[np.float32] = (uniform * limits + np.array([1.0, 0.0])).astype(np.float32)
    return changes


def steps_per_epoch(split: Split, config: Experiment) -> int:
    """Steps of one epoch; a batch is never larger than the split."""
    source, _ = draw_views(len(split), config.dataset, split.size)
    per_class = _per_class(split.codes[source], config.dataset)
    images = per_class * len(np.unique(split.codes)) if per_class else len(source)
    return images // min(config.training.batch_size, images)


def _per_class(codes: NDArray[np.int32], dataset: Dataset) -> int | None:
    """How often each class occurs in an epoch; None where that is as often as it has samples."""
    if "oversample" not in dataset.balances:
        return None
    return dataset.per_class or int(np.bincount(codes).max())


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


def training_batches(
    split: Split, config: Experiment, epoch: int, first_step: int = 0, *, epochs: int = 1
) -> Any:
    """`tf.data.Dataset` of `epochs` epochs on end, the first one from step `first_step` on.

    The last part of an epoch that fills no batch is left out.

    Elements: float32 RGB in [0, 255], shape (batch, size, size, 3), and what is to be predicted, by
    the names in `config.model.targets`: `expression`, int32 class indices, shape (batch,);
    `valence_arousal`, float32, shape (batch, 2), NaN where unknown.
    """
    source, views = draw_views(len(split), config.dataset, split.size)
    augment = config.image.augment
    warp = augment.warps or config.dataset.expand is not None

    def draws() -> Iterator[tuple[Any, ...]]:
        for number in range(epoch, epoch + epochs):
            order = _order(split, config, source, number)
            generator = np.random.default_rng([config.seed, number, _AUGMENT])
            warps = compose(views[order], draw_warps(len(order), augment, split.size, generator))
            intensities = draw_intensities(len(order), augment, generator)
            start = first_step if number == epoch else 0
            for batch in _batches_of(len(order), config, start):
                yield source[order[batch]], warps[batch], intensities[batch]

    def load(index: Any, warps: Any, intensities: Any) -> tuple[Any, Any]:
        images = tf.cast(_fetch(split, index), tf.float32)
        if warp:
            images = _warped(images, warps, augment.fill)
        return _rgb(_intensified(images, intensities, augment)), _targets(split, config, index)

    signature = (
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None, 8), tf.float32),
        tf.TensorSpec((None, 2), tf.float32),
    )
    return _prefetched(tf.data.Dataset.from_generator(draws, output_signature=signature), load)


def training_rows(
    rows: Rows,
    split: Split,
    config: Experiment,
    epoch: int,
    first_step: int = 0,
    *,
    epochs: int = 1,
) -> Any:
    """As `training_batches`, with `rows` in place of the images, in the very same order.

    Of several views of an image, each epoch takes the next one.
    """
    source, _ = draw_views(len(split), config.dataset, split.size)
    views = len(rows) // len(source)
    generator = np.random.default_rng([config.seed, _TRUNK_VIEWS])
    first_view = generator.integers(views, size=len(source))

    def draws() -> Iterator[tuple[Any, ...]]:
        for number in range(epoch, epoch + epochs):
            order = _order(split, config, source, number)
            row = (first_view[order] + number) % views * len(source) + order
            start = first_step if number == epoch else 0
            for batch in _batches_of(len(order), config, start):
                yield row[batch], source[order[batch]]

    def load(row: Any, index: Any) -> tuple[Any, Any]:
        return _look_up(rows, row), _targets(split, config, index)

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.int64))
    return _prefetched(tf.data.Dataset.from_generator(draws, output_signature=signature), load)


def _order(
    split: Split, config: Experiment, source: NDArray[np.int64], epoch: int
) -> NDArray[np.int64]:
    codes = split.codes[source]
    return epoch_order(codes, _per_class(codes, config.dataset), seed=config.seed, epoch=epoch)


def _batches_of(count: int, config: Experiment, first_step: int) -> Iterator[slice]:
    """The whole batches of an epoch of `count` images, from `first_step` on."""
    size = min(config.training.batch_size, count)
    for step in range(first_step, count // size):
        yield slice(step * size, (step + 1) * size)


def _targets(split: Split, config: Experiment, index: Any) -> dict[str, Any]:
    known = {"expression": split.codes, "valence_arousal": split.valence_arousal}
    return {name: tf.gather(known[name], index) for name in config.model.targets}


def trunk_views(split: Split, config: Experiment, views: int) -> tuple[str, Callable[[int], Any]]:
    """The images that a trunk is shown when what it makes of them is kept.

    Those of `dataset.expand` and, with more than one of `views`, so many random changes of each.

    Returns: what decides which images these are, and a function from a batch size to a
        `tf.data.Dataset` of them in the order of `Rows`: float32 RGB in [0, 255].
    """
    source, warps = draw_views(len(split), config.dataset, split.size)
    wanted = config.image.augment
    augment = wanted if views > 1 else Augment(fill=wanted.fill)
    drawn = []
    for view in range(views):
        generator = np.random.default_rng([config.dataset.split_seed, _TRUNK_VIEWS, view])
        random = draw_warps(len(source), augment, split.size, generator)
        drawn.append((compose(warps, random), draw_intensities(len(source), augment, generator)))
    all_warps, intensities = (np.concatenate(part) for part in zip(*drawn, strict=True))
    index = np.tile(source, views)
    changes = augment.changes or config.dataset.expand is not None

    def load(index: Any, warps: Any, intensities: Any) -> Any:
        images = tf.cast(_fetch(split, index), tf.float32)
        if changes:
            images = _warped(images, warps, augment.fill)
        return _rgb(_intensified(images, intensities, augment))

    def batches(size: int) -> Any:
        dataset = tf.data.Dataset.from_tensor_slices((index, all_warps, intensities))
        return _prefetched(dataset.batch(size), load)

    hashed = hashlib.sha256(f"{split.digest} {augment.fill}".encode())
    for part in (index, all_warps, intensities):
        hashed.update(part.tobytes())
    return hashed.hexdigest(), batches


def evaluation_rows(rows: Rows, batch_size: int) -> Any:
    """`tf.data.Dataset` of batches of `rows`, in their order."""
    dataset = tf.data.Dataset.range(len(rows)).batch(batch_size)
    return _prefetched(dataset, lambda index: _look_up(rows, index))


def evaluation_batches(split: Split, batch_size: int) -> Any:
    """`tf.data.Dataset` of float32 RGB batches in [0, 255], in the order of the manifest."""
    dataset = tf.data.Dataset.range(len(split)).batch(batch_size)
    return _prefetched(dataset, lambda index: _rgb(tf.cast(_fetch(split, index), tf.float32)))


def first_images(
    manifest: Manifest, config: Experiment, split: str, number: int, *, augmented: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Up to `number` images as the network gets them, shape (n, size, size, 3), and their codes.

    With `augmented`, the first ones of the first epoch of training; else some in random order,
    without a change. No other image is decoded.

    Raises:
        DataError: an image cannot be decoded; the message names it.
    """
    files = split_files(manifest, split, config.image.size)
    if augmented:
        model = config.model.model_copy(update={"targets": ("expression",)})
        shown = config.model_copy(update={"model": model})
        batches = training_batches(files, shown, epoch=0)
        batches = batches.map(lambda images, targets: (images, targets["expression"]))
    else:
        some = np.random.default_rng(config.seed).permutation(len(files))[:number]
        boxes = None if files.boxes is None else files.boxes[some]
        files = replace(files, paths=files.paths[some], codes=files.codes[some], boxes=boxes)
        batches = tf.data.Dataset.zip(
            evaluation_batches(files, number),
            tf.data.Dataset.from_tensor_slices(files.codes).batch(number),
        )
    batches = batches.unbatch().take(number).batch(number)
    try:
        images, codes = next(batches.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise _undecodable(files.paths, files.channels) from error
    return images.round().clip(0, 255).astype(np.uint8), codes


def _prefetched(dataset: Any, load: Callable[..., Any]) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    # Each replica takes its part of every batch, not every batch of its part of the files.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(2).with_options(options)


def _fetch(split: Split, index: Any) -> Any:
    """Sample indices (n,) → uint8 images (n, size, size, channels)."""
    if split.pixels is not None:
        return _look_up(Rows(split.pixels, "uint8"), index)
    signature = tf.TensorSpec(split.shape[1:], tf.uint8)
    return tf.map_fn(_decoder(split), index, fn_output_signature=signature)


def _look_up(rows: Rows, index: Any) -> Any:
    """Row numbers (n,) → these rows, read from where they are kept."""
    values = rows.values
    stored = tf.as_dtype(values.dtype)
    found = tf.numpy_function(lambda row: np.asarray(values[row]), [index], stored, stateful=False)
    found = tf.ensure_shape(found, (None, *values.shape[1:]))
    return found if stored.name == rows.dtype else tf.bitcast(found, rows.dtype)


def _warped(images: Any, warps: Any, fill: str) -> Any:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=warps,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )


def _intensified(images: Any, intensities: Any, augment: Augment) -> Any:
    """Images in [0, 255] with changed contrast, around each one's mean, and brightness."""
    if not (augment.contrast or augment.brightness):
        return images
    contrast, added = (intensities[:, k, None, None, None] for k in (0, 1))
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((images - mean) * contrast + mean + added, 0.0, 255.0)


def _rgb(images: Any) -> Any:
    return tf.image.grayscale_to_rgb(images) if images.shape[-1] == 1 else images
