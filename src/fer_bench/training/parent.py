"""Training a finished run for more epochs: as a new run, which continues it and names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.errors import ConfigError, RunError
from fer_bench.runs.directory import RunDirectory, find_run, list_runs
from fer_bench.runs.record import ParentRecord
from fer_bench.training import checkpoint
from fer_bench.training.checkpoint import Found
from fer_bench.training.progress import Progress


@dataclass(frozen=True)
class Parent:
    """The finished run that a longer one continues.

    Attributes:
        run: the finished run.
        progress: its last checkpoint, with more epochs to come. If the checkpoint was not kept: the
            epoch of the selected model, without an optimizer.
        problems: files of the checkpoint that are damaged, and whose copies are used.
    """

    run: RunDirectory
    progress: Progress
    problems: tuple[str, ...] = ()

    @property
    def has_state(self) -> bool:
        """Whether the last weights and the optimizer exist, so that training continues exactly."""
        return bool(self.progress.optimizer)


def longer(config: Experiment, more_epochs: int) -> Experiment:
    """`config` with `more_epochs` added to its last stage."""
    return _with_last_epochs(config, config.stages[-1].epochs + more_epochs)


def _with_last_epochs(config: Experiment, epochs: int) -> Experiment:
    *before, last = config.stages
    stages = (*before, last.model_copy(update={"epochs": epochs}))
    return config.model_copy(update={"stages": stages})


def find_parent(config: Experiment, more_epochs: int, outputs: Path) -> Parent:
    """The finished run of `config`, to be trained for `more_epochs` more.

    Raises:
        RunError: there is none, it is not finished, or its record cannot be read.
        ConfigError: early stopping ended its last stage: more epochs would change nothing.
    """
    run = find_run(outputs, config.run_id)
    if run.is_locked():
        raise RunError(f"{run.run_id}: this run is being trained.\nWait for it to end.")
    if run.status() != "finished":
        raise RunError(
            f"{run.run_id}: the run is not finished (status: {run.status()}).\n"
            "Finish it first: the same command without --more-epochs."
        )
    found = _last_checkpoint(run)
    progress = found.progress if found else _at_selected_model(run)
    _check_not_stopped_early(run, config, progress)
    progress.stage_epochs[-1] += more_epochs
    progress.parent = ParentRecord(
        run_id=run.run_id, epoch=progress.epoch, optimizer="kept" if found else "new"
    )
    return Parent(run, progress, found.problems if found else ())


def _last_checkpoint(run: RunDirectory) -> Found | None:
    """Raises: RunError if none is intact, with another advice than for a run to be resumed."""
    try:
        return checkpoint.find(run)
    except RunError as error:
        damaged = str(error).rpartition("\n")[0]
        raise RunError(
            f"{damaged}\nTrain the run again with --fresh, or remove {run.state}: the run is then "
            "continued from its selected model, with a new optimizer."
        ) from error


def _at_selected_model(run: RunDirectory) -> Progress:
    """How far a run was with the model that it selected."""
    record = run.read_record()
    best = record.best
    try:
        if best is None or best.epoch is None or not record.stages:
            raise ValueError(f"{run.run_json.name} has no best.epoch or no stages")
        history = [epoch.to_row() for epoch in run.read_history()[: best.epoch]]
        if len(history) < best.epoch:
            raise ValueError(f"{run.history.name} has {len(history)} epochs of {best.epoch}")
    except ValueError as error:
        raise RunError(
            f"{run.path}: cannot be continued, its record is not complete ({error}).\n"
            "Train it again with --fresh."
        ) from error
    stage_epochs = [stage.epochs for stage in record.stages]
    return Progress(stage_epochs, epoch=best.epoch, history=history, best=best, stage=-1)


def _check_not_stopped_early(run: RunDirectory, config: Experiment, progress: Progress) -> None:
    last, done = config.stages[-1], progress.stage_epochs[-1]
    waited = progress.in_stage.epochs_without_better
    if done < last.epochs or (last.patience and waited >= last.patience):
        raise ConfigError(
            f"--more-epochs: early stopping ended the last stage of {run.run_id} after {done} of "
            f"{last.epochs} epochs, and would end it again.\n"
            "Raise patience in a new experiment, which can start from this run with "
            f"model.weights: run:{run.run_id}."
        )


def advice_to_continue(config: Experiment, outputs: Path) -> Iterator[str]:
    """A line for each finished run of `config` with fewer epochs in the last stage."""
    epochs = config.stages[-1].epochs
    for run in list_runs(outputs):
        if not run.run_id.startswith(f"{config.name}-s{config.seed}-"):
            continue
        try:
            shorter = load_experiment(run.config).stages[-1].epochs
            finished = run.status() == "finished"
        except (ConfigError, RunError):
            continue
        is_same = run.run_id == _with_last_epochs(config, shorter).run_id
        if finished and shorter < epochs and is_same:
            yield (
                f"{run.run_id} has completed {shorter} of these {epochs} epochs. To continue it: "
                f"fer train {run.config} --more-epochs {epochs - shorter}"
            )
