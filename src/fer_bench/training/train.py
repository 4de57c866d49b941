"""`fer train`: from an experiment to a finished run directory, however often it is interrupted.

open the session: dataset, network, weights, images, last checkpoint
while epochs are left:
    enter the next stage: freeze layers, new or restored optimizer, compiled steps
    while the epoch belongs to the stage:
        while steps are left:
            make as many steps as take half a second, in one call
            check the loss, show the speed, save a checkpoint if one is due, stop if asked to
        validate; select the model if it is the best so far
        apply early stopping and the plateau rule
        write history.csv and a checkpoint; send the run to its trackers
restore the selected model and save it as model.keras
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config.experiment import Experiment
from fer_bench.data import pipeline
from fer_bench.data.contents import Verify
from fer_bench.data.manifest import Manifest
from fer_bench.device import collective
from fer_bench.device.selection import Device, out_of_memory
from fer_bench.device.signals import stop_on_signals
from fer_bench.display import Display
from fer_bench.errors import Interrupted, RunError, TrainingError, WorkerLost
from fer_bench.models import inference
from fer_bench.runs import successor
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.history import LARGEST_BYTES as LARGEST_HISTORY
from fer_bench.runs.record import BestRecord
from fer_bench.runs.tracking.mirror import Mirror, check_packages
from fer_bench.storage.files import is_there, read_bounded, write_atomically
from fer_bench.timing import timed
from fer_bench.training import checkpoint, schedule
from fer_bench.training.checkpoint import Found
from fer_bench.training.parent import Parent
from fer_bench.training.preflight import FINISHED, has_finished
from fer_bench.training.progress import Progress
from fer_bench.training.record import write_record
from fer_bench.training.session import Session, open_session
from fer_bench.training.stage import StageRun, enter_stage
from fer_bench.training.validation import is_better, validate

ADVICE = (
    "Lower the stage's learning_rate, add warmup or training.gradient_clip, "
    "or set training.precision: float32."
)

UNCHANGED = "{run_id}: the earlier run is unchanged"
REPLACED = "the new run has a checkpoint and has replaced the earlier one: leave out --fresh now"


def train(  # noqa: PLR0913 - what is trained, where, and on which data
    config: Experiment,
    outputs: Path,
    device: Device,
    display: Display,
    *,
    fresh: bool = False,
    manifest: Manifest | None = None,
    parent: Parent | None = None,
    verify: Verify = "sample",
) -> RunDirectory:
    """Train `config` to the end, from its last checkpoint if there is one.

    Args:
        config: what is trained.
        outputs: the folder of all runs.
        device: what computes, see `device.selection`.
        display: where progress is shown.
        fresh: start again. The earlier run is kept until the new one has a checkpoint.
        manifest: the dataset, if it has been read already.
        parent: the finished run to continue, if this run does not have a checkpoint.
        verify: which files of the dataset are read again to find out whether they changed.

    Returns:
        The folder of the finished run.

    Raises:
        FerError: the data, the device or the run directory do not allow it.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; a checkpoint is saved.
    """
    check_packages(config.tracking)
    run = RunDirectory(outputs / config.run_id)
    lock = run.lock() if device.writes else contextlib.nullcontext()
    with lock, stop_on_signals() as stop:
        _agree(run, config, device, fresh)
        if not fresh and has_finished(run):
            display.message(FINISHED.format(run_id=run.run_id))
            return run
        found = None if fresh else _find_checkpoint(run, device)
        replaced = fresh and (run.is_begun() or not device.writes)
        successor_place = _beside(run, device, display) if replaced else contextlib.nullcontext(run)
        with successor_place as place:
            session = open_session(
                config,
                place,
                device,
                display,
                stop,
                manifest=manifest,
                start=found or parent,
                verify=verify,
            )
            _run(session)
    return run


def _agree(run: RunDirectory, config: Experiment, device: Device, fresh: bool) -> None:
    """Make sure that all workers train the same experiment, in the same folder."""
    if device.workers == 1:
        return
    # Before this, the worker that writes may not yet have removed what a killed process left.
    collective.agree(device, "the experiment, or --fresh,", f"{config.to_yaml()} {fresh}")
    if not fresh:
        record = read_bounded(run.run_json) if is_there(run.run_json) else b""
        has_checkpoint = checkpoint.exists(run)
        collective.agree(device, f"what is in {run.path}", f"{record!r} {has_checkpoint}")


def _find_checkpoint(run: RunDirectory, device: Device) -> Found | None:
    """The checkpoint to resume from: the same for all workers, and intact for all of them."""
    if run.history.is_dir():
        raise RunError(
            f"{run.history}: is a folder, and the table of epochs belongs there. Move it away: the "
            "table is written again."
        )
    found = checkpoint.find(run, partial(collective.everywhere, device))
    collective.agree(device, f"the checkpoint in {run.path}", str(found and found.progress))
    return found


@contextlib.contextmanager
def _beside(run: RunDirectory, device: Device, display: Display) -> Iterator[RunDirectory]:
    """Where the successor of `run` is written until its first checkpoint; removed afterwards.

    Only the worker that writes has such a folder; for the others there is nothing to read.
    """
    place = RunDirectory(successor.beside(run.path))
    if not device.writes:
        yield place
        return
    try:
        with place.lock():
            yield place
    except BaseException:
        display.message(UNCHANGED.format(run_id=run.run_id) if place.path.exists() else REPLACED)
        raise
    finally:
        successor.discard(run.path)


def _run(session: Session) -> None:
    """Train the remaining stages, with the outcome in `run.json`."""
    with _mirrored(session) as send:
        _begin(session)
        send()
        with _end_recorded(session):
            while not session.progress.done:
                _train_stage(session, send)
        _finish(session)


@contextlib.contextmanager
def _mirrored(session: Session) -> Iterator[Callable[[], None]]:
    """A function that sends the run to its trackers, once it is in its final place."""
    trackers = session.config.tracking if session.device.writes else ()
    place = _final_place(session.run)
    mirror = Mirror(place, trackers, session.display.message)

    def send() -> None:
        if session.run == place:
            mirror.send()

    try:
        yield send
    finally:
        if session.run == place:
            mirror.close()


def _begin(session: Session) -> None:
    """Write the files that exist before the first step."""
    run, parent, progress = session.run, session.parent, session.progress
    if session.device.writes:
        write_atomically(run.config, session.config.to_yaml())
    write_record(session, "running")
    if not session.device.writes:
        return
    if session.found:
        _mend(session, session.found)
    elif parent:
        if parent.has_state:
            checkpoint.copy(parent.run, run, progress)
        else:
            checkpoint.save(run, progress, session.model, None, is_best=True)
        _write_history(session)


def _mend(session: Session, found: Found) -> None:
    """Write damaged files of a resumed run again, from its checkpoint."""
    if found.problems:
        checkpoint.mend(session.run, session.progress)
    path, expected = session.run.history, _history_text(session).encode()
    if not expected:
        path.unlink(missing_ok=True)
        return
    try:
        content, problem = read_bounded(path, LARGEST_HISTORY), "is not what the checkpoint has"
    except (OSError, ValueError) as error:
        content, problem = None, f"cannot be read ({error})"
    if content == expected:
        return
    # A process that was killed may have written one more epoch, which is now trained again.
    if content is None or not content.startswith(expected):
        session.display.message(f"warning: {path}: {problem}; it is written again")
    _write_history(session)


@timed("writing checkpoints and the model")
def _finish(session: Session) -> None:
    """Save the selected model, which was in the checkpoint so far."""
    run, progress, model = session.run, session.progress, session.model
    if not session.device.writes:
        return
    checkpoint.restore(run, progress, "best", model.variables)
    run.replace_file(run.model, model.save)
    checkpoint.keep_newest(run, progress)
    write_record(session, "finished")
    if not session.keeps_state:
        shutil.rmtree(run.state, ignore_errors=True)


@contextlib.contextmanager
def _end_recorded(session: Session) -> Iterator[None]:
    """Record in `run.json` why training ended early."""
    try:
        yield
    except BaseException as error:
        end = _explained(session, error)
        stopped = isinstance(end, Interrupted | WorkerLost)
        write_record(session, "interrupted" if stopped else "failed")
        if end is error:
            raise
        raise end from error


def _explained(session: Session, error: BaseException) -> BaseException:
    """`error`, or instead of an error of TensorFlow, one with advice for the user."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return out_of_memory(error, session.config.training.batch_size)
    if session.device.workers > 1 and isinstance(error, collective.LOST):
        # Workers that are asked to stop do not stop at the same step.
        lost = collective.worker_lost(session.device, error)
        return _stopped(session) if session.stop.is_set() else lost
    return error


