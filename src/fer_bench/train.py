"""`fer train`: from an experiment to a finished run directory, however often it is interrupted."""

import datetime
import importlib.metadata
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench import loop, pipeline, schedule, state
from fer_bench.config import Experiment, Stage
from fer_bench.datasets import load_manifest
from fer_bench.device import POLICIES, Device
from fer_bench.display import Display
from fer_bench.errors import DataError, Interrupted, TrainingError
from fer_bench.kernels import fused
from fer_bench.losses import Objective
from fer_bench.manifest import Manifest
from fer_bench.model import attach_head, build_backbone
from fer_bench.rundir import RunDirectory, write_atomically, write_json
from fer_bench.splits import split_digest
from fer_bench.state import Progress, StageProgress
from fer_bench.validation import is_better, validate
from fer_bench.weights import load_weights

# Steps between two looks at the sums on the device: often enough to see a loss that is no longer
# a number and to move the display, rarely enough not to hold up the steps.
STEPS_BETWEEN_LOOKS = 10
CHOSEN_ON_TEST = (
    "selection: test_split: the test images choose the model, so that its score on them is too "
    "high; every table and page of this run will say so"
)
CALM_DOWN = (
    "Lower the stage's learning_rate, add warmup or training.gradient_clip, "
    "or set training.precision: float32."
)


@dataclass(frozen=True)
class Session:
    """Everything one process holds while it trains one run.

    `model` is on fast kernels and is the one that trains; `saved_form` has the same weights in
    stock layers whenever it is written to a file.
    """

    config: Experiment
    run: RunDirectory
    device: Device
    display: Display
    manifest: Manifest
    splits: dict[str, pipeline.Split]
    model: Any
    saved_form: Any
    stages: list[schedule.ResolvedStage]
    progress: Progress
    totals: loop.Totals
    stop: threading.Event
    started: str
    weights_digest: str | None

    @property
    def precision(self) -> str:
        """The arithmetic inside the network."""
        return self.device.precision(self.config.training.precision)


@dataclass(frozen=True)
class StageRun:
    """One stage under way: its optimizer and its compiled steps."""

    stage: Stage
    index: int
    first_epoch: int
    optimizer: Any
    train_step: Any
    predict_step: Any


