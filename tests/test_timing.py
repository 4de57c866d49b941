"""Where the time of a command goes."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from messages import says
from typer.testing import Result

from fer_bench.timing import forget_times, timed, times

Fer = Callable[..., Result]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only element."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    forget_times()
    return now


def test_a_part_within_another_counts_once(clock: list[float]) -> None:
    with timed("training"):
        clock[0] += 1
        with timed("writing"):
            clock[0] += 10
        with timed("writing"):
            clock[0] += 100
        clock[0] += 1000
    assert times() == {"writing": 110.0, "training": 1001.0}


def test_what_fails_has_taken_time_too(clock: list[float]) -> None:
    def fail() -> None:
        clock[0] += 2
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"), timed("outer"), timed("inner"):
        fail()
    assert times() == {"inner": 2.0, "outer": 0.0}
    forget_times()
    assert times() == {}


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`-v` changes the environment and a logger."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    logger = logging.getLogger("fer_bench")
    level = logger.level
    yield
    logger.setLevel(level)


def test_evaluate_ends_with_where_the_time_went(
    trained_run: Path, fer: Fer, tmp_path: Path, loud: None
) -> None:
    shutil.copytree(trained_run, tmp_path / trained_run.name)
    result = fer("evaluate", trained_run.name, "--outputs", tmp_path, "-v")
    assert result.exit_code == 0, result.output
    *_, writing, total = result.stderr.strip().splitlines()
    says(writing, " s", "page")
    says(total, "in all")
    says(result.stderr, "importing TensorFlow", "decoding", "predicting", "computing metrics")
    usual = fer("evaluate", trained_run.name, "--outputs", tmp_path)
    assert "predicting" not in usual.stderr


@pytest.mark.slow
def test_train_ends_with_where_the_time_went(
    trained_run: Path, fer: Fer, tmp_path: Path, loud: None
) -> None:
    path = shutil.copy(trained_run / "config.yaml", tmp_path / "tiny.yaml")
    result = fer("train", path, "--outputs", tmp_path / "outputs", "-v")
    assert result.exit_code == 0, result.output
    parts = (
        *("checking", "importing TensorFlow", "building the network", "decoding"),
        *("entering the stages", "first step", "training steps", "validation", "checkpoints"),
    )
    says(result.stderr, *parts, "in all")
