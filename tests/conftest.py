"""What many tests share: a tiny drawn dataset, a tiny experiment, and one run trained on it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

TRAIN, TEST, SIZE = 96, 48, 24
Fer = Callable[..., Result]


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 + 48 drawn faces of 24 px. Read only: take `copied_root` to damage them."""
    from fer_bench.datasets import drawn

    root = tmp_path_factory.mktemp("data") / "drawn"
    drawn.draw(root, seed=3, train=TRAIN, test=TEST, size=SIZE)
    return root


@pytest.fixture
def copied_root(drawn_root: Path, tmp_path: Path) -> Path:
    """A copy of the drawn faces that a test may damage."""
    return Path(shutil.copytree(drawn_root, tmp_path / "drawn"))


@pytest.fixture(scope="session")
def tiny(drawn_root: Path) -> dict[str, Any]:
    """An experiment of two stages that trains in seconds, with dropout and every augmentation."""
    return {
        "seed": 7,
        "dataset": {"name": "drawn", "root": str(drawn_root), "validation": 0.25},
        "image": {
            "size": SIZE,
            "augment": {
                "flip": True,
                "rotation": 0.05,
                "zoom": 0.1,
                "shear": 0.1,
                "shift": 0.1,
                "brightness": 0.1,
                "contrast": 0.1,
            },
        },
        "model": {"backbone": "cnn_compact", "head": {"pooling": "avg", "dropout": 0.3}},
        "training": {"batch_size": 16, "precision": "float32", "save_every": 2},
        "stages": [
            {"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-3},
            {
                "name": "all",
                "train": {"last": 12},
                "epochs": 2,
                "learning_rate": 1e-3,
                "schedule": "cosine",
            },
        ],
    }


@pytest.fixture(scope="session")
def fer() -> Fer:
    """Call `fer` in this process: `fer("train", path, "--outputs", folder)`."""
    from fer_bench.cli import app

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a document as YAML; returns the file, named `tiny.yaml` unless told otherwise."""

    def write(document: dict[str, Any], name: str = "tiny") -> Path:
        path = tmp_path_factory.mktemp("config") / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def trained_run(
    tiny: dict[str, Any],
    fer: Fer,
    write_config: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of one finished and evaluated run. Read only."""
    outputs = tmp_path_factory.mktemp("outputs")
    trained = fer("train", write_config(tiny), "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    run_id = trained.stdout.strip().splitlines()[-1]
    evaluated = fer("evaluate", run_id, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    return outputs / run_id
