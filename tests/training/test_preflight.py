"""What prevents training is reported before anything that takes long."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fer_bench.cli import train
from fer_bench.config.loading import load_experiment
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import write_json

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
Document = dict[str, Any]


class TensorFlowIsImportedError(Exception):
    """Where TensorFlow would be imported, which takes seconds."""


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise TensorFlowIsImportedError

    monkeypatch.setattr(train, "open_device", opened)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def begun(config: Path, outputs: Path, status: str) -> RunDirectory:
    run = RunDirectory(outputs / load_experiment(config).run_id)
    write_json(run.run_json, {"status": status, "ended": "2026-01-02"})
    return run


@pytest.mark.parametrize(
    ("section", "changes", "log"),
    [
        ("dataset", {"name": "folder", "root": "nowhere/faces"}, "nowhere/faces"),
        ("dataset", {"name": "rafdb", "root": "nowhere/rafdb"}, "nowhere/rafdb"),
        ("model", {"weights": "nowhere/first.keras"}, "nowhere/first.keras: no such file"),
        ("model", {"weights": "run:nobody-s1-00000000"}, "no run called"),
        ("model", {"weights": "imagenet"}, "no ImageNet weights for cnn_compact"),
    ],
)
def test_what_is_missing_is_reported_first(
    section: str,
    changes: Document,
    log: str,
    fer: Fer,
    write_config: WriteConfig,
    tiny: Document,
    outputs: Path,
) -> None:
    outputs.mkdir()
    config = write_config(tiny | {section: tiny[section] | changes})
    refused = fer("train", config, "--outputs", outputs)
    assert refused.exit_code == 2, refused.exception
    assert log in refused.stderr
    assert list(outputs.iterdir()) == []
    assert fer("train", config, "--outputs", outputs / "new").exit_code == 2
    assert list(outputs.iterdir()) == []


def test_without_problems_the_checks_pass(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    result = fer("train", write_config(tiny), "--outputs", outputs)
    assert isinstance(result.exception, TensorFlowIsImportedError)
    assert not outputs.exists()


def test_a_finished_run_is_left_at_once_and_cleared_of_what_a_kill_left(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(tiny | {"dataset": tiny["dataset"] | {"root": "gone"}})
    run = begun(config, outputs, "finished")
    (run.path / ".writing-model.keras").touch()
    write_json(run.state / "progress.json", {})
    done = fer("train", config, "--outputs", outputs)
    assert done.exit_code == 0, done.exception
    assert done.stdout == f"{run.run_id}\n"
    assert "--more-epochs" in done.stderr
    assert {path.name for path in run.path.iterdir()} == {"run.json", "lock"}


def test_a_run_that_is_being_trained_is_reported_at_once(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(tiny)
    with begun(config, outputs, "running").lock():
        refused = fer("train", config, "--outputs", outputs)
    assert refused.exit_code == 2, refused.exception
    assert "being trained by process" in refused.stderr


def test_a_resumed_run_does_not_need_its_first_weights(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(tiny | {"model": tiny["model"] | {"weights": "gone.keras"}})
    run = begun(config, outputs, "interrupted")
    progress = {"stage_epochs": [1, 2], "in_stage": {}}
    write_json(run.state / "progress.json", progress)
    result = fer("train", config, "--outputs", outputs)
    assert isinstance(result.exception, TensorFlowIsImportedError)
    refused = fer("train", config, "--outputs", outputs, "--fresh")
    assert refused.exit_code == 2, refused.exception
    assert json.loads((run.state / "progress.json").read_text()) == progress


def test_more_epochs_need_a_finished_run(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(tiny)
    begun(config, outputs, "interrupted")
    refused = fer("train", config, "--outputs", outputs, "--more-epochs", 2)
    assert refused.exit_code == 2, refused.exception
    assert "not finished" in refused.stderr
    assert fer("train", config, "--outputs", outputs, "--more-epochs", 0).exit_code == 2
