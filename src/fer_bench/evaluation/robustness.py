"""Robustness: how much accuracy is left on corrupted and occluded images of one split.

The predictions for all corrupted images form one table; every number is computed from it and from
the saved predictions for the clean images.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data.decoding import Change, Split, open_split
from fer_bench.data.manifest import Manifest
from fer_bench.device.machine import usable_cores
from fer_bench.errors import RunError
from fer_bench.evaluation.corruptions import CORRUPTIONS, Condition, column, conditions, corrupt
from fer_bench.evaluation.corruptions.catalogue import SEED
from fer_bench.evaluation.corruptions.effects import Pixels
from fer_bench.metrics.arrays import FloatArray
from fer_bench.metrics.document import proportion_cell, resampled_cell
from fer_bench.metrics.intervals import CONFIDENCE
from fer_bench.metrics.measure import RESAMPLES, resample
from fer_bench.metrics.predictions import Expression, Predictions
from fer_bench.metrics.schema import SCHEMA, Cell, CorruptionsDocument

# A process pays from this many corrupted images on; they are sent to it this many at a time.
IMAGES_PER_PROCESS = 10_000
IMAGES_AT_A_TIME = 32


def measure(
    manifest: Manifest,
    split: str,
    size: int,
    predict: Callable[[Split], NDArray[Any]],
    chosen: Sequence[Condition],
    clean: Predictions,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, CorruptionsDocument]:
    """Predict a split again under every condition.

    Args:
        manifest: the dataset.
        split: the name of the split, of n samples.
        size: height and width in pixels of what the model gets.
        predict: gives the probabilities for every image of a split, shape (n, C), in the order of
            the classes of `clean`.
        chosen: what is done to the images, see `corruptions.select`.
        clean: the predictions for the clean images.
        on_progress: called with (images predicted, images in total), over all conditions.

    Returns:
        The table of `corruptions/<evaluation>.csv`: `sample_id`, and one column per condition with
        the name of the predicted class. And its summary, see `summarise`.

    Raises:
        RunError: `clean` has no expressions, or is about other samples.
        DataError: an image cannot be decoded; the message names it.
    """
    classes = np.array(_expression(clean).classes)
    keys = [str(key) for key in manifest.split(split)["sample_id"]]
    table: dict[str, Any] = {"sample_id": keys}
    images = _native_images(manifest, split, size)
    with _executor(len(images) * len(chosen)) as executor:
        for condition, corrupted in _corrupted(executor, images, keys, chosen):
            opened = open_split(manifest, split, size, change=_replacement(corrupted))
            table[column(*condition)] = classes[predict(opened).argmax(axis=1)]
            if on_progress:
                on_progress((len(table) - 1) * len(images), len(chosen) * len(images))
    frame = pd.DataFrame(table)
    return frame, summarise(frame, clean)


def _native_images(manifest: Manifest, split: str, size: int) -> list[Pixels]:
    """Every image of a split as it comes from its file, cropped: uint8, shape (h, w, channels)."""
    images: dict[int, Pixels] = {}

    def keep(image: Pixels, index: int) -> Pixels:
        images[index] = image
        return image

    open_split(manifest, split, size, change=keep)
    return [images[index] for index in range(len(images))]


def _replacement(images: Sequence[Pixels]) -> Change:
    return lambda _, index: images[index]


def _executor(images: int) -> Executor:
    """One process per core if there is enough work for several, else one thread."""
    processes = min(usable_cores().number, images // IMAGES_PER_PROCESS)
    if processes < 2:
        return ThreadPoolExecutor(1)
    # Spawned: a fork of a process that runs TensorFlow may wait forever.
    context = multiprocessing.get_context("spawn")
    # The terminal sends an interrupt to all processes; only the parent handles it.
    return ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))


def _corrupted(
    executor: Executor,
    images: Sequence[Pixels],
    keys: Sequence[str],
    chosen: Sequence[Condition],
) -> Iterator[tuple[Condition, list[Pixels]]]:
    """The images under each condition; the next condition is computed while one is used."""

    def start(condition: Condition) -> Iterator[Pixels]:
        name, severity = condition
        arguments = (images, repeat(name), repeat(severity), keys)
        return executor.map(corrupt, *arguments, chunksize=IMAGES_AT_A_TIME)

    under_way = start(chosen[0]) if chosen else iter(())
    for place, condition in enumerate(chosen):
        corrupted = list(under_way)
        if place + 1 < len(chosen):
            under_way = start(chosen[place + 1])
        yield condition, corrupted


# Results ---------------------------------------------------------------------------------------


def summarise(
    frame: pd.DataFrame, clean: Predictions, seed: int = 0, resamples: int = RESAMPLES
) -> CorruptionsDocument:
    """The content of `corruptions/<evaluation>.json`, ready for strict JSON.

    The accuracy under one condition has a Wilson interval. A mean over conditions has a percentile
    interval of a class-stratified bootstrap over images; all conditions of an image are drawn
    together. Occlusions are not part of any mean.

    Args:
        frame: `sample_id` and the predicted class under each condition, as `measure` returns it;
            any conditions, and rows in any order.
        clean: the predictions for the clean images.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        `n`; `clean`, the accuracy without corruption; `conditions`, the accuracy under each;
        `mean_corruption_accuracy` over the conditions that have a severity, `relative_drop`
        (1 - mean / clean) and `by_corruption`, the mean over the severities of each; `complete`,
        whether these are all fifteen corruptions in five severities.

    Raises:
        RunError: `clean` has no expressions, or `frame` is about other samples or has a column that
            is not a condition.
    """
    correct = _correct(frame, clean)
    was_correct = _expression(clean).correct
    graded = [condition for condition in correct if condition[1] is not None]
    means = {
        name: np.mean([correct[other] for other in graded if other[0] == name], axis=0)
        for name in dict.fromkeys(name for name, _ in graded)
    }
    overall = {"": np.mean([correct[condition] for condition in graded], axis=0)} if graded else {}
    draws = _resampled_means(clean, {"clean": was_correct, **overall, **means}, seed, resamples)
    return {
        "schema": SCHEMA,
        "n": len(clean),
        "clean": proportion_cell(was_correct),
        "conditions": [
            {
                "corruption": name,
                "family": CORRUPTIONS[name].family,
                "severity": severity,
                "accuracy": proportion_cell(correct[name, severity]),
            }
            for name, severity in correct
        ],
        "mean_corruption_accuracy": _mean_cell(overall.get(""), draws.get("")),
        "relative_drop": _drop_cell(was_correct, overall.get(""), draws),
        "by_corruption": {name: _mean_cell(of, draws[name]) for name, of in means.items()},
        "complete": len(graded) == sum(severity is not None for _, severity in _known().values()),
        "fingerprint": clean.fingerprint,
        "seed": SEED,
        "interval": {
            "level": CONFIDENCE,
            "methods": {
                "conditions": "wilson",
                "means": "class-stratified percentile bootstrap",
            },
            "resamples": resamples,
            "seed": seed,
        },
    }


def no_expressions() -> RunError:
    """The error for a run that predicts no expressions."""
    return RunError(
        "the run predicts no expressions, and corruptions are measured by their accuracy.\n"
        "Evaluate it without --corruptions, or train with model.targets: [expression]."
    )


def _expression(clean: Predictions) -> Expression:
    if clean.expression is None:
        raise no_expressions()
    return clean.expression


def _known() -> dict[str, Condition]:
    """Every condition, by the name of its column."""
    return {column(*condition): condition for condition in conditions()}


def _correct(frame: pd.DataFrame, clean: Predictions) -> dict[Condition, NDArray[np.bool_]]:
    """Whether each sample of `clean`, in its order, is classified correctly per condition, (n,)."""
    unknown = sorted(set(map(str, frame)) - {"sample_id", *_known()})
    if unknown or "sample_id" not in frame:
        found = f"{unknown[0]!r} is not a condition" if unknown else "it has no column sample_id"
        raise _unfit(found)
    row_of = {key: row for row, key in enumerate(frame["sample_id"].astype(str))}
    if len(row_of) != len(frame) or set(row_of) != set(clean.sample_ids):
        raise _unfit(
            f"its {len(frame):,} samples are not the {len(clean):,} of the predictions, each once"
        )
    rows = [row_of[key] for key in clean.sample_ids]
    return {
        condition: frame[column].to_numpy(dtype=np.str_)[rows] == clean.label_names
        for column, condition in _known().items()
        if column in frame
    }


def _unfit(found: str) -> RunError:
    return RunError(
        f"the table of corruptions does not fit the predictions: {found}.\n"
        "Write it again with `fer evaluate --corruptions`."
    )


def _resampled_means(
    clean: Predictions, samples: dict[str, NDArray[Any]], seed: int, resamples: int
) -> dict[str, FloatArray]:
    """The mean of one value per sample in every resample, {name: (n,)} → {name: (R,)}."""
    columns = np.stack([values.astype(np.float64) for values in samples.values()], axis=1)
    draws = resample(clean, lambda weights: weights @ columns / len(clean), seed, resamples)
    return dict(zip(samples, np.concatenate(draws).T, strict=True))


def _mean_cell(values: FloatArray | None, draws: FloatArray | None) -> Cell:
    """The mean of one value per sample, and its interval; None without values."""
    if values is None or draws is None:
        return {"value": None, "low": None, "high": None}
    return resampled_cell(float(values.mean()), draws)


def _drop_cell(
    clean: NDArray[np.bool_], values: FloatArray | None, draws: dict[str, FloatArray]
) -> Cell:
    """How far the mean is below the clean accuracy, as a share of it; None if that is 0."""
    if values is None or not clean.any():
        return {"value": None, "low": None, "high": None}
    drops = np.full(len(draws["clean"]), np.nan)
    np.divide(draws[""], draws["clean"], out=drops, where=draws["clean"] > 0)
    return resampled_cell(float(1 - values.mean() / clean.mean()), 1 - drops)
