"""All batches or all pixels of a split, for the tests of the data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_bench.config.experiment import Experiment
from fer_bench.data import decoding


def batches(split: decoding.Split, experiment: Experiment, *where: int) -> list[Any]:
    from fer_bench.data import pipeline

    dataset = pipeline.training_batches(split, experiment, *where)
    return [(images.numpy(), targets["expression"].numpy()) for images, targets in dataset]


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second) > 0
    for (images, codes), (other_images, other_codes) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(codes, other_codes)


def decoded(split: decoding.Split) -> NDArray[np.uint8]:
    """The pixels of a split that is in memory."""
    assert split.pixels is not None
    return split.pixels


def pixels(split: decoding.Split) -> Any:
    from fer_bench.data import pipeline

    return np.concatenate([batch.numpy() for batch in pipeline.evaluation_batches(split, 16)])
