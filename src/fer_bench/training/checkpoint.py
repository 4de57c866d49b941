"""Everything that must survive a kill: atomic save, exact restore.

A save point is `progress.json` and the files of arrays that it names: the optimizer, what moves in
the stage under way, what stays as it is in that stage, and both for the best model so far. The
arrays are written first, each file under a name of its own, and `progress.json` is replaced in one
step, so that a kill at any moment leaves files that belong together.
"""

import json
import shutil
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import write_json


@dataclass
class StageProgress:
    """What early stopping and the plateau rule remember inside one stage."""

    best_val_loss: float | None = None
    epochs_without_better: int = 0
    plateau_epochs: int = 0
    plateau_scale: float = 1.0


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        stage_epochs: epochs of each stage, shortened where early stopping ended one.
        epoch: epochs completed.
        step: steps completed of the epoch under way.
        stage: index of the stage whose optimizer is saved.
        totals: sums of loss, right answers and images over those steps.
        epoch_seconds: time spent in those steps.
        history: one row per completed epoch, as in `history.csv`.
        best: `epoch`, `metric` and `value` of the selected model, or None before the first epoch.
        in_stage: what the rules of the current stage remember.
        optimizer: name of the file with the optimizer; empty before the first save point.
        weights: names of the files that together hold the model: what stays as it is in the stage,
            and what moves.
        best_weights: the same of the selected model, which may be of an earlier stage.
        parent: the run that this one goes on from (`run_id`), after which of its epochs (`epoch`),
            and whether with its optimizer (`optimizer`: `kept` or `new`); None for most runs.
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
        """The names of all files of arrays."""
        return {self.optimizer, *self.weights, *self.best_weights} - {""}

    @property
    def done(self) -> bool:
        """Whether every epoch of every stage is behind."""
        return self.epoch >= sum(self.stage_epochs)


def save(
    run: RunDirectory,
    progress: Progress,
    model: Any,
    optimizer: Any,
    still: Collection[int] = (),
    *,
    is_best: bool = False,
) -> None:
    """Write a save point, then remove what belonged to older ones only.

    Args:
        run: the run that is saved.
        progress: where it stands; the names of its files are entered.
        model: the model as it is now.
        optimizer: that of the stage; None where the next stage begins with a new one.
        still: which of `model.variables`, by their numbers, stay as they are in the stage.
        is_best: whether this is the best model so far.
    """
    point = f"{progress.epoch:05d}-{progress.step:07d}"
    resting = f"still-{progress.stage:03d}.npz"
    moving = f"weights-{point}.npz"
    progress.optimizer = f"optimizer-{point}.npz" if optimizer else ""
    weights = dict(enumerate(model.variables))
    _write(run, moving, {index: v for index, v in weights.items() if index not in still})
    if optimizer:
        _write(run, progress.optimizer, dict(enumerate(optimizer.variables)))
    if resting not in progress.weights:
        _write(run, resting, {index: weights[index] for index in still})
    progress.weights = [resting, moving]
    if is_best:
        progress.best_weights = progress.weights
    write_json(run.state / "progress.json", asdict(progress))
    for path in run.state.iterdir():
        if path.name not in {"progress.json", *progress.files}:
            path.unlink()


def copy(source: RunDirectory, run: RunDirectory, progress: Progress) -> None:
    """Begin `run` with the arrays of `source` that `progress` names."""
    run.state.mkdir(parents=True, exist_ok=True)
    for name in sorted(progress.files):
        _copy_file(source.state / name, run, name)
    write_json(run.state / "progress.json", asdict(progress))


def _copy_file(path: Path, run: RunDirectory, name: str) -> None:
    run.replace_file(run.state / name, lambda temporary: shutil.copyfile(path, temporary))


def size(run: RunDirectory) -> int:
    """How many bytes the save point takes."""
    return sum(path.stat().st_size for path in run.state.glob("*"))


def _write(run: RunDirectory, name: str, variables: Mapping[int, Any]) -> None:
    values = {str(number): np.asarray(variable.value) for number, variable in variables.items()}
    run.state.mkdir(parents=True, exist_ok=True)
    # numpy types the keywords as one option
    run.replace_file(run.state / name, lambda path: np.savez(path, **values))  # type: ignore[arg-type]


def read_progress(run: RunDirectory) -> Progress | None:
    """The last save point, or None where the run has none.

    Raises:
        RunError: `progress.json` is there but cannot be read.
    """
    path = run.state / "progress.json"
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text())
        in_stage = StageProgress(**document.pop("in_stage"))
        return Progress(**document, in_stage=in_stage)
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}).\nStart the run anew with `fer train --fresh`."
        ) from error


def restore(run: RunDirectory, progress: Progress, kind: str, variables: list[Any]) -> None:
    """Set `variables` to what the save point holds of a kind, bit for bit.

    Kinds: `model` and `optimizer` as they were at the save point; `best`, the selected model.

    Raises:
        RunError: a file is missing, damaged or was written by another model.
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
                f"{run.state}: of {variable.path} the save point has {found}, this model has "
                f"{tuple(variable.shape)}.\nStart the run anew with `fer train --fresh`."
            )
        variable.assign(value)


def _read(run: RunDirectory, name: str) -> dict[str, Any]:
    path = run.state / name
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the save point cannot be read ({error}).\n"
            "Start the run anew with `fer train --fresh`."
        ) from error
