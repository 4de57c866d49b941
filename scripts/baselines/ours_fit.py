"""fer-bench as in `fer train`, taking turns with the plain scripts."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from baselines.task import LEARNING_RATE, Stage, Task, read_task
from baselines.turns import Turns, open_turns
from fer_bench.config.experiment import Experiment
from fer_bench.device.selection import open_device
from fer_bench.errors import Interrupted
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.cache import VARIABLE
from fer_bench.training.session import chosen_precision
from fer_bench.training.train import train


class TurnTaking(PlainDisplay):
    """A display that ends the turn after each epoch, when everything is saved."""

    def __init__(self, turns: Turns, task: Task, run: RunDirectory) -> None:
        super().__init__(Console(stderr=True))
        self.turns, self.task, self.run = turns, task, run
        self.files = len(list((task.images / "train").glob("*/*")))
        self.parameters = 0

    def end_epoch(self, row: Mapping[str, Any], *, is_best: bool) -> None:
        """Answer the driver; leave training if it says so."""
        super().end_epoch(row, is_best=is_best)
        if not self.parameters:
            self.parameters = json.loads(self.run.run_json.read_text())["model"]["parameters"]
        # The incomplete last batch is not trained on and does not count.
        images = min(self.steps * min(self.task.batch_size, self.files), self.files)
        self.turns.end_epoch(images, self.parameters)
        if self.turns.stopped:
            raise Interrupted("stopped by the driver")


def experiment(task: Task) -> Experiment:
    """The task as an experiment."""
    return Experiment.model_validate(
        {
            "name": "benchmark",
            "seed": task.seed,
            # There is no third split: the validation images serve as the test split.
            "dataset": {"name": "folder", "root": str(task.images), "validation": None},
            "selection": "test_split",
            "image": {
                "size": task.size,
                "augment": asdict(task.augment),
            },
            "model": {"backbone": task.network},
            "training": {"batch_size": task.batch_size, "precision": task.precision},
            "stages": [_stage(number, stage) for number, stage in enumerate(task.stages)],
        }
    )


def _stage(number: int, stage: Stage) -> dict[str, Any]:
    return {
        "name": f"{number} {stage.train}",
        "train": {"last": stage.last} if stage.last else stage.train,
        "epochs": stage.epochs,
        "learning_rate": LEARNING_RATE,
        "freeze_batch_norm": stage.freezes_batch_norm,
    }


def main() -> None:
    """Train the task of the command line, in turns and with an empty cache."""
    task = read_task(sys.argv[1])
    turns = open_turns(whole=task.whole)
    device = open_device(task.device)
    config = experiment(task)
    turns.ready(
        versions={"tensorflow": tf.__version__, "keras": keras.__version__},
        device=device.name,
        precision=chosen_precision(config, device),
    )
    with tempfile.TemporaryDirectory(prefix="fer-bench-") as folder:
        os.environ[VARIABLE] = f"{folder}/cache"
        outputs = Path(folder) / "outputs"
        display = TurnTaking(turns, task, RunDirectory(outputs / config.run_id))
        try:
            train(config, outputs, device, display)
        except Interrupted:
            if not turns.stopped:
                raise
        turns.end()


if __name__ == "__main__":
    main()
