"""Frozen features: the outputs of a run's frozen trunks for its images, computed once and kept."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fer_bench.data.decoding import Rows
from fer_bench.data.pipeline import evaluation_rows
from fer_bench.models import inference, trunk
from fer_bench.models.freezing import ResolvedStage
from fer_bench.storage.array_cache import Store, Wanted
from fer_bench.storage.array_file import StoredArray

# Part of every cache key. It changes when the same trunk computes something else.
_COMPUTING = 2
# NumPy does not have bfloat16; its bits are kept as integers of two bytes.
_BITS = np.uint16


@dataclass(frozen=True)
class Images:
    """The images that a trunk computes features of.

    Attributes:
        split: the name of the split.
        key: identifies these images in cache keys.
        count: number of images, n.
        batches: a function from a batch size to a `tf.data.Dataset` of float32 RGB in [0, 255].
    """

    split: str
    key: str
    count: int
    batches: Callable[[int], Any]


def trunks_from(stages: Sequence[ResolvedStage], index: int, model: Any) -> list[str]:
    """The last layers of the trunks that can be computed now: of stage `index` and later stages.

    The trunk of a later stage can be computed if no stage before it trains one of its layers.
    Shallowest first, so that each can be computed from the one before.
    """
    place = {layer.name: number for number, layer in enumerate(model.operations)}
    ends: set[str] = set()
    trained: set[str] = set()
    for stage in stages[index:]:
        if stage.trunk and not trained & {
            layer.name for layer in trunk.part(model, None, stage.trunk).layers
        }:
            ends.add(stage.trunk)
        trained |= stage.trained
    return sorted(ends, key=place.__getitem__)


def keep_features(
    model: Any,
    ends: Sequence[str],
    splits: Sequence[Images],
    store: Store,
    strategy: Any,
    batch_size: int,
    on_progress: Callable[[str, str, int, int], None],
) -> dict[str, dict[str, Rows]]:
    """The outputs of the trunks of `model` that end with the layers `ends`, as cached rows.

    Each trunk is computed from the one before, so that all together cost one pass through the
    deepest. Those that the cache has no room for are left out.

    Args:
        model: with the current weights of the trunks.
        ends: names of layers, shallowest first, see `trunks_from`.
        splits: the images.
        store: where the rows are kept.
        strategy: the devices that compute.
        batch_size: images at a time.
        on_progress: called with (end, name of the split, images done, images in total).

    Returns:
        The rows by the name of the split and the end.
    """
    kept: list[StoredArray] = []
    rows: dict[str, dict[str, Rows]] = {images.split: {} for images in splits}

    @functools.cache  # tracing a large network takes seconds: once for all splits
    def step(start: str | None, end: str) -> Any:
        return inference.build_predict_step(strategy, trunk.part(model, start, end), ("features",))

    def blocks(images: Images, end: str) -> Iterator[NDArray[Any]]:
        start, before = next(reversed(rows[images.split].items()), (None, None))
        inputs = evaluation_rows(before, batch_size) if before else images.batches(batch_size)
        done = 0
        for answer in inference.answers(strategy, step(start, end), inputs):
            values = answer["features"]
            done += len(values)
            on_progress(end, images.split, done, images.count)
            yield values if values.dtype.kind in "biufc" else values.view(_BITS)

    for end, digest in trunk.digests(model, ends).items():
        for images in splits:
            wanted = _wanted(model, end, digest, images)
            array = store.keep(wanted, functools.partial(blocks, images, end), kept)
            if array is not None:
                # Mapped at once, since another process may remove the file from now on.
                rows[images.split][end] = Rows(array.memmap(), array.dtype)
                kept.append(array)
    return rows


def _wanted(model: Any, end: str, digest: str, images: Images) -> Wanted:
    output = trunk.output_of(model, end)
    return Wanted(
        "trunk",
        f"{_COMPUTING} {digest} {images.key}",
        (images.count, *output.shape[1:]),
        keras.backend.standardize_dtype(output.dtype),
        {"network": model.name, "up to": end, "split": images.split, "images": images.count},
    )


def row_bytes(model: Any, end: str) -> int:
    """The size in bytes of the output for one image of the trunk that ends with the layer `end`."""
    output = trunk.output_of(model, end)
    width = 4 if keras.backend.standardize_dtype(output.dtype) == "float32" else 2
    return width * math.prod(int(size) for size in output.shape[1:])
