"""Checkpoints: everything that must survive a kill, saved atomically and restored exactly.

A checkpoint is `progress.json` and the array files that it names: the optimizer, the weights that
change in the current stage, those that are frozen in it, and both for the selected model. The
arrays are written first, under new names, and then `progress.json` is replaced in one step: a kill
at any moment leaves files that belong together.
"""

import shutil
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import read_json, why_unreadable, write_json


@dataclass
class StageProgress:
    """The state of early stopping and the plateau rule in one stage."""

    best_val_loss: float | None = None
    epochs_without_better: int = 0
    plateau_epochs: int = 0
    plateau_scale: float = 1.0


@dataclass
class Progress:
    """How far training is.

    Attributes:
        stage_epochs: epochs of each stage, fewer than planned if early stopping ended it.
        epoch: completed epochs.
        step: completed steps of the current epoch.
        stage: index of the stage whose optimizer is saved.
        totals: sums of loss, correct predictions and images over these steps.
        epoch_seconds: time spent in these steps.
        history: one row per completed epoch, as in `history.csv`.
        best: `epoch`, `metric` and `value` of the selected model, or None before the first epoch.
        in_stage: the state of the rules of the current stage.
        optimizer: name of the optimizer's file; empty before the first checkpoint.
        weights: names of the files with the weights: those frozen in the stage, and the others.
        best_weights: likewise for the selected model, which may be from an earlier stage.
        parent: the run that this one continues (`run_id`), after which of its epochs (`epoch`), and
            whether with its optimizer (`optimizer`: `kept` or `new`); None for most runs.
    """

    stage_epochs: list[int]
    epoch: int = 0
    step: int = 0
    stage: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    epoch_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    in_stage: StageProgress = field(default_factory=StageProgress)
    optimizer: str = ""
    weights: list[str] = field(default_factory=list)
    best_weights: list[str] = field(default_factory=list)
    parent: dict[str, Any] | None = None

    @property
    def files(self) -> set[str]:
        """The names of all array files."""
        return {self.optimizer, *self.weights, *self.best_weights} - {""}

    @property
    def done(self) -> bool:
        """Whether all epochs of all stages are completed."""
        return self.epoch >= sum(self.stage_epochs)


def save(
    run: RunDirectory,
    progress: Progress,
    model: Any,
    optimizer: Any,
    frozen: Collection[int] = (),
    *,
    is_best: bool = False,
) -> None:
    """Write a checkpoint, then remove the files that only older ones needed.

    Args:
        run: the run to save.
        progress: how far it is; the names of the files are set.
        model: the model as it is now.
        optimizer: the optimizer of the stage; None if the next stage begins with a new one.
        frozen: indices of those `model.variables` that do not change in the stage.
        is_best: whether this is the best model so far.
    """
    point = f"{progress.epoch:05d}-{progress.step:07d}"
    frozen_file = f"still-{progress.stage:03d}.npz"  # the name in the checkpoints of all versions
    trained_file = f"weights-{point}.npz"
    progress.optimizer = f"optimizer-{point}.npz" if optimizer else ""
    weights = dict(enumerate(model.variables))
    _write(run, trained_file, {index: v for index, v in weights.items() if index not in frozen})
    if optimizer:
        _write(run, progress.optimizer, dict(enumerate(optimizer.variables)))
    if frozen_file not in progress.weights:
        _write(run, frozen_file, {index: weights[index] for index in frozen})
    progress.weights = [frozen_file, trained_file]
    if is_best:
        progress.best_weights = progress.weights
    write_json(run.state / "progress.json", asdict(progress))
    for path in run.state.iterdir():
        if path.name not in {"progress.json", *progress.files}:
            path.unlink()


def copy(source: RunDirectory, run: RunDirectory, progress: Progress) -> None:
    """Start `run` with the arrays of `source` that `progress` names."""
    run.state.mkdir(parents=True, exist_ok=True)
    for name in sorted(progress.files):
        run.replace_file(run.state / name, partial(shutil.copyfile, source.state / name))
    write_json(run.state / "progress.json", asdict(progress))


def size(run: RunDirectory) -> int:
    """The size of the checkpoint in bytes."""
    return sum(path.stat().st_size for path in run.state.glob("*"))


def _write(run: RunDirectory, name: str, variables: Mapping[int, Any]) -> None:
    values = {str(number): np.asarray(variable.value) for number, variable in variables.items()}
    run.state.mkdir(parents=True, exist_ok=True)
    # numpy types the keywords as one option
    run.replace_file(run.state / name, lambda path: np.savez(path, **values))  # type: ignore[arg-type]


def read_progress(run: RunDirectory) -> Progress | None:
    """The progress at the last checkpoint, or None if there is none.

    Raises:
        RunError: `progress.json` cannot be read.
    """
    path = run.state / "progress.json"
    if not path.exists():
        return None
    try:
        document = read_json(path)
        in_stage = StageProgress(**document.pop("in_stage"))
        return Progress(**document, in_stage=in_stage)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path}: cannot be read ({_reason(error)}).\nStart again with `fer train --fresh`."
        ) from error


def _reason(error: Exception) -> str:
    return why_unreadable(error) if isinstance(error, OSError | ValueError) else str(error)


def restore(run: RunDirectory, progress: Progress, kind: str, variables: list[Any]) -> None:
    """Set `variables` to the values of a checkpoint, bit for bit.

    Args:
        run: the run that has the checkpoint.
        progress: its content, see `read_progress`.
        kind: `model` or `optimizer`, or `best` for the selected model.
        variables: what to set.

    Raises:
        RunError: a file is missing, damaged or was written for another model.
    """
    files = {
        "model": progress.weights,
        "best": progress.best_weights,
        "optimizer": [progress.optimizer],
    }
    saved: dict[str, Any] = {}
    for name in files[kind]:
        saved |= _read(run, name)
    for index, variable in enumerate(variables):
        value = saved.get(str(index))
        if value is None or tuple(variable.shape) != value.shape:
            found = "nothing" if value is None else f"shape {value.shape}"
            raise RunError(
                f"{run.state}: for {variable.path} the checkpoint has {found}, this model needs "
                f"shape {tuple(variable.shape)}.\nStart again with `fer train --fresh`."
            )
        variable.assign(value)


def _read(run: RunDirectory, name: str) -> dict[str, Any]:
    path = run.state / name
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the checkpoint cannot be read ({error}).\n"
            "Start again with `fer train --fresh`."
        ) from error
