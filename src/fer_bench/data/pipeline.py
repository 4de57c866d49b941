"""Manifest → batches of images: order, look up, augment, batch.

Order and augmentation are pure functions of (seed, epoch). They are drawn with numpy for the whole
epoch at once, so that an epoch can start at any step, and no random operation is left for the
parallel part, where it would not be reproducible.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.model import Augment
from fer_bench.data.augmentation import (
    change_intensities,
    compose,
    draw_intensities,
    draw_warps,
    warp,
)
from fer_bench.data.decoding import Rows, Split, decode, decode_together, split_files
from fer_bench.data.manifest import Manifest

# Key of the soft labels of the expression among the targets of a batch.
SOFT_LABELS = "shares"

_ORDER, _AUGMENT = 0, 1  # streams of random numbers for each epoch
_VIEWS, _TRUNK_VIEWS = 2, 3  # streams of random numbers for each split seed
# The changes of `dataset.expand`.
VIEW = Augment(flip=True, rotation=20 / 360, shear=0.2, zoom=0.2)


@dataclass(frozen=True)
class Share:
    """The part of every training batch that this process reads.

    Attributes:
        parts: the number of parts of a batch, one for each device of all processes.
        own: the indices of the parts that are read here; each is an element of its own.
    """

    parts: int = 1
    own: range = range(1)

    def of(self, batch: slice) -> Iterator[slice]:
        """The parts of `batch` that are read here; all parts differ by one in size at most."""
        size = batch.stop - batch.start
        for part in self.own:
            first, end = (batch.start + size * number // self.parts for number in (part, part + 1))
            yield slice(first, end)


WHOLE = Share()


def epoch_order(
    codes: NDArray[np.int32], per_class: int | None, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Sample indices of one training epoch: every sample once, in random order.

    With `per_class`, each class occurs that often, and its samples equally often except for a
    random remainder.
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


def draw_views(
    images: int, dataset: Dataset, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The fixed training views of `dataset.expand`: the index of each one's image, and its map.

    Every image occurs unchanged, and again in other views, equally often except for a random
    remainder. Shapes (m,) and (m, 8) with m = expand; without it m = images, all unchanged.
    """
    views = dataset.expand or images
    generator = np.random.default_rng([dataset.split_seed, _VIEWS])
    added = _repeat_to(np.arange(images), views - images, generator)
    unchanged = draw_warps(images, Augment(), size, generator)
    changed = draw_warps(len(added), VIEW, size, generator)
    return np.concatenate([np.arange(images), added]), np.concatenate([unchanged, changed])


def steps_per_epoch(split: Split, config: Experiment) -> int:
    """Steps of one epoch; a batch is never larger than the split."""
    source, _ = draw_views(len(split), config.dataset, split.size)
    per_class = _per_class(split.codes[source], config.dataset)
    images = per_class * len(np.unique(split.codes)) if per_class else len(source)
    return images // min(config.training.batch_size, images)


def _per_class(codes: NDArray[np.int32], dataset: Dataset) -> int | None:
    """How often each class occurs in an epoch; None: as often as it has samples."""
    if "oversample" not in dataset.balances:
        return None
    return dataset.per_class or int(np.bincount(codes).max())