def train(
    config: Experiment, outputs: Path, device: Device, display: Display, *, fresh: bool = False
) -> RunDirectory:
    """Train `config` to the end, from the last save point where there is one.

    Raises:
        FerError: the data, the device or the run directory do not allow it.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    run = RunDirectory(outputs / config.run_id)
    with run.lock(), _signals_as_event() as stop:
        if fresh:
            run.clear()
        elif run.status() == "finished":
            display.message(f"{run.run_id} is finished; --fresh trains it again")
            return run
        session = _open(config, run, device, display, stop)
        _run(session)
    return run


@contextmanager
def _signals_as_event() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event, and training stops at its next step. A second one kills."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the handler's signature
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask_to_stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _open(
    config: Experiment, run: RunDirectory, device: Device, display: Display, stop: threading.Event
) -> Session:
    """Check the stages, then the data; build the model and go back to the last save point."""
    precision = device.precision(config.training.precision)
    keras.utils.clear_session()  # layer names count from the start in every run
    keras.mixed_precision.set_global_policy(POLICIES[precision])
    keras.utils.set_random_seed(config.seed)
    with device.strategy.scope():
        backbone = build_backbone(config.model, config.image.size)
    schedule.check_stages(backbone.layers, config.stages)
    progress = state.read_progress(run)
    if progress is None and config.model.weights != "none":
        display.message(f"loading the weights of {config.model.backbone}: {config.model.weights}")
    with device.strategy.scope():
        weights_digest = (
            run.weights_digest() if progress else load_weights(backbone, config.model, run.outputs)
        )
    manifest = load_manifest(config.dataset)
    _check_targets(manifest, config)
    for warning in manifest.warnings():
        display.message(f"warning: {warning}")
    if config.selection == "test_split":
        display.message(f"warning: {CHOSEN_ON_TEST}")
    if progress:
        run.check_dataset(manifest.root, manifest.fingerprint)
    with device.strategy.scope():
        saved_form = attach_head(backbone, config.model, len(manifest.classes))
        stages = schedule.resolve_stages(saved_form, config.stages, config.model)
        model = fused(saved_form)

    splits = {
        split: pipeline.open_split(
            manifest, split, config.image.size, _show_decoding(display, split, stop)
        )
        for split in ("train", config.selection_split)
    }
    if progress is None:
        progress = Progress([stage.epochs for stage in config.stages])
        display.message(f"{run.run_id}: training on {device.name}, {precision}")
        for stage, resolved in zip(config.stages, stages, strict=True):
            display.message(f"  {schedule.describe(stage, resolved)}")
    else:
        state.restore(run, progress, "model", model.variables)
        display.message(
            f"{run.run_id}: going on at epoch {progress.epoch + 1}, step {progress.step}"
        )
    return Session(
        config,
        run,
        device,
        display,
        manifest,
        splits,
        model,
        saved_form,
        stages,
        progress,
        loop.Totals(),
        stop,
        run.started() or _now(),
        weights_digest,
    )


def _check_targets(manifest: Manifest, config: Experiment) -> None:
    if "valence_arousal" not in config.model.targets:
        return
    for split in ("train", config.selection_split):
        if not np.isfinite(manifest.valence_arousal(split)).all(axis=1).any():
            raise DataError(
                f"{manifest.root}: no {split} sample has valence and arousal.\n"
                "Remove valence_arousal from model.targets, or take another dataset."
            )


def _show_decoding(
    display: Display, split: str, stop: threading.Event
) -> Callable[[int, int], None]:
    def decoding(done: int, total: int) -> None:
        display.decoding(split, done, total)
        if stop.is_set():
            raise Interrupted("stopped while reading the images; nothing was lost")

    return decoding


def _run(session: Session) -> None:
    """Train every stage that is left, with the outcome in `run.json`."""
    write_atomically(session.run.config, session.config.to_yaml())
    _write_run_json(session, "running")
    try:
        while not session.progress.done:
            _train_stage(session)
    except Interrupted:
        _write_run_json(session, "interrupted")
        raise
    except BaseException:
        _write_run_json(session, "failed")
        raise
    _write_run_json(session, "finished")
    shutil.rmtree(session.run.state, ignore_errors=True)


def _train_stage(session: Session) -> None:
    """Train the stage that owns the current epoch, to its end."""
    progress = session.progress
    stage_run = _enter_stage(session)
    while not progress.done:
        index, _ = schedule.stage_at(progress.stage_epochs, progress.epoch)
        if index != stage_run.index:
            return
        _train_epoch(session, stage_run)
        _end_epoch(session, stage_run)


def _enter_stage(session: Session) -> StageRun:
    """Let the right layers train, with a new optimizer or the saved one of this very stage."""
    config, progress, model = session.config, session.progress, session.model
    strategy = session.device.strategy
    index, first_epoch = schedule.stage_at(progress.stage_epochs, progress.epoch)
    stage = config.stages[index]
    with strategy.scope():
        schedule.set_trainable(model, stage, weights=config.model.weights)
        optimizer = schedule.build_optimizer(
            stage, config.training, precision=session.precision, model=model
        )
    if progress.arrays and progress.stage == index:
        state.restore(session.run, progress, "optimizer", optimizer.variables)
    else:
        progress.stage, progress.in_stage = index, StageProgress()
    training = config.training
    objective = Objective(
        _class_weights(session),
        training.label_smoothing,
        training.valence_arousal_loss,
        training.valence_arousal_weight,
    )
    train_step = loop.build_train_step(strategy, model, optimizer, session.totals, objective)
    predict_step = loop.build_predict_step(strategy, model, config.model.targets)
    return StageRun(stage, index, first_epoch, optimizer, train_step, predict_step)


def _class_weights(session: Session) -> NDArray[np.float32]:
    """One weight per class: n / (classes * n_class), as scikit-learn's `balanced`, or ones."""
    classes = len(session.manifest.classes)
    if "class_weights" not in session.config.dataset.balances:
        return np.ones(classes, dtype=np.float32)
    codes = session.splits["train"].codes
    sizes = np.bincount(codes, minlength=classes)
    return (len(codes) / (classes * sizes)).astype(np.float32)


def _train_epoch(session: Session, stage_run: StageRun) -> None:
    """The steps of the current epoch that are not done yet."""
    config, progress, totals = session.config, session.progress, session.totals
    training = session.splits["train"]
    steps = pipeline.steps_per_epoch(training, config)
    _stop_if_asked(session)
    session.display.start_epoch(
        progress.epoch + 1, sum(progress.stage_epochs), stage_run.stage.name, steps
    )
    totals.reset(progress.totals)
    clock = time.monotonic() - progress.epoch_seconds
    batches = pipeline.training_batches(training, config, progress.epoch, progress.step)
    for images, targets in session.device.strategy.experimental_distribute_dataset(batches):
        epochs_into_stage = progress.epoch - stage_run.first_epoch + progress.step / steps
        rate = schedule.learning_rate_at(stage_run.stage, epochs_into_stage)
        stage_run.optimizer.learning_rate = rate * progress.in_stage.plateau_scale
        stage_run.train_step(images, targets, np.int64(progress.step))
        progress.step += 1
        progress.epoch_seconds = time.monotonic() - clock
        if progress.step % STEPS_BETWEEN_LOOKS == 0 or progress.step == steps:
            _look(session, stage_run)
        _save_if_due(session, stage_run, steps)


def _look(session: Session, stage_run: StageRun) -> None:
    """Read the sums from the device: show them, and see whether the loss is still a number."""
    progress, totals = session.progress, session.totals
    bad_step = int(totals.bad_step.numpy())
    if bad_step >= 0:
        rate = float(stage_run.optimizer.learning_rate)
        raise TrainingError(
            f"the loss is no longer a finite number: epoch {progress.epoch + 1}, "
            f"step {bad_step + 1}, stage '{stage_run.stage.name}', learning rate {rate:.3g}.\n"
            f"{CALM_DOWN}"
        )
    progress.totals = totals.read()
    loss, right, images = progress.totals
    speed = images / max(progress.epoch_seconds, 1e-9)
    session.display.step(progress.step, loss / images, right / images, speed)


