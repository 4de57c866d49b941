"""One run on several workers: as on one, and what happens when a worker is lost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.data.pipeline import Share
from fer_bench.device import collective
from fer_bench.runs.directory import RunDirectory, list_runs
from fer_bench.training.progress import read_progress

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "drawn_compact.yaml"
PLAIN = (
    *("image.size=24", "image.augment={flip: true, rotation: 0.05}", "dataset.validation=0.2"),
    *("model.head={pooling: avg, dropout: 0}", "model.backbone=cnn_compact"),
    *("training={batch_size: 12, precision: float32}",),
)
ALL = "{name: all, train: all, epochs: 2, learning_rate: 2.0e-4, freeze_batch_norm: %s}"
HEAD = "{name: head, train: head, epochs: 2, learning_rate: 1.0e-3, freeze_batch_norm: true}"


# Who does what -----------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 40), st.integers(0, 100))
def test_the_shares_of_all_workers_are_the_batch(
    workers: int, local: int, size: int, start: int
) -> None:
    parts = [
        part
        for worker in range(workers)
        for part in Share(workers * local, range(worker * local, (worker + 1) * local)).of(
            slice(start, start + size)
        )
    ]
    assert len(parts) == workers * local
    rows = [row for part in parts for row in range(part.start, part.stop)]
    assert rows == list(range(start, start + size))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 9), st.integers(0, 50))
def test_every_row_has_one_worker(workers: int, count: int) -> None:
    devices: list[Any] = [
        SimpleNamespace(workers=workers, worker=index) for index in range(workers)
    ]
    rows = [row for device in devices for row in collective.own_rows(device, count)]
    assert rows == list(range(count))


def test_alone_nothing_is_sent() -> None:
    device: Any = SimpleNamespace(workers=1, worker=0)
    collective.agree(device, "anything", "text")
    values = np.ones((2, 3), np.float32)
    assert collective.merged(device, values, 0, 2) is values
    assert collective.everywhere(device, True)
    assert not collective.everywhere(device, False)


def test_who_is_lost_is_named() -> None:
    device: Any = SimpleNamespace(workers=3, worker=0)
    text = "tasks are unhealthy:\n/job:worker/replica:0/task:2\nThe tasks have crashed."
    lost = collective.worker_lost(device, tf.errors.UnavailableError(None, None, text))
    says(lost, "worker 2 of the 3", "this is worker 0", "same command")
    lost = collective.worker_lost(device, tf.errors.UnavailableError(None, None, "Socket closed"))
    says(lost, "another worker of the 3", "this is worker 0")


# Real processes ----------------------------------------------------------------------------------


def free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def arguments(root: Path, outputs: Path, settings: Sequence[str]) -> list[str]:
    words = [sys.executable, "-m", "fer_bench", "train", str(CONFIG), "--outputs", str(outputs)]
    for setting in (f"dataset.root={root}", *PLAIN, *settings):
        words += ["--set", setting]
    return [*words, "--device", "cpu", "--threads", "1"]


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)


class Team:
    """Workers of one run, each with a log."""

    def __init__(self, words: Sequence[str], workers: int, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        addresses = ",".join(free_addresses(workers))
        self.logs = [logs / f"{index}.log" for index in range(workers)]
        self.processes = [
            start([*words, "--workers", addresses, "--index", str(index)], log)
            for index, log in enumerate(self.logs)
        ]

    def said(self, index: int) -> str:
        return self.logs[index].read_text(errors="replace")

    def wait(self, timeout: float = 900) -> list[int]:
        deadline = time.monotonic() + timeout
        return [process.wait(deadline - time.monotonic()) for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def history(outputs: Path) -> pd.DataFrame:
    (run,) = list_runs(outputs)
    return pd.read_csv(run.history)


CURVES = ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]


def assert_same_curves(one: Path, several: Path) -> None:
    first, second = history(one), history(several)
    for column in CURVES:
        np.testing.assert_allclose(second[column], first[column], rtol=1e-4, err_msg=column)


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.parametrize(
    ("workers", "frozen"),
    [
        pytest.param(2, "true", id="two without BatchNorm"),
        pytest.param(3, "false", id="three with synchronised BatchNorm"),
    ],
)
def test_several_workers_learn_what_one_learns(
    drawn_root: Path, tmp_path: Path, workers: int, frozen: str
) -> None:
    # Adam makes a step of full size of a gradient that is nothing but rounding, which differs.
    settings = [f"stages=[{ALL % frozen}, {HEAD}]", "training.optimizer=sgd"]
    alone = start(arguments(drawn_root, tmp_path / "one", settings), tmp_path / "one.log")
    team = Team(arguments(drawn_root, tmp_path / "all", settings), workers, tmp_path / "logs")
    try:
        assert team.wait() == [0] * workers, team.said(0) + team.said(1)
        assert alone.wait(240) == 0, (tmp_path / "one.log").read_text()
    finally:
        team.kill()
        alone.kill()
    assert_same_curves(tmp_path / "one", tmp_path / "all")
    (run,) = list_runs(tmp_path / "all")
    document = run.read_json(run.run_json)
    assert document["workers"] == workers
    assert document["device"].startswith(f"{workers} workers, each cpu")
    assert run.run_id in [line.split()[-1] for line in team.said(1).splitlines() if line]


LONG = (
    "stages=[{name: all, train: all, epochs: 60, learning_rate: 2.0e-4, freeze_batch_norm: true}]"
)


def wait_for_run(outputs: Path, team: Team) -> RunDirectory:
    while not (runs := sorted(outputs.glob("*/run.json"))):
        assert team.processes[0].poll() is None, team.said(0)
        time.sleep(0.3)
    return RunDirectory(runs[0].parent)


def wait_for_epochs(run: RunDirectory, epochs: int, team: Team) -> None:
    deadline = time.monotonic() + 900
    while not run.history.exists() or len(pd.read_csv(run.history)) < epochs:
        assert time.monotonic() < deadline, team.said(0) + team.said(1)
        time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_worker_stops_the_others_and_the_run_resumes(
    drawn_root: Path, tmp_path: Path, victim: int
) -> None:
    words = arguments(drawn_root, tmp_path / "all", [LONG])
    team = Team(words, 2, tmp_path / "logs")
    other = 1 - victim
    try:
        run = wait_for_run(tmp_path / "all", team)
        wait_for_epochs(run, 2, team)
        os.killpg(team.processes[victim].pid, signal.SIGKILL)
        assert team.processes[other].wait(900) == 2, team.said(other)
    finally:
        team.kill()
    says(team.said(other), "no longer responds", "same command", "checkpoint")
    assert "Traceback" not in team.said(other)
    reached = pd.read_csv(run.history)
    assert len(reached) < 60
    if other == 0:
        assert run.status() == "interrupted"

    again = Team(words, 2, tmp_path / "again")
    try:
        wait_for_epochs(run, len(reached) + 1, again)
    finally:
        again.kill()
    assert "resuming at epoch" in again.said(0)
    assert "resuming at epoch" in again.said(1)
    resumed = pd.read_csv(run.history)
    pd.testing.assert_frame_equal(resumed[CURVES][: len(reached)], reached[CURVES])


@pytest.fixture(scope="module")
def stopped_team(drawn_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run of two workers that were killed. Read only."""
    folder = tmp_path_factory.mktemp("stopped")
    team = Team(arguments(drawn_root, folder / "all", [LONG]), 2, folder / "logs")
    try:
        wait_for_epochs(wait_for_run(folder / "all", team), 3, team)
    finally:
        team.kill()
    return folder / "all"


