"""Everything that must survive a kill: atomic save, exact restore.

A save point is `progress.json` and the files of arrays that it names: what moves in the stage under
way, what stays as it is in that stage, and the best model so far. The arrays are written first,
each file under a name of its own, and `progress.json` is replaced in one step, so that a kill at
any moment leaves files that belong together.
"""

import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fer_bench.errors import RunError
from fer_bench.rundir import RunDirectory, write_json


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
        arrays: name of the file with the optimizer and the weights that move in the stage.
        still: name of the file with the weights that stay as they are in the stage.
        best_arrays: name of the file with what of the selected model moves in the stage; empty
            where `model.keras` is that model.
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
    still: str = ""
    best_arrays: str = ""

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
        optimizer: that of the stage.
        still: which of `model.variables`, by their numbers, stay as they are in the stage.
        is_best: whether this is the best model so far.
    """
    moving = {
        f"model/{index}": variable
        for index, variable in enumerate(model.variables)
        if index not in still
    }
    point = f"{progress.epoch:05d}-{progress.step:07d}"
    progress.arrays = f"arrays-{point}.npz"
    of_optimizer = {f"optimizer/{index}": v for index, v in enumerate(optimizer.variables)}
    _write(run, progress.arrays, moving | of_optimizer)
    if is_best:
        progress.best_arrays = f"best-{point}.npz"
        _write(run, progress.best_arrays, moving)
    name = f"still-{progress.stage:03d}.npz"
    if progress.still != name:
        progress.still = name
        _write(run, name, {f"model/{index}": model.variables[index] for index in still})
    save_progress(run, progress)
    named = {"progress.json", progress.arrays, progress.still, progress.best_arrays}
    for path in run.state.iterdir():
        if path.name not in named:
            path.unlink()


def save_progress(run: RunDirectory, progress: Progress) -> None:
    """Write `progress.json` alone, where the arrays that it names are there already."""
    write_json(run.state / "progress.json", asdict(progress))


def _write(run: RunDirectory, name: str, variables: Mapping[str, Any]) -> None:
    values = {key: np.asarray(variable.value) for key, variable in variables.items()}
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

    Kinds: `model` and `optimizer` as they were at the save point; `best`, the variables of the
    model as the selected one has them.

    Raises:
        RunError: a file is missing, damaged or was written by another model.
    """
    saved: dict[str, Any] = {}
    moving = progress.best_arrays if kind == "best" else progress.arrays
    prefix = "optimizer" if kind == "optimizer" else "model"
    for name in (progress.still, moving):
        saved |= _read(run, name)
    for index, variable in enumerate(variables):
        value = saved.get(f"{prefix}/{index}")
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
