"""A damaged file of an interrupted run: named, and the run still ends with the same bits."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from messages import says
from same_run import assert_same_run, record
from typer.testing import Result

from fer_bench.training import session
from fer_bench.training import steps as steps_module

# They train. What a damaged checkpoint costs is tested without training in test_checkpoint.py.
pytestmark = pytest.mark.slow

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
Document = dict[str, Any]


def progress_of(run: Path) -> Document:
    document: Document = json.loads((run / "state" / "progress.json").read_text())
    return document


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let training stop after so many steps, one in each call."""
    build, count = steps_module.build_train_steps, iter(range(1, 1000))

    def build_counting(*arguments: Any) -> Any:
        step = build(*arguments)

        def counting(*batch: Any) -> None:
            step(*batch)
            if next(count) == steps:
                os.kill(os.getpid(), signal.SIGINT)

        return counting

    patch.setattr(steps_module, "build_train_steps", build_counting)
    patch.setattr(session, "SECONDS_PER_CALL", 0)


@pytest.fixture(scope="module")
def config(write_config: WriteConfig, tiny: Document) -> Path:
    return write_config(tiny)


@pytest.fixture(scope="module")
def interrupted(config: Path, fer: Fer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped inside its last epoch. Read only."""
    outputs = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 9)
        stopped = fer("train", config, "--outputs", outputs)
    assert stopped.exit_code == 130, stopped.output
    (run,) = (path.parent for path in outputs.glob("*/run.json"))
    assert (progress_of(run)["epoch"], progress_of(run)["step"]) == (2, 1)
    return run


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(interrupted, tmp_path / "outputs" / interrupted.name))


def resumed(fer: Fer, config: Path, run: Path) -> str:
    """Train to the end; what was printed on stderr."""
    result = fer("train", config, "--outputs", run.parent)
    assert result.exit_code == 0, result.output
    return " ".join(result.stderr.split())


# What can be damaged, and how --------------------------------------------------------------------


def named(run: Path, what: str) -> Path:
    """A file of the run."""
    progress = progress_of(run)
    state = {
        "progress": "progress.json",
        "optimizer": progress["optimizer"],
        "still": progress["weights"][0],
        "weights": progress["weights"][1],
        "best": progress["best_weights"][1],
    }
    return run / "state" / state[what] if what in state else run / what


def test_a_folder_in_place_of_the_history_is_named_and_nothing_changes(
    config: Path, fer: Fer, run: Path
) -> None:
    (run / "history.csv").unlink()
    (run / "history.csv").mkdir()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = fer("train", config, "--outputs", run.parent)
    assert result.exit_code == 2, result.output
    says(result.stderr, run / "history.csv", "is a folder")
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after == before


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[:middle])
    elif how == "one bit flipped":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "missing":
        path.unlink()
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            other = {name: arrays[name] + 1 for name in arrays}
        with path.open("wb") as file:
            np.savez(file, **other)
    else:
        path.write_text("{}")


HOW = ["emptied", "cut", "one bit flipped", "missing", "other content"]


@pytest.mark.parametrize(
    ("what", "how"),
    [
        *(("progress", how) for how in HOW),
        ("optimizer", "missing"),
        ("weights", "cut"),
        ("still", "one bit flipped"),
        ("best", "other content"),
        ("history.csv", "cut"),
        ("history.csv", "missing"),
    ],
)
def test_a_damaged_file_is_named_and_the_run_ends_with_the_same_bits(
    what: str, how: str, run: Path, config: Path, fer: Fer, trained_run: Path
) -> None:
    path = named(run, what)
    damage(path, how)
    log = resumed(fer, config, run)
    says(log, f"warning: {path}", "resuming at epoch 3")
    assert_same_run(run, trained_run)


@pytest.mark.parametrize("how", [how for how in HOW if how != "one bit flipped"])
def test_a_damaged_record_is_written_again(
    how: str, run: Path, config: Path, fer: Fer, trained_run: Path
) -> None:
    before = record(run)
    damage(run / "run.json", how)
    log = resumed(fer, config, run)
    if how != "other content":  # which is a record, of which nothing is known
        says(log, f"warning: {run / 'run.json'}")
    says(log, "resuming at epoch 3, step 1")
    assert_same_run(run, trained_run)
    assert record(run)["started"] == before["started"]


def test_if_nothing_is_intact_every_file_is_named_and_nothing_changes(
    run: Path, config: Path, fer: Fer
) -> None:
    paths = [named(run, "weights"), run / "state" / "progress-before.json"]
    for path in paths:
        damage(path, "cut")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused = fer("train", config, "--outputs", run.parent)
    assert refused.exit_code == 2, refused.output
    says(refused.stderr.replace("\n", ""), "--fresh")
    for path in paths:
        says(refused.stderr, path.name)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_record_of_a_newer_version_is_not_written_again(
    run: Path, config: Path, fer: Fer
) -> None:
    (run / "run.json").write_text(json.dumps(record(run) | {"schema": 2}))
    before = (run / "run.json").read_bytes()
    refused = fer("train", config, "--outputs", run.parent)
    assert refused.exit_code == 2, refused.output
    says(refused.stderr, "run.json", "schema")
    assert (run / "run.json").read_bytes() == before


# Older versions -----------------------------------------------------------------------------------


def as_older(run: Path) -> None:
    """What a version without digests would have left."""
    document = progress_of(run)
    for key in ("digest", "digests", "origin"):
        del document[key]
    kept = {document["optimizer"], *document["weights"], *document["best_weights"]}
    for path in (run / "state").iterdir():
        if path.name not in kept:
            path.unlink()
    (run / "state" / "progress.json").write_text(json.dumps(document))


def test_a_checkpoint_of_an_older_version_is_resumed(
    run: Path, config: Path, fer: Fer, trained_run: Path
) -> None:
    as_older(run)
    log = resumed(fer, config, run)
    says(log, "resuming at epoch 3, step 1")
    assert "warning: /" not in log
    assert_same_run(run, trained_run)


def test_a_damaged_record_beside_a_checkpoint_of_an_older_version_is_refused(
    run: Path, config: Path, fer: Fer
) -> None:
    as_older(run)
    damage(run / "run.json", "cut")
    refused = fer("train", config, "--outputs", run.parent)
    assert refused.exit_code == 2, refused.output
    says(refused.stderr, "run.json", "--fresh")


# Kills --------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As a kill: nothing catches it."""


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("weights-", 3),
        ("copy-of-weights-", 2),
        ("progress.json", 4),
        ("progress-before.json", 4),
        ("history.csv", 2),
        (".writing-model.keras", 1),
    ],
)
def test_a_kill_between_two_files_changes_nothing(
    name: str,
    which: int,
    config: Path,
    fer: Fer,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace, count = Path.replace, iter(range(1, 1000))

    def replace_or_die(path: Path, target: Any) -> Path:
        names = (path.name, Path(target).name)
        if any(part.startswith(name) for part in names) and next(count) == which:
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_die)
        with pytest.raises(Killed):
            fer("train", config, "--outputs", tmp_path)
    log = resumed(fer, config, tmp_path / trained_run.name)
    assert "damaged" not in log
    assert f"warning: {tmp_path}" not in log
    assert_same_run(tmp_path / trained_run.name, trained_run)