def training_batches(
    split: Split,
    config: Experiment,
    epoch: int,
    first_step: int = 0,
    *,
    epochs: int = 1,
    share: Share = WHOLE,
) -> Any:
    """`tf.data.Dataset` of `epochs` consecutive epochs, the first one from step `first_step` on.

    Only the parts of `share` are read of each batch. A last, incomplete batch is left out.

    Elements: float32 RGB in [0, 255], shape (batch, size, size, 3), and the targets, by the names
    in `config.model.targets`: `expression`, int32 class indices, shape (batch,); `valence_arousal`,
    float32, shape (batch, 2), NaN where unknown. Soft labels are added as `SOFT_LABELS`: float32,
    shape (batch, C), each row summing to 1.
    """
    source, views = draw_views(len(split), config.dataset, split.size)
    augment = config.image.augment

    def draws() -> Iterator[tuple[Any, ...]]:
        for number in range(epoch, epoch + epochs):
            order = _order(split, config, source, number)
            generator = np.random.default_rng([config.seed, number, _AUGMENT])
            warps = compose(views[order], draw_warps(len(order), augment, split.size, generator))
            intensities = draw_intensities(len(order), augment, generator)
            start = first_step if number == epoch else 0
            for batch in _batches_of(len(order), config, start, share):
                yield source[order[batch]], warps[batch], intensities[batch]

    view = _viewer(split, augment, moves=augment.warps or config.dataset.expand is not None)

    def load(index: Any, maps: Any, intensities: Any) -> tuple[Any, Any]:
        return view(index, maps, intensities), _targets(split, config, index)

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
    share: Share = WHOLE,
) -> Any:
    """`training_batches` with `rows` in place of the images, in the same order.

    If an image has several views, each epoch uses the next one.
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
            for batch in _batches_of(len(order), config, start, share):
                yield row[batch], source[order[batch]]

    def load(row: Any, index: Any) -> tuple[Any, Any]:
        return look_up(rows, row), _targets(split, config, index)

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.int64))
    return _prefetched(tf.data.Dataset.from_generator(draws, output_signature=signature), load)


def _viewer(split: Split, augment: Augment, *, moves: bool) -> Callable[..., Any]:
    """A function (indices, affine maps, intensities) → augmented float32 RGB in [0, 255].

    `moves`: whether any of the maps moves pixels.
    """

    def view(index: Any, maps: Any, intensities: Any) -> Any:
        images = tf.cast(fetch(split, index), tf.float32)
        if moves:
            images = warp(images, maps, augment.fill)
        return _rgb(change_intensities(images, intensities, augment))

    return view


def _order(
    split: Split, config: Experiment, source: NDArray[np.int64], epoch: int
) -> NDArray[np.int64]:
    codes = split.codes[source]
    return epoch_order(codes, _per_class(codes, config.dataset), seed=config.seed, epoch=epoch)


def _batches_of(count: int, config: Experiment, first_step: int, share: Share) -> Iterator[slice]:
    """The parts of `share` of every complete batch of an epoch of `count` images."""
    size = min(config.training.batch_size, count)
    for step in range(first_step, count // size):
        yield from share.of(slice(step * size, (step + 1) * size))


def _targets(split: Split, config: Experiment, index: Any) -> dict[str, Any]:
    known = {"expression": split.codes, "valence_arousal": split.valence_arousal}
    targets: dict[str, Any] = {name: tf.gather(known[name], index) for name in config.model.targets}
    if split.soft_labels is not None and "expression" in targets:
        targets[SOFT_LABELS] = tf.gather(split.soft_labels, index)
    return targets


def trunk_views(split: Split, config: Experiment, views: int) -> tuple[str, Callable[[int], Any]]:
    """The images for which the features of a frozen trunk are computed and kept.

    These are the images of `dataset.expand`; with more than one of `views`, that many random
    augmentations of each.

    Returns:
        A digest of these images, and a function from a batch size to a `tf.data.Dataset` of them in
        the order of `Rows`: float32 RGB in [0, 255].
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
    show = _viewer(split, augment, moves=augment.changes or config.dataset.expand is not None)

    def batches(size: int) -> Any:
        dataset = tf.data.Dataset.from_tensor_slices((index, all_warps, intensities))
        return _prefetched(dataset.batch(size), show)

    hashed = hashlib.sha256(f"{split.digest} {augment.fill}".encode())
    for part in (index, all_warps, intensities):
        hashed.update(part.tobytes())
    return hashed.hexdigest(), batches


def evaluation_rows(rows: Rows, batch_size: int, own: range | None = None) -> Any:
    """`tf.data.Dataset` of batches of `rows`, or of its rows `own`, in order."""
    dataset = _numbers(own, len(rows)).batch(batch_size)
    return _prefetched(dataset, lambda index: look_up(rows, index))


def evaluation_batches(split: Split, batch_size: int, own: range | None = None) -> Any:
    """`tf.data.Dataset` of float32 RGB batches in [0, 255], in the order of the manifest.

    It has all images, or those with the indices `own`.
    """
    dataset = _numbers(own, len(split)).batch(batch_size)
    return _prefetched(dataset, lambda index: _rgb(tf.cast(fetch(split, index), tf.float32)))


def _numbers(own: range | None, count: int) -> Any:
    return tf.data.Dataset.range(*(own.start, own.stop) if own else (0, count))


def first_images(
    manifest: Manifest, config: Experiment, split: str, number: int, *, augmented: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Up to `number` images as the network gets them, shape (n, size, size, 3), and their codes.

    With `augmented`, the first images of the first training epoch; else images in random order,
    unchanged. No other image is decoded.

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
    except tf.errors.OpError:
        decode(files, np.arange(len(files)))  # raises the error that TensorFlow wrapped
        raise
    return images.round().clip(0, 255).astype(np.uint8), codes


def fetch(split: Split, index: Any) -> Any:
    """Sample indices (n,) → uint8 images (n, size, size, channels)."""
    if split.pixels is not None:
        return look_up(Rows(split.pixels, "uint8"), index)
    images = tf.numpy_function(
        lambda rows: decode_together(split, rows), [index], tf.uint8, stateful=False
    )
    return tf.ensure_shape(images, (None, *split.shape[1:]))


def look_up(rows: Rows, index: Any) -> Any:
    """Row indices (n,) → these rows of `rows.values`."""
    values = rows.values
    stored = tf.as_dtype(values.dtype)
    found = tf.numpy_function(lambda row: np.asarray(values[row]), [index], stored, stateful=False)
    found = tf.ensure_shape(found, (None, *values.shape[1:]))
    return found if stored.name == rows.dtype else tf.bitcast(found, rows.dtype)


def _prefetched(dataset: Any, load: Callable[..., Any]) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    # Every replica reads a part of each batch; TensorFlow must not distribute the files instead.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(2).with_options(options)


def _rgb(images: Any) -> Any:
    return tf.image.grayscale_to_rgb(images) if images.shape[-1] == 1 else images
