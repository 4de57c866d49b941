"""Accuracy and macro F1 of many runs on the same bootstrap resamples, as matrix products.

In a class-stratified resample the images of each class keep their number, so both metrics follow
from two counts: how many drawn images of a class are recognised, and how many are predicted as
each class. With the draws as a matrix (resamples x images) and the predictions of all runs side
by side as another of zeros and ones (images x classes and runs), products in float32 give all of
these counts, exactly, for every run and resample.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fer_bench.device.machine import usable_cores
from fer_bench.metrics.predictions import Expression

# Resamples in one product: with 300 runs of 7 classes, a thread then holds less than 40 MB.
_AT_A_TIME = 512
_MOST_THREADS = 8

FloatArray = NDArray[np.float64]
_Counts = NDArray[np.float32]


def expression_draws(
    runs: Sequence[Expression], resamples: int, seed: int
) -> Mapping[str, FloatArray]:
    """Two metrics of several runs, entry r of all of them on the same resample of the images.

    Args:
        runs: at least one; all with the same classes (in any order), and the same images and
            labels in the same order.
        resamples: their number R.
        seed: of the resamples, which depend on nothing but it and the labels.

    Returns:
        `accuracy` and `macro_f1`, as `metrics` defines them, each of shape (runs, R).
    """
    classes = sorted(runs[0].classes)
    codes = [_codes(run, classes) for run in runs]
    order = np.argsort(codes[0][0], kind="stable")
    labels, predicted = codes[0][0][order], np.stack([own[order] for _, own in codes], axis=1)
    sizes = np.bincount(labels, minlength=len(classes))
    right = (predicted == labels[:, None]).astype(np.float32)
    # The last class is left out: it has what the others leave of the images.
    said = [(predicted == code).astype(np.float32) for code in range(len(classes) - 1)]
    answers = np.concatenate(said, axis=1)
    draws = {name: np.empty((len(runs), resamples)) for name in ("accuracy", "macro_f1")}

    def fill(start: int) -> None:
        # A generator for each stretch, so that no thread waits for the numbers of another.
        generator = np.random.default_rng([seed, start])
        drawn = _drawn(sizes, min(_AT_A_TIME, resamples - start), generator)
        recognised = _by_class(drawn, right, sizes)
        occurrences = _predicted(drawn @ answers, len(classes), len(labels))
        occurrences += sizes.astype(np.float32)[:, None]
        # Where a class is neither there nor predicted, nothing is recognised either: 0 / 1.
        np.maximum(occurrences, 1, out=occurrences)
        scores = np.divide(recognised, occurrences, dtype=np.float64).sum(axis=1)
        stretch = slice(start, start + len(drawn))
        draws["accuracy"][:, stretch] = recognised.sum(axis=1, dtype=np.float64).T / len(labels)
        draws["macro_f1"][:, stretch] = 2 * scores.T / len(classes)

    # The stretches share the cores; products that each want all of them would wait for another.
    threads = min(_MOST_THREADS, usable_cores().number)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, resamples, _AT_A_TIME)))
    return draws


def _codes(run: Expression, classes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and predictions as positions in `classes`."""
    code = np.array([classes.index(name) for name in run.classes])
    return code[run.labels], code[run.predicted]


def _drawn(sizes: NDArray[np.int64], resamples: int, generator: np.random.Generator) -> _Counts:
    """How often each image is drawn in each resample, images in the order of their classes."""
    drawn = np.empty((resamples, sizes.sum()), np.float32)
    for start, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True):
        if size:
            chosen = generator.integers(0, size, (resamples, size), dtype=np.int32)
            chosen += np.arange(0, resamples * size, size, dtype=np.int32)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=resamples * size)
            drawn[:, start : start + size] = counts.reshape(resamples, size)
    return drawn


def _by_class(drawn: _Counts, right: _Counts, sizes: NDArray[np.int64]) -> _Counts:
    """Recognised images by resample, class and run."""
    recognised = np.zeros((len(drawn), len(sizes), right.shape[1]), np.float32)
    for code, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        members = slice(start, start + size)
        recognised[:, code] = drawn[:, members] @ right[members]
    return recognised


def _predicted(counts: _Counts, classes: int, images: int) -> _Counts:
    """Predicted images by resample, class and run, from those of all classes but the last."""
    others = counts.reshape(len(counts), classes - 1, -1)
    rest = images - others.sum(axis=1, keepdims=True)
    return np.concatenate([others, rest], axis=1)
