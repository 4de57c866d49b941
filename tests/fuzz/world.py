"""A folder with one of everything that can be damaged, made once and restored before each input.

data/drawn         64 + 32 drawn faces            outputs/<finished>      trained, evaluated
listed/            the same faces with a CSV      outputs/<interrupted>   stopped between stages
archive.zip        the faces as a download        cache/                  what both have cached
experiment.yaml suite.yaml pair.yaml space.yaml table.txt predictions.csv
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from fuzz.snapshot import Snapshot

Fer = Callable[..., Any]

TABLE = """\
              precision    recall  f1-score   support

       anger       0.75      0.60      0.67        10
     neutral       0.67      0.80      0.73        10

    accuracy                           0.70        20
   macro avg       0.71      0.70      0.70        20
weighted avg       0.71      0.70      0.70        20
"""


# The folders of the usual download of FER2013.
FER2013_FOLDERS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}


@dataclass
class World:
    """Where everything lies.

    Attributes:
        root: the folder that inputs damage and commands work in.
        intact: a copy that nothing touches.
        finished: id of the run that is trained and evaluated.
        interrupted: id of the run that training can resume.
        other: id of a second finished run, which nothing damages.
    """

    root: Path
    intact: Path
    finished: str
    interrupted: str
    other: str
    _snapshot: Snapshot = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._snapshot = Snapshot(self.root, self.intact)

    @property
    def outputs(self) -> Path:
        """The folder of the runs."""
        return self.root / "outputs"

    def restore(self) -> None:
        """Everything as it was before the last input, with the times of the files."""
        self._snapshot.restore()

    def forget(self, damaged: Path) -> None:
        """Put a damaged file back in any case."""
        self._snapshot.forget(damaged)


def experiment(root: Path) -> dict[str, Any]:
    """Two stages that train in two seconds."""
    return {
        "seed": 5,
        "dataset": {"name": "drawn", "root": str(root / "data" / "drawn"), "validation": 0.25},
        "image": {"size": 24, "augment": {"flip": True}},
        "model": {"backbone": "cnn_compact", "head": {"pooling": "avg", "dropout": 0.2}},
        "training": {"batch_size": 16, "precision": "float32"},
        "stages": [
            {"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-3},
            {"name": "all", "train": {"last": 12}, "epochs": 1, "learning_rate": 1e-3},
        ],
    }


def build(folder: Path, fer: Fer) -> World:
    """Make the world in a new folder, by the commands that users type."""
    root = folder / "world"
    os.environ["FER_BENCH_CACHE"] = str(root / "cache")
    _write_inputs(root)

    config = root / "experiment.yaml"
    outputs = root / "outputs"
    finished = _train(fer, config, outputs, "--set", "seed=5")
    other = _train(fer, config, outputs, "--set", "seed=6")
    for run in (finished, other):
        result = fer("evaluate", run, "--outputs", outputs)
        assert result.exit_code == 0, result.output
    result = fer("evaluate", finished, "--outputs", outputs, "--corruptions", "brightness")
    assert result.exit_code == 0, result.output
    interrupted = _interrupt(fer, config, outputs)
    shutil.copy(outputs / other / "predictions" / "test.csv", root / "predictions.csv")
    shutil.copytree(root, folder / "intact", symlinks=True)
    return World(root, folder / "intact", finished, interrupted, other)


def _write_inputs(root: Path) -> None:
    from fer_bench.data.datasets import drawn

    drawn.draw(root / "data" / "drawn", seed=3, train=64, test=32, size=24)
    (root / "experiment.yaml").write_text(yaml.safe_dump(experiment(root), sort_keys=False))
    entry = {"config": "experiment.yaml", "seeds": [1, 2], "grid": {"training.batch_size": [8, 16]}}
    suite = {"description": "Four runs.", "runs": [entry]}
    (root / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    pair = {"description": "Two runs.", "runs": [{"config": "experiment.yaml", "seeds": [1, 2]}]}
    (root / "pair.yaml").write_text(yaml.safe_dump(pair, sort_keys=False))
    space = {
        "trials": 2,
        "seed": 0,
        "space": {
            "stages.0.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.head.dropout": {"choices": [0, 0.3]},
        },
    }
    (root / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    (root / "table.txt").write_text(TABLE)
    _write_list(root)


def _write_list(root: Path) -> None:
    """The drawn faces as images with a CSV file of paths and labels, and as an archive."""
    from fer_bench.data.datasets import drawn

    rows = drawn.read(root / "data" / "drawn").samples
    listed = root / "listed"
    listed.mkdir()
    lines = ["path,label,split"]
    for path, label, split in zip(rows["path"], rows["label"], rows["split"], strict=True):
        name = f"{len(lines):03d}.png"
        shutil.copy(root / "data" / "drawn" / path, listed / name)
        lines.append(f"{name},{label},{split}")
    (listed / "labels.csv").write_text("\n".join(lines) + "\n")
    folders = root / "folders"
    for line in lines[1:]:
        name, label, split = line.split(",")
        if label in FER2013_FOLDERS:
            place = folders / split / FER2013_FOLDERS[label]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(listed / name, place / name)
    shutil.make_archive(str(root / "archive"), "zip", folders)


def _train(fer: Fer, config: Path, outputs: Path, *options: str) -> str:
    result = fer("train", config, "--outputs", outputs, *options)
    assert result.exit_code == 0, result.output
    return str(result.stdout.strip().splitlines()[-1])


def _interrupt(fer: Fer, config: Path, outputs: Path) -> str:
    """A run that stopped after its first stage, as a kill leaves it."""
    from fer_bench.training import checkpoint

    save, calls = checkpoint.save, []

    def stop(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        calls.append(args)
        raise KeyboardInterrupt

    with mock.patch.object(checkpoint, "save", stop):
        result = fer("train", config, "--outputs", outputs, "--set", "seed=7")
    assert result.exit_code == 130, result.output
    (run,) = (path.parent.parent for path in outputs.glob("*-s7-*/state/progress.json"))
    return run.name
