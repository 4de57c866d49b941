"""Everything that must survive a kill: atomic save, exact restore.

A save point is a pair: the arrays, under a file name of their own, and `progress.json`, which names
that file. The arrays are written first and `progress.json` is replaced in one step, so that a kill
at any moment leaves a pair that belongs together.
"""

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fer_bench.errors import RunError
from fer_bench.rundir import RunDirectory, write_atomically, write_json


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
        arrays: name of the file with the weights and the optimizer.
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
    arrays: str = ""

    @property
    def done(self) -> bool:
        """Whether every epoch of every stage is behind."""
        return self.epoch >= sum(self.stage_epochs)


def save(run: RunDirectory, progress: Progress, model: Any, optimizer: Any) -> None:
    """Write a save point, then remove the older one."""
    progress.arrays = f"arrays-{progress.epoch:05d}-{progress.step:07d}.npz"
    buffer = io.BytesIO()
    values = _values("model", model.variables) | _values("optimizer", optimizer.variables)
    np.savez(buffer, **values)  # type: ignore[arg-type] # numpy types the keywords as one option
    write_atomically(run.state / progress.arrays, buffer.getvalue())
    write_json(run.state / "progress.json", asdict(progress))
    for path in run.state.iterdir():
        if path.name not in (progress.arrays, "progress.json"):
            path.unlink()


def _values(kind: str, variables: list[Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {f"{kind}/{index}": np.asarray(v.value) for index, v in enumerate(variables)}


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
    """Set `variables` (kind `model` or `optimizer`) to what the save point holds, bit for bit.

    Raises:
        RunError: the file is missing, damaged or was written by another model.
    """
    path = run.state / progress.arrays
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = [arrays[f"{kind}/{index}"] for index in range(len(variables))]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the save point cannot be read ({error}).\n"
            "Start the run anew with `fer train --fresh`."
        ) from error
    for variable, value in zip(variables, saved, strict=True):
        if tuple(variable.shape) != value.shape:
            raise RunError(
                f"{path}: {variable.path} has shape {value.shape} there, "
                f"{tuple(variable.shape)} in this model.\n"
                "Start the run anew with `fer train --fresh`."
            )
        variable.assign(value)