def _train_stage(session: Session, send: Callable[[], None]) -> None:
    """Train the stage of the current epoch to its end."""
    progress = session.progress
    with timed("entering the stages"):
        stage_run = enter_stage(session)
    while not progress.done:
        index, _ = schedule.stage_at(progress.stage_epochs, progress.epoch)
        if index != stage_run.index:
            return
        _train_epoch(session, stage_run)
        _end_epoch(session, stage_run)
        send()


@timed("training steps")
def _train_epoch(session: Session, stage_run: StageRun) -> None:
    """Make the remaining steps of the current epoch."""
    config, progress, totals = session.config, session.progress, session.totals
    steps = pipeline.steps_per_epoch(session.splits["train"], config)
    _stop_if_asked(session)
    session.display.start_epoch(
        progress.epoch + 1, sum(progress.stage_epochs), stage_run.stage.name, steps
    )
    totals.reset(progress.totals)
    clock = time.monotonic() - progress.epoch_seconds
    while progress.step < steps:
        rates = _rates(session, stage_run, steps)
        began = time.monotonic()
        stage_run.train_steps(stage_run.batches, rates, progress.step)
        session.pace.count(len(rates), time.monotonic() - began)
        progress.step += len(rates)
        progress.epoch_seconds = time.monotonic() - clock
        _read_totals(session, stage_run)
        _save_if_due(session, stage_run, steps)


