"""Entering a stage: which layers train, which features are computed once, the compiled steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.config.training import Stage
from fer_bench.data import pipeline
from fer_bench.data.decoding import Rows
from fer_bench.device import collective
from fer_bench.errors import Interrupted
from fer_bench.models import freezing, inference, trunk
from fer_bench.training import checkpoint, frozen_features, optimizers, schedule, steps
from fer_bench.training.losses import Objective
from fer_bench.training.progress import StageProgress
from fer_bench.training.session import Session

# With `cache.trunk: auto`, the features kept per image take at most the space of so many float32
# images. A GPU recomputes larger features faster than it reads them; a CPU does not.
MOST_IMAGES = {"cpu": 4, "gpu": 1}


@dataclass(frozen=True)
class StageRun:
    """The current stage.

    Attributes:
        stage: its settings.
        index: its index in the experiment.
        first_epoch: the 0-based epoch that it began with.
        optimizer: the optimizer of this stage.
        batches: iterator over the remaining training batches of the stage.
        train_steps: makes several steps in one call, see `steps.build_train_steps`.
        validation: `tf.data.Dataset` of this worker's part of the validation split.
        predict_step: predicts one batch of it.
        frozen: indices of those `model.variables` that do not change in this stage.
    """

    stage: Stage
    index: int
    first_epoch: int
    optimizer: Any
    batches: Any
    train_steps: Any
    validation: Any
    predict_step: Any
    frozen: frozenset[int]

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.learning_rate.numpy())  # float() alone fails on several GPUs


def enter_stage(session: Session) -> StageRun:
    """Freeze all other layers, and build the optimizer or restore the saved one of this stage."""
    config, progress, model = session.config, session.progress, session.model
    strategy = session.device.strategy
    index, first_epoch = schedule.stage_at(progress.stage_epochs, progress.epoch)
    stage = config.stages[index]
    with strategy.scope():
        freezing.set_trainable(model, stage, weights=config.model.weights)
        optimizer = optimizers.build_optimizer(
            stage, config.training, precision=session.precision, model=model
        )
    if progress.optimizer and progress.stage == index:
        checkpoint.restore(session.run, progress, "optimizer", optimizer.variables)
    else:
        progress.stage, progress.in_stage = index, StageProgress()
    end = session.stages[index].trunk
    rows = kept_rows(session, index)
    train_step = steps.build_train_step(
        strategy,
        model,
        optimizer,
        session.totals,
        _objective(session),
        _forward(model, end, from_rows="train" in rows),
        compiled=session.compiled,
    )
    validation, validated = _validation(session, rows)
    return StageRun(
        stage,
        index,
        first_epoch,
        optimizer,
        _training(session, rows, first_epoch + progress.stage_epochs[index]),
        steps.build_train_steps(train_step, optimizer),
        validation,
        inference.build_predict_step(
            session.device.local_strategy, validated, config.model.targets
        ),
        _frozen_variables(model, end),
    )


def kept_rows(session: Session, index: int) -> dict[str, Rows]:
    """The outputs of the frozen trunk of a stage for each split, as far as they are kept."""
    config, model, end = session.config, session.model, session.stages[index].trunk
    if end is None or config.cache.trunk == "off":
        return {}
    ends = frozen_features.trunks_from(session.stages, index, model)
    if config.cache.trunk == "auto":
        most = MOST_IMAGES[session.device.kind] * config.image.size**2 * 3 * 4
        ends = [name for name in ends if frozen_features.row_bytes(model, name) <= most]
    splits = [_fixed_images(session, split) for split in ("train", config.selection_split)]
    kept = frozen_features.keep_features(
        model,
        ends,
        [images for images in splits if images],
        session.store,
        session.device.local_strategy,
        inference.prediction_batch(model, session.device.memory_bytes),
        _show_features(session),
    )
    left_out = [split for split, rows in kept.items() if end in ends and end not in rows]
    if left_out:
        session.display.message(
            f"the cache has no room for the outputs of the frozen layers up to {end} for the "
            f"{' and '.join(left_out)} images: they are computed in every epoch; "
            f"raise cache.max_gb, now {config.cache.max_gb:g}, or free space on its disk"
        )
    return {split: rows[end] for split, rows in kept.items() if end in rows}


def _fixed_images(session: Session, name: str) -> frozen_features.Images | None:
    """The images of a split, if they are the same in every epoch; else None."""
    config, split = session.config, session.splits[name]
    views = config.cache.views
    if name != "train":
        return frozen_features.Images(
            name, split.digest, len(split), lambda size: pipeline.evaluation_batches(split, size)
        )
    if views == 1 and config.image.augment.changes:
        return None
    key, batches = pipeline.trunk_views(split, config, views)
    count = (config.dataset.expand or len(split)) * views
    return frozen_features.Images(name, key, count, batches)


def _show_features(session: Session) -> Callable[[str, str, int, int], None]:
    def show(end: str, split: str, done: int, total: int) -> None:
        session.display.progress(f"frozen layers up to {end}, {split} images", done, total)
        if session.stop.is_set():
            raise Interrupted("stopped while computing frozen layers; nothing was lost")

    return show


def _forward(model: Any, end: str | None, *, from_rows: bool) -> Callable[[Any], Any]:
    """A function from a training batch to outputs. A frozen trunk computes as at test time."""
    if end is None:
        return lambda images: model(images, training=True)
    tail = trunk.part(model, end, None)
    if from_rows:
        return lambda rows: tail(rows, training=True)
    frozen = trunk.part(model, None, end)
    return lambda images: tail(tf.stop_gradient(frozen(images, training=False)), training=True)


def _training(session: Session, rows: dict[str, Rows], end_epoch: int) -> Any:
    """An iterator over the remaining batches of the stage, which ends before `end_epoch`."""
    config, progress = session.config, session.progress
    split, first = session.splits["train"], (progress.epoch, progress.step)
    which: Any = {"epochs": end_epoch - progress.epoch, "share": session.share}
    if "train" in rows:
        batches = pipeline.training_rows(rows["train"], split, config, *first, **which)
    else:
        batches = pipeline.training_batches(split, config, *first, **which)
    return iter(steps.distributed(session.device, batches))


def _validation(session: Session, rows: dict[str, Rows]) -> tuple[Any, Any]:
    """This worker's batches of the validation split, and the part of the model for them."""
    model, name = session.model, session.config.selection_split
    size = inference.prediction_batch(model, session.device.memory_bytes)
    own = collective.own_rows(session.device, len(session.splits[name]))
    if name in rows:
        end = session.stages[session.progress.stage].trunk
        return pipeline.evaluation_rows(rows[name], size, own), trunk.part(model, end, None)
    return pipeline.evaluation_batches(session.splits[name], size, own), model


def _frozen_variables(model: Any, end: str | None) -> frozenset[int]:
    if end is None:
        return frozenset()
    in_trunk = {id(variable) for variable in trunk.part(model, None, end).variables}
    return frozenset(i for i, variable in enumerate(model.variables) if id(variable) in in_trunk)


def _objective(session: Session) -> Objective:
    training = session.config.training
    return Objective(
        _class_weights(session),
        training.label_smoothing,
        training.valence_arousal_loss,
        training.valence_arousal_weight,
        training.loss,
    )


def _class_weights(session: Session) -> NDArray[np.float32]:
    """One weight per class: n / (classes * n_class), as scikit-learn's `balanced`, or ones."""
    classes = len(session.manifest.classes)
    if "class_weights" not in session.config.dataset.balances:
        return np.ones(classes, dtype=np.float32)
    codes = session.splits["train"].codes
    sizes = np.bincount(codes, minlength=classes).clip(min=1)  # a class in soft labels alone
    return (len(codes) / (classes * sizes)).astype(np.float32)
