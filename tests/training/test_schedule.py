"""The schedule: which stage owns an epoch, and the learning rate of every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import stage

from fer_bench.training.schedule import learning_rate_at, stage_at

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(lengths)
def test_every_epoch_belongs_to_one_stage_and_stages_follow_in_order(epochs: list[int]) -> None:
    owners = [stage_at(epochs, epoch) for epoch in range(sum(epochs))]
    assert [index for index, _ in owners] == [
        index for index, length in enumerate(epochs) for _ in range(length)
    ]
    assert all(first == sum(epochs[:index]) for index, first in owners)


@given(lengths)
def test_past_the_last_epoch_there_is_no_stage(epochs: list[int]) -> None:
    with pytest.raises(IndexError, match="after the last of"):
        stage_at(epochs, sum(epochs))


def test_a_constant_learning_rate_stays() -> None:
    assert {learning_rate_at(stage(), epochs) for epochs in (0, 1.5, 4)} == {0.1}


def test_cosine_falls_from_the_peak_to_zero() -> None:
    cosine = stage(schedule="cosine")
    rates = [learning_rate_at(cosine, epochs) for epochs in np.linspace(0, 4, 20)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert learning_rate_at(cosine, 2) == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0)


def test_warmup_rises_in_a_line_and_meets_the_peak() -> None:
    warm = stage(schedule="cosine", warmup=2)
    assert [learning_rate_at(warm, epochs) for epochs in (0, 1, 2)] == [0, 0.05, 0.1]
    assert learning_rate_at(warm, 3) == pytest.approx(0.05)
