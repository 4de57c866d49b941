"""Everything that a run needs before its first step: checked, built, and restored where it was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from fer_bench.config.experiment import Experiment
from fer_bench.data import decoding, pipeline
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.device import collective
from fer_bench.device.selection import POLICIES, Device
from fer_bench.device.signals import Stop
from fer_bench.display import Display
from fer_bench.errors import DataError, DeviceError, Interrupted
from fer_bench.models import freezing
from fer_bench.models.build import attach_head, build_backbone, load_model
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.models.weight_source import find_weights
from fer_bench.models.weights import load_weights
from fer_bench.registry import BACKBONES
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import now
from fer_bench.storage.array_cache import Store
from fer_bench.training import checkpoint
from fer_bench.training.checkpoint import Progress
from fer_bench.training.parent import Parent, advice_to_go_on
from fer_bench.training.steps import MOST_STEPS, Totals

# How long the steps of one call may take: so often training looks at the sums on the device, moves
# the display, and sees whether it shall stop.
SECONDS_PER_CALL = 0.5
CHOSEN_ON_TEST = (
    "selection: test_split: the test images choose the model, so that its score on them is too "
    "high; every table and page of this run will say so"
)
NO_STATE = (
    "warning: its last save point was not kept: a new optimizer goes on from the model that it "
    "kept, of epoch {epoch}, which is not what one longer run would have done; "
    "training.keep_state_mb (now {limit:g}) says how large a save point is kept"
)
RATE_OF_ALL = (
    "the learning rate follows from here on the cosine over all {epochs} epochs of the last stage"
)


@dataclass
class Pace:
    """How many steps are made in one call: as many as take about `seconds`, at most `most`."""

    seconds: float
    most: int = MOST_STEPS
    steps: int = 1

    def count(self, steps: int, seconds: float) -> None:
        """A call of `steps` took `seconds`. The number of steps grows fourfold at most."""
        fitting = int(steps * self.seconds / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, 4 * self.steps, self.most))


@dataclass
class Session:
    """Everything one process holds while it trains one run.

    Attributes:
        run: where it is written. One that replaces another moves there with its first save point.
        parent: what it goes on from; None where it begins by itself or at its own save point.
        progress: where it stands.
    """

    config: Experiment
    run: RunDirectory
    device: Device
    display: Display
    store: Store
    manifest: Manifest
    splits: dict[str, decoding.Split]
    model: Any
    stages: list[freezing.ResolvedStage]
    parent: Parent | None
    progress: Progress
    totals: Totals
    pace: Pace
    stop: Stop
    started: str
    weights_digest: str | None

    @property
    def precision(self) -> str:
        """The arithmetic inside the network."""
        return chosen_precision(self.config, self.device)

    @property
    def share(self) -> pipeline.Share:
        """What this process reads of every training batch."""
        device = self.device
        if device.workers == 1:
            return pipeline.WHOLE
        parts, local = device.strategy.num_replicas_in_sync, device.local_replicas
        return pipeline.Share(parts, range(device.worker * local, (device.worker + 1) * local))

    @property
    def compiled(self) -> bool:
        """Whether XLA compiles the training step."""
        return self.device.compiles(self.config.training.xla)

    @property
    def keeps_state(self) -> bool:
        """Whether the save point is small enough to stay when the run is finished."""
        return checkpoint.size(self.run) <= self.config.training.keep_state_mb * 1e6


def open_session(
    config: Experiment,
    run: RunDirectory,
    device: Device,
    display: Display,
    stop: Stop,
    *,
    manifest: Manifest | None = None,
    parent: Parent | None = None,
) -> Session:
    """Check, build and restore everything, in the order of what it costs; nothing is written.

    First what takes no time: the save point is readable and the weights are there. Then the dataset
    is read, the network is built and the stages are found in it, the weights are fetched and put
    into it, and last all images are decoded.

    Args:
        config: what is trained.
        run: where it is written, and where its last save point is.
        device: what computes.
        display: where progress is shown.
        stop: whether to stop.
        manifest: the dataset, where it was read before.
        parent: what a run without a save point of its own goes on from.

    Raises:
        FerError: the stages, the weights, the data or the save point do not allow it.
        Interrupted: `stop` was set.
    """
    progress = checkpoint.read_progress(run)
    parent = None if progress else parent
    origin = parent.run if parent else run if progress else None
    if origin is None:
        find_weights(config.model, run.outputs)
    manifest = _checked(manifest or load_manifest(config.dataset), config, display)
    collective.agree(device, f"the dataset at {manifest.root}", manifest.fingerprint)
    if origin:
        origin.check_dataset(manifest.root, manifest.fingerprint)
    backbone = _build_backbone(config, device)
    weights_digest = (
        origin.weights_digest() if origin else _load_weights(backbone, config, run, device, display)
    )
    model, stages = _build_model(backbone, config, device, len(manifest.classes))
    store = Store(config.cache.max_bytes, display.message)
    splits = _decode(config, manifest, store, display, stop)
    _check_shares(config, device, splits)
    session = Session(
        config,
        run,
        device,
        display,
        store,
        manifest,
        splits,
        model,
        stages,
        parent,
        progress or (parent.progress if parent else Progress([s.epochs for s in config.stages])),
        Totals(),
        # Within a call, TensorFlow may begin a step before the one before is over. What two workers
        # add up would then meet in another order in each, and both would wait for ever.
        Pace(SECONDS_PER_CALL, most=MOST_STEPS if device.workers == 1 else 1),
        stop,
        run.started() or now(),
        weights_digest,
    )
    _restore(session)
    _announce(session)
    return session


def _build_backbone(config: Experiment, device: Device) -> Any:
    """The backbone with random weights, which has the layers that the stages name."""
    keras.utils.clear_session()  # layer names count from the start in every run
    keras.mixed_precision.set_global_policy(POLICIES[chosen_precision(config, device)])
    keras.utils.set_random_seed(config.seed)
    with device.strategy.scope():
        backbone = build_backbone(config.model, config.image.size)
    freezing.check_stages(backbone.layers, config.stages)
    return backbone


def _load_weights(
    backbone: Any, config: Experiment, run: RunDirectory, device: Device, display: Display
) -> str | None:
    if config.model.weights != "none":
        display.message(f"loading the weights of {config.model.backbone}: {config.model.weights}")
    with device.strategy.scope():
        return load_weights(backbone, config.model, run.outputs)


def _build_model(
    backbone: Any, config: Experiment, device: Device, classes: int
) -> tuple[Any, list[freezing.ResolvedStage]]:
    with device.strategy.scope():
        model = attach_head(backbone, config.model, classes)
        stages = freezing.resolve_stages(model, config.stages, config.model)
    use_fast_kernels(model, device.kind)
    return model, stages


def _decode(
    config: Experiment, manifest: Manifest, store: Store, display: Display, stop: Stop
) -> dict[str, decoding.Split]:
    """The images that train and those that choose the model, all of them decoded."""
    return {
        split: decoding.open_split(
            manifest, split, config.image.size, _show_decoding(display, split, stop), store=store
        )
        for split in ("train", config.selection_split)
    }


def _restore(session: Session) -> None:
    """Give the model the values of the save point that it goes on from, if there is one."""
    parent, progress, model = session.parent, session.progress, session.model
    if parent and not parent.has_state:
        model.set_weights(load_model(parent.run.model).get_weights())
    elif progress.weights:
        origin = parent.run if parent else session.run
        checkpoint.restore(origin, progress, "model", model.variables)


def _announce(session: Session) -> None:
    """Say where training begins."""
    config, run, progress = session.config, session.run, session.progress
    say = session.display.message
    if session.parent:
        say(f"{run.run_id}: going on from {session.parent.run.run_id} after epoch {progress.epoch}")
        if not session.parent.has_state:
            say(NO_STATE.format(epoch=progress.epoch, limit=config.training.keep_state_mb))
        if config.stages[-1].schedule == "cosine":
            say(RATE_OF_ALL.format(epochs=config.stages[-1].epochs))
    elif progress.weights:
        say(f"{run.run_id}: going on at epoch {progress.epoch + 1}, step {progress.step}")
    else:
        say(f"{run.run_id}: training on {session.device.name}, {session.precision}")
        _describe_stages(session)
        if session.device.writes:
            for advice in advice_to_go_on(config, run.outputs):
                say(advice)


def _describe_stages(session: Session) -> None:
    config, say = session.config, session.display.message
    for stage, resolved in zip(config.stages, session.stages, strict=True):
        say(f"  {freezing.describe(stage, resolved)}")
    steps = pipeline.steps_per_epoch(session.splits["train"], config)
    slow = freezing.slow_statistics(session.model, session.stages, config.model, steps)
    if slow:
        say(f"warning: {slow}")


def chosen_precision(config: Experiment, device: Device) -> str:
    """The arithmetic inside the network of `config` on `device`."""
    depthwise = BACKBONES[config.model.backbone].depthwise
    return device.precision(config.training.precision, depthwise=depthwise)


def _checked(manifest: Manifest, config: Experiment, display: Display) -> Manifest:
    """The dataset, in which the targets are; says what there is to know of it."""
    if "valence_arousal" in config.model.targets:
        _check_valence_arousal(manifest, config)
    for warning in manifest.warnings():
        display.message(f"warning: {warning}")
    if config.selection == "test_split":
        display.message(f"warning: {CHOSEN_ON_TEST}")
    return manifest


def _check_valence_arousal(manifest: Manifest, config: Experiment) -> None:
    for split in ("train", config.selection_split):
        if not np.isfinite(manifest.valence_arousal(split)).all(axis=1).any():
            raise DataError(
                f"{manifest.root}: no {split} sample has valence and arousal.\n"
                "Remove valence_arousal from model.targets, or take another dataset."
            )


def _check_shares(config: Experiment, device: Device, splits: dict[str, decoding.Split]) -> None:
    """Make sure that there is something to do for every worker and each of its devices."""
    parts = device.strategy.num_replicas_in_sync
    smallest = {
        "training.batch_size": min(config.training.batch_size, len(splits["train"])),
        f"the {config.selection_split} split": len(splits[config.selection_split]),
    }
    for what, images in smallest.items():
        if images < parts:
            raise DeviceError(
                f"{what}: {images} images cannot be divided among {parts} devices.\n"
                "Use fewer devices, or more images."
            )


def _show_decoding(display: Display, split: str, stop: Stop) -> Callable[[int, int], None]:
    def decoding(done: int, total: int) -> None:
        display.progress(f"decoding {split} images", done, total)
        if stop.is_set():
            raise Interrupted("stopped while reading the images; nothing was lost")

    return decoding
