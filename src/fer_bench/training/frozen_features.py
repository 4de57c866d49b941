"""What the frozen trunks of a run make of its images, each computed once and kept."""

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

# Part of the key of all that is kept. It changes when what a trunk computes does.
_COMPUTING = 2
# Numbers of two bytes that NumPy does not know; their bits are kept.
_BITS = np.uint16


@dataclass(frozen=True)
class Images:
    """The images that a trunk is shown.

    Attributes:
        split: the name of the split they are of.
        key: what decides which images these are.
        count: how many there are, n.
        batches: a function from a batch size to a `tf.data.Dataset` of float32 RGB in [0, 255].
    """

    split: str
    key: str
    count: int
    batches: Callable[[int], Any]


def trunks_from(stages: Sequence[ResolvedStage], index: int, model: Any) -> list[str]:
    """Where the trunks end that can be computed now: of the stage `index` and of later ones.

    That of a later stage can be if no stage before it trains one of its layers. Shallowest first,
    so that each goes on from the one before.
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
    """What the trunks of `model` that end with the layers `ends` make of images, as kept rows.

    Each is computed from the one before, so that all together are one pass through the deepest. One
    for which there is no room is left out.

    Args:
        model: with the weights that the trunks have now.
        ends: names of layers, shallowest first, as from `trunks_from`.
        splits: what the trunks are shown.
        store: where the rows are kept.
        strategy: the devices that compute.
        batch_size: images at a time.
        on_progress: called with (end, name of the split, images done, images in all).

    Returns:
        By the name of the split, the rows of each end.
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
                # Mapped at once: from now on another process may remove the file.
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
    """What the trunk that ends with the layer `end` gives for one image takes."""
    output = trunk.output_of(model, end)
    width = 4 if keras.backend.standardize_dtype(output.dtype) == "float32" else 2
    return width * math.prod(int(size) for size in output.shape[1:])
