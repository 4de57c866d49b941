"""Manifest → batches of images: decode, resize, augment, batch.

Order and augmentation are pure functions of (seed, epoch). They are drawn with numpy for the whole
epoch at once, so that an epoch can start at any of its steps and no random operation is left for
the parallel part, where it would not be reproducible.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config import Augment, Experiment
from fer_bench.errors import DataError
from fer_bench.manifest import Manifest

# Up to this many bytes of decoded images are kept in memory; beyond, files are decoded each time.
MEMORY_BYTES = 4 * 2**30
DECODE_BATCH = 256
_ORDER, _AUGMENT = 0, 1  # streams of random numbers of one epoch


@dataclass(frozen=True)
class Split:
    """The samples of one split, every image of which has been decoded once.

    Attributes:
        paths: absolute file names, shape (n,).
        codes: class indices, shape (n,).
        pixels: decoded uint8 images (n, size, size, channels), or None where they are too many.
        size: height and width in pixels.
        channels: 1 or 3.
    """

    paths: NDArray[np.str_]
    codes: NDArray[np.int32]
    pixels: Any
    size: int
    channels: int

    def __len__(self) -> int:
        return len(self.codes)


def open_split(
    manifest: Manifest,
    split: str,
    size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Decode every image of a split, so that a broken one is named before anything is computed.

    `on_progress` is called with (images decoded, images in all).

    Raises:
        DataError: an image cannot be decoded; the message names it.
    """
    rows = manifest.split(split)
    paths = np.array([str(manifest.root / path) for path in rows["path"]])
    keep = len(paths) * size * size * manifest.channels <= MEMORY_BYTES
    pixels = np.empty((len(paths), size, size, manifest.channels), dtype=np.uint8) if keep else None
    done = 0
    try:
        for batch in _decoded_batches(paths, size, manifest.channels):
            if pixels is not None:
                pixels[done : done + len(batch)] = batch
            done += len(batch)
            if on_progress:
                on_progress(done, len(paths))
    except (tf.errors.InvalidArgumentError, tf.errors.OpError) as error:
        raise _undecodable(paths[done : done + DECODE_BATCH], manifest.channels) from error
    if pixels is not None:
        with tf.device("CPU"):
            pixels = tf.constant(pixels)
    return Split(paths, manifest.codes(split), pixels, size, manifest.channels)


def _decoded_batches(paths: NDArray[np.str_], size: int, channels: int) -> Any:
    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.map(
        lambda path: _decode(path, size, channels), num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataset.batch(DECODE_BATCH).prefetch(2).as_numpy_iterator()


def _decode(path: Any, size: int, channels: int) -> Any:
    """File name → uint8 image (size, size, channels)."""
    image = tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
    shape = tf.shape(image)
    if tf.reduce_any(shape[:2] != size):
        resized = tf.image.resize(image, (size, size), antialias=True)
        image = tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
    return tf.ensure_shape(image, (size, size, channels))


def _undecodable(paths: NDArray[np.str_], channels: int) -> DataError:
    """The error that names the first of `paths` which does not decode."""
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
    return DataError(f"an image near {paths[0]} could be read only at the second try; try again.")


def epoch_order(
    codes: NDArray[np.int32], *, oversample: bool, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Sample indices of one training epoch: every sample once, in random order.

    With `oversample`, each class occurs as often as the largest: its samples all equally often,
    but for a random remainder.
    """
    generator = np.random.default_rng([seed, epoch, _ORDER])
    if not oversample:
        return generator.permutation(len(codes))
    largest = int(np.bincount(codes).max())
    order = np.concatenate(
        [_repeat_to(np.flatnonzero(codes == code), largest, generator) for code in np.unique(codes)]
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
    images = len(split)
    if config.dataset.balance == "oversample":
        images = int(np.bincount(split.codes).max() * len(np.unique(split.codes)))
    return images // min(config.training.batch_size, images)


def training_batches(split: Split, config: Experiment, epoch: int, first_step: int = 0) -> Any:
    """`tf.data.Dataset` of one epoch from step `first_step` on; a last part of a batch is left out.

    Elements: float32 RGB in [0, 255], shape (batch, size, size, 3), and int32 class indices, shape
    (batch,).
    """
    oversample = config.dataset.balance == "oversample"
    order = epoch_order(split.codes, oversample=oversample, seed=config.seed, epoch=epoch)
    augment = config.image.augment
    generator = np.random.default_rng([config.seed, epoch, _AUGMENT])
    warps = draw_warps(len(order), augment, split.size, generator)
    intensities = draw_intensities(len(order), augment, generator)
    batch_size = min(config.training.batch_size, len(order))
    steps = slice(first_step * batch_size, len(order) // batch_size * batch_size)
    dataset = tf.data.Dataset.from_tensor_slices((order[steps], warps[steps], intensities[steps]))

    def load(index: Any, warps: Any, intensities: Any) -> tuple[Any, Any]:
        images = _augmented(_fetch(split, index), warps, intensities, augment)
        return _rgb(images), tf.gather(split.codes, index)

    return _prefetched(dataset.batch(batch_size, drop_remainder=True), load)


def evaluation_batches(split: Split, batch_size: int) -> Any:
    """`tf.data.Dataset` of float32 RGB batches in [0, 255], in the order of the manifest."""
    dataset = tf.data.Dataset.range(len(split)).batch(batch_size)
    return _prefetched(dataset, lambda index: _rgb(tf.cast(_fetch(split, index), tf.float32)))


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
        return tf.gather(split.pixels, index)
    return tf.map_fn(
        lambda path: _decode(path, split.size, split.channels),
        tf.gather(split.paths, index),
        fn_output_signature=tf.TensorSpec((split.size, split.size, split.channels), tf.uint8),
    )


def _augmented(images: Any, warps: Any, intensities: Any, augment: Augment) -> Any:
    """uint8 images → float32 in [0, 255], warped and with changed contrast and brightness."""
    images = tf.cast(images, tf.float32)
    if augment.warps:
        images = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=warps,
            output_shape=tf.shape(images)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode=augment.fill.upper(),
        )
    if augment.contrast or augment.brightness:
        contrast, added = (intensities[:, k, None, None, None] for k in (0, 1))
        mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
        images = tf.clip_by_value((images - mean) * contrast + mean + added, 0.0, 255.0)
    return images


def _rgb(images: Any) -> Any:
    return tf.image.grayscale_to_rgb(images) if images.shape[-1] == 1 else images