def _rates(session: Session, stage_run: StageRun, steps: int) -> NDArray[np.float32]:
    """The learning rate of each step of the next call."""
    progress, every = session.progress, session.config.training.save_every
    ends = [steps, progress.step + session.pace.steps]
    if every:
        ends.append((progress.step // every + 1) * every)
    into_stage = progress.epoch - stage_run.first_epoch
    rates = [
        schedule.learning_rate_at(stage_run.stage, into_stage + step / steps)
        for step in range(progress.step, min(ends))
    ]
    return np.array(rates, np.float32) * np.float32(progress.in_stage.plateau_scale)


def _read_totals(session: Session, stage_run: StageRun) -> None:
    """Read the sums from the device, show them, and make sure that the loss is finite."""
    progress, totals = session.progress, session.totals
    bad_step = int(totals.bad_step.numpy())
    if bad_step >= 0:
        rate = stage_run.learning_rate
        raise TrainingError(
            f"the loss is not a finite number: epoch {progress.epoch + 1}, "
            f"step {bad_step + 1}, stage '{stage_run.stage.name}', learning rate {rate:.3g}.\n"
            f"{ADVICE}"
        )
    progress.totals = totals.read()
    loss, correct, images = progress.totals
    speed = images / max(progress.epoch_seconds, 1e-9)
    session.display.step(progress.step, loss / images, correct / images, speed)


def _save_if_due(session: Session, stage_run: StageRun, steps: int) -> None:
    """Save a checkpoint inside the epoch, every `save_every` steps and when asked to stop."""
    progress, every = session.progress, session.config.training.save_every
    if progress.step == steps:
        return
    if session.stop.is_set() or (every and progress.step % every == 0):
        _read_totals(session, stage_run)
        _save(session, stage_run)
    _stop_if_asked(session)


def _stop_if_asked(session: Session) -> None:
    if session.stop.is_set():
        raise _stopped(session)


def _stopped(session: Session) -> Interrupted:
    progress = session.progress
    return Interrupted(
        f"{session.run.run_id} stopped at epoch {progress.epoch + 1}, step {progress.step}; "
        "run the same `fer train` to resume"
    )


def _end_epoch(session: Session, stage_run: StageRun) -> None:
    """Validate, select the model if it is the best, apply the stage's rules and save."""
    config, progress = session.config, session.progress
    clock = time.monotonic()
    row = _history_row(session, stage_run)
    metric, best = config.select, progress.best
    is_best = best is None or is_better(row[metric], best.value, metric)
    if is_best:
        progress.best = BestRecord(epoch=row["epoch"], metric=metric, value=row[metric])
    row["seconds"] = round(row["seconds"] + time.monotonic() - clock, 3)
    progress.history.append(row)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.totals, progress.epoch_seconds = [0.0, 0.0, 0.0], 0.0
    _apply_stage_rules(progress, stage_run, row["val_loss"])
    _write_history(session)
    _save(session, stage_run, is_best=is_best)
    session.display.end_epoch(row, is_best=is_best)


@timed("writing checkpoints and the model")
def _save(session: Session, stage_run: StageRun, *, is_best: bool = False) -> None:
    if session.device.writes:
        run, progress, optimizer = session.run, session.progress, stage_run.optimizer
        checkpoint.save(run, progress, session.model, optimizer, stage_run.frozen, is_best=is_best)
        if run != _final_place(run):
            successor.take_place(_final_place(run).path)
            session.run = _final_place(run)


def _final_place(run: RunDirectory) -> RunDirectory:
    """Where a run belongs, even if it is still written beside the one that it replaces."""
    return RunDirectory(run.outputs / run.run_id)


def _write_history(session: Session) -> None:
    if session.device.writes:
        write_atomically(session.run.history, _history_text(session))


def _history_text(session: Session) -> str:
    """`history.csv`; empty before the first epoch, when there is no such file."""
    rows = session.progress.history
    return pd.DataFrame(rows).to_csv(index=False) if rows else ""


def _history_row(session: Session, stage_run: StageRun) -> dict[str, Any]:
    """The line of `history.csv` for the epoch that has just ended."""
    progress = session.progress
    loss, correct, images = progress.totals
    return {
        "epoch": progress.epoch + 1,
        "stage": stage_run.stage.name,
        "learning_rate": stage_run.learning_rate,
        "loss": loss / images,
        "accuracy": correct / images if "expression" in session.config.model.targets else None,
        **_validate(session, stage_run),
        "images_per_second": round(images / progress.epoch_seconds, 1),
        "seconds": progress.epoch_seconds,
    }


@timed("validation")
def _validate(session: Session, stage_run: StageRun) -> dict[str, float | None]:
    config = session.config
    validation, training = session.splits[config.selection_split], config.training
    device = session.device
    own = inference.predict(device.local_strategy, stage_run.predict_step, stage_run.validation)
    first = collective.own_rows(device, len(validation)).start
    outputs = {
        name: collective.merged(device, values, first, len(validation))
        for name, values in own.items()
    }
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise TrainingError(
            f"the model's outputs are not finite numbers: epoch "
            f"{session.progress.epoch + 1}, validation, stage '{stage_run.stage.name}', "
            f"learning rate {stage_run.learning_rate:.3g}.\n{ADVICE}"
        )
    return validate(outputs, validation.codes, validation.valence_arousal, training)


def _apply_stage_rules(progress: Progress, stage_run: StageRun, val_loss: float) -> None:
    """Early stopping and the plateau rule, after an epoch that ended with `val_loss`."""
    stage, rules = stage_run.stage, progress.in_stage
    if rules.best_val_loss is None or val_loss < rules.best_val_loss:
        rules.best_val_loss, rules.epochs_without_better = val_loss, 0
    else:
        rules.epochs_without_better += 1
    if stage.patience and rules.epochs_without_better >= stage.patience:
        progress.stage_epochs[stage_run.index] = progress.epoch - stage_run.first_epoch
    if stage.schedule == "plateau" and rules.epochs_without_better:
        rules.plateau_epochs += 1
        if rules.plateau_epochs >= stage.plateau_patience:
            rules.plateau_scale *= stage.plateau_factor
            rules.plateau_epochs = 0
    else:
        rules.plateau_epochs = 0
