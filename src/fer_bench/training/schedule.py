"""The schedule: to which stage an epoch belongs, and the learning rate of every step."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from fer_bench.config.training import Stage


def stage_at(stage_epochs: Sequence[int], epoch: int) -> tuple[int, int]:
    """(index of the stage of the 0-based `epoch`, first epoch of that stage).

    `stage_epochs` are the lengths of the stages, as planned or as early stopping left them.

    Raises:
        IndexError: `epoch` is after the last one.
    """
    ends = list(accumulate(stage_epochs))
    index = bisect_right(ends, epoch)
    if index == len(ends):
        raise IndexError(f"epoch {epoch} is after the last of {ends[-1]}")
    return index, ends[index] - stage_epochs[index]


def learning_rate_at(stage: Stage, epochs: float) -> float:
    """Learning rate `epochs` (a fraction) after the start of `stage`, before plateau reductions."""
    if epochs < stage.warmup:
        return stage.learning_rate * epochs / stage.warmup
    if stage.schedule != "cosine":
        return stage.learning_rate
    part = (epochs - stage.warmup) / max(stage.epochs - stage.warmup, 1e-9)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