def _save_if_due(session: Session, stage_run: StageRun, steps: int) -> None:
    """A save point inside the epoch, every `save_every` steps and when asked to stop."""
    progress, every = session.progress, session.config.training.save_every
    if progress.step == steps:
        return
    if session.stop.is_set() or (every and progress.step % every == 0):
        _look(session, stage_run)
        state.save(session.run, progress, session.model, stage_run.optimizer)
    _stop_if_asked(session)


def _stop_if_asked(session: Session) -> None:
    if session.stop.is_set():
        progress = session.progress
        raise Interrupted(
            f"{session.run.run_id} stopped at epoch {progress.epoch + 1}, step {progress.step}; "
            "the same `fer train` goes on from here"
        )


def _end_epoch(session: Session, stage_run: StageRun) -> None:
    """Validate, keep the model if it is the best, apply the stage's rules and save."""
    config, progress, run = session.config, session.progress, session.run
    clock = time.monotonic()
    row = _history_row(session, stage_run)
    metric, best = config.select, progress.best
    is_best = best is None or is_better(row[metric], best["value"], metric)
    if is_best:
        progress.best = {"epoch": row["epoch"], "metric": metric, "value": row[metric]}
        session.saved_form.set_weights(session.model.get_weights())
        run.replace_file(run.model, session.saved_form.save)
    row["seconds"] = round(row["seconds"] + time.monotonic() - clock, 3)
    progress.history.append(row)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.totals, progress.epoch_seconds = [0.0, 0.0, 0.0], 0.0
    _apply_stage_rules(progress, stage_run, row["val_loss"])
    write_atomically(run.history, pd.DataFrame(progress.history).to_csv(index=False))
    state.save(run, progress, session.model, stage_run.optimizer)
    session.display.end_epoch(row, is_best=is_best)


def _history_row(session: Session, stage_run: StageRun) -> dict[str, Any]:
    """The line of `history.csv` for the epoch whose steps have just ended."""
    progress = session.progress
    loss, right, images = progress.totals
    return {
        "epoch": progress.epoch + 1,
        "stage": stage_run.stage.name,
        "learning_rate": float(stage_run.optimizer.learning_rate),
        "loss": loss / images,
        "accuracy": right / images if "expression" in session.config.model.targets else None,
        **_validate(session, stage_run),
        "images_per_second": round(images / progress.epoch_seconds, 1),
        "seconds": progress.epoch_seconds,
    }


def _validate(session: Session, stage_run: StageRun) -> dict[str, float | None]:
    config = session.config
    validation, training = session.splits[config.selection_split], config.training
    batches = pipeline.evaluation_batches(validation, training.batch_size)
    outputs = loop.predict(session.device.strategy, stage_run.predict_step, batches)
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise TrainingError(
            f"the model's outputs are no longer finite numbers: epoch "
            f"{session.progress.epoch + 1}, validation, stage '{stage_run.stage.name}', "
            f"learning rate {float(stage_run.optimizer.learning_rate):.3g}.\n{CALM_DOWN}"
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


def _write_run_json(session: Session, status: str) -> None:
    progress, manifest, model = session.progress, session.manifest, session.model
    seconds = sum(row["seconds"] for row in progress.history)
    speeds = [row["images_per_second"] for row in progress.history]
    document = {
        "run_id": session.run.run_id,
        "name": session.config.name,
        "seed": session.config.seed,
        "status": status,
        "started": session.started,
        "ended": None if status == "running" else _now(),
        "device": session.device.name,
        "precision": session.precision,
        "versions": _versions(),
        "dataset": {
            "name": manifest.name,
            "release": manifest.release,
            "fingerprint": manifest.fingerprint,
            "split_digest": split_digest(manifest.samples),
            "classes": list(manifest.classes),
            "counts": manifest.counts(),
            "dropped": dict(manifest.dropped),
        },
        "model": {
            "backbone": session.config.model.backbone,
            "weights": session.config.model.weights,
            "weights_digest": session.weights_digest,
            "parameters": model.count_params(),
            "trainable_parameters": [stage.trainable_parameters for stage in session.stages],
            "first_trainable_layer": [stage.first_trainable_layer for stage in session.stages],
        },
        "stages": [
            {"name": stage.name, "epochs": epochs}
            for stage, epochs in zip(session.config.stages, progress.stage_epochs, strict=True)
        ],
        "selection": session.config.selection,
        "best": progress.best,
        "images_per_second": round(float(np.mean(speeds)), 1) if speeds else None,
        "seconds": round(seconds, 1),
    }
    write_json(session.run.run_json, document)


def _versions() -> dict[str, str]:
    packages = ("fer-bench", "tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in packages
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
