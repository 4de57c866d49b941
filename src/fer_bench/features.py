"""What the frozen trunks of a run make of its images, each computed once and kept."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fer_bench import loop, trunk
from fer_bench.arrayfile import StoredArray
from fer_bench.cache import Store, Wanted
from fer_bench.pipeline import Rows, evaluation_rows
from fer_bench.schedule import ResolvedStage

# Part of the key of all that is kept. It changes when what a trunk computes does.
_COMPUTING = 1
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
    images: Images,
    store: Store,
    strategy: Any,
    batch_size: int,
    on_progress: Callable[[str, str, int, int], None],
) -> dict[str, Rows]:
    """What the trunks of `model` that end with the layers `ends` make of `images`, as kept rows.

    Each is computed from the one before, so that all together are one pass through the deepest. One
    for which there is no room is left out.

    Args:
        model: with the weights that the trunks have now.
        ends: names of layers, shallowest first, as from `trunks_from`.
        images: what the trunks are shown.
        store: where the rows are kept.
        strategy: the devices that compute.
        batch_size: images at a time.
        on_progress: called with (end, name of the split, images done, images in all).
    """
    kept: dict[str, StoredArray] = {}
    rows: dict[str, Rows] = {}
    last: str | None = None
    for end in ends:
        rest = trunk.part(model, last, end)
        inputs = evaluation_rows(rows[last], batch_size) if last else images.batches(batch_size)
        step = loop.build_predict_step(strategy, rest, ("features",))

        blocks = partial(
            _blocks, strategy, step, inputs, partial(on_progress, end, images.split), images.count
        )
        wanted = _wanted(model, end, rest, images)
        array = store.keep(wanted, blocks, list(kept.values()))
        if array is not None:
            # Mapped at once: from now on another process may remove the file.
            kept[end], rows[end], last = array, Rows(array.memmap(), array.dtype), end
    return rows


def _blocks(
    strategy: Any, step: Any, inputs: Any, on_progress: Callable[[int, int], None], count: int
) -> Iterator[NDArray[Any]]:
    """What `step` makes of the `inputs`, batch by batch; bfloat16 as its bits."""
    done = 0
    for answer in loop.answers(strategy, step, inputs):
        values = answer["features"]
        done += len(values)
        on_progress(done, count)
        yield values if values.dtype.kind in "biufc" else values.view(_BITS)


def _wanted(model: Any, end: str, rest: Any, images: Images) -> Wanted:
    digest = trunk.digest(trunk.part(model, None, end))
    return Wanted(
        "trunk",
        f"{_COMPUTING} {digest} {images.key}",
        (images.count, *rest.output.shape[1:]),
        keras.backend.standardize_dtype(rest.output.dtype),
        {"network": model.name, "up to": end, "split": images.split, "images": images.count},
    )


def row_bytes(model: Any, end: str) -> int:
    """What the trunk that ends with the layer `end` gives for one image takes."""
    output = trunk.output_of(model, end)
    width = 4 if keras.backend.standardize_dtype(output.dtype) == "float32" else 2
    return width * math.prod(int(size) for size in output.shape[1:])