def damage_weights(run: RunDirectory, checkpoint: str) -> Path:
    """Flip a bit of the weights of a checkpoint, and of their copy if there is one."""
    weights = run.state / read_progress(run.state / checkpoint).weights[-1]
    for path in run.state.glob(f"*{weights.name}"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    return weights


@pytest.mark.slow
@pytest.mark.scale
def test_several_workers_resume_before_a_damaged_checkpoint(
    drawn_root: Path, stopped_team: Path, tmp_path: Path
) -> None:
    (run,) = list_runs(shutil.copytree(stopped_team, tmp_path / "all"))
    before = read_progress(run.state / "progress-before.json").epoch
    damaged = damage_weights(run, "progress.json")
    reached = pd.read_csv(run.history)
    team = Team(arguments(drawn_root, run.outputs, [LONG]), 2, tmp_path / "logs")
    try:
        wait_for_epochs(run, len(reached) + 1, team)
    finally:
        team.kill()
    says(team.said(0), damaged.name, f"resuming at epoch {before + 1}")
    says(team.said(1), f"resuming at epoch {before + 1}")
    resumed = pd.read_csv(run.history)
    np.testing.assert_allclose(resumed[CURVES][: len(reached)], reached[CURVES], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.scale
def test_several_workers_refuse_when_no_checkpoint_is_intact(
    drawn_root: Path, stopped_team: Path, tmp_path: Path
) -> None:
    (run,) = list_runs(shutil.copytree(stopped_team, tmp_path / "all"))
    damaged = [damage_weights(run, name) for name in ("progress.json", "progress-before.json")]
    before = {path.name: path.read_bytes() for path in run.state.glob("[!.]*")}
    team = Team(arguments(drawn_root, run.outputs, [LONG]), 2, tmp_path / "logs")
    try:
        assert team.wait(240) == [2, 2], team.said(0) + team.said(1)
    finally:
        team.kill()
    for index in range(2):
        says(team.said(index), *(path.name for path in damaged), "nothing was changed", "--fresh")
        assert "Traceback" not in team.said(index)
    assert {path.name: path.read_bytes() for path in run.state.glob("[!.]*")} == before


@pytest.mark.slow
@pytest.mark.scale
def test_several_workers_train_a_run_anew_and_longer(drawn_root: Path, tmp_path: Path) -> None:
    outputs, settings = tmp_path / "all", [f"stages=[{HEAD}]", "training.optimizer=sgd"]
    words = arguments(drawn_root, outputs, settings)
    seen: list[pd.DataFrame] = []
    for number, more in enumerate([[], ["--fresh"], ["--more-epochs", "1"]]):
        team = Team([*words, *more], 2, tmp_path / f"logs {number}")
        try:
            assert team.wait() == [0, 0], team.said(0) + team.said(1)
        finally:
            team.kill()
        assert all(not path.name.startswith(".") for path in outputs.iterdir())
        seen.append(max((pd.read_csv(run.history) for run in list_runs(outputs)), key=len))
    first, anew, longer = (rows[CURVES] for rows in seen)
    np.testing.assert_allclose(anew, first, rtol=1e-4)
    assert len(longer) == len(first) + 1
    pd.testing.assert_frame_equal(longer[: len(first)], anew)
    assert "continuing from" in team.said(0)
    assert "continuing from" in team.said(1)


@pytest.mark.slow
@pytest.mark.scale
def test_workers_that_see_different_things_say_so(drawn_root: Path, tmp_path: Path) -> None:
    addresses = ",".join(free_addresses(2))
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    processes = []
    for index, log in enumerate(logs):
        words = arguments(drawn_root, tmp_path / "all", [LONG, f"seed={index}"])
        processes.append(start([*words, "--workers", addresses, "--index", str(index)], log))
    try:
        assert [process.wait(120) for process in processes] == [2, 2]
    finally:
        for process in processes:
            process.kill()
    for log in logs:
        says(log.read_text(), "differs between worker 0 and worker 1", "shared file system")
