"""Everything that a run needs before its first step: checked, built, and restored where it was."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from fer_bench import decoding, loop, pipeline, schedule, state, together
from fer_bench.cache import Store
from fer_bench.config import Experiment
from fer_bench.datasets import load_manifest
from fer_bench.device import POLICIES, Device
from fer_bench.display import Display
from fer_bench.errors import DataError, DeviceError, Interrupted
from fer_bench.kernels import use_fast_kernels
from fer_bench.manifest import Manifest
from fer_bench.model import attach_head, build_backbone
from fer_bench.registry import BACKBONES
from fer_bench.rundir import RunDirectory
from fer_bench.state import Progress
from fer_bench.stopping import Stop
from fer_bench.weights import load_weights

# How long the steps of one call may take: so often training looks at the sums on the device, moves
# the display, and sees whether it shall stop.
SECONDS_PER_CALL = 0.5
CHOSEN_ON_TEST = (
    "selection: test_split: the test images choose the model, so that its score on them is too "
    "high; every table and page of this run will say so"
)


@dataclass
class Pace:
    """How many steps are made in one call: as many as take about `seconds`, at most `most`."""

    seconds: float
    most: int = loop.MOST_STEPS
    steps: int = 1

    def count(self, steps: int, seconds: float) -> None:
        """A call of `steps` took `seconds`. The number of steps grows fourfold at most."""
        fitting = int(steps * self.seconds / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, 4 * self.steps, self.most))


@dataclass(frozen=True)
class Session:
    """Everything one process holds while it trains one run."""

    config: Experiment
    run: RunDirectory
    device: Device
    display: Display
    store: Store
    manifest: Manifest
    splits: dict[str, decoding.Split]
    model: Any
    stages: list[schedule.ResolvedStage]
    progress: Progress
    totals: loop.Totals
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


def open_session(
    config: Experiment, run: RunDirectory, device: Device, display: Display, stop: Stop
) -> Session:
    """Check the stages, then the data; build the model and go back to the last save point.

    Raises:
        FerError: the stages, the weights, the data or the save point do not allow it.
        Interrupted: `stop` was set.
    """
    precision = chosen_precision(config, device)
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
    manifest = _open_manifest(config, display)
    together.agree(device, f"the dataset at {manifest.root}", manifest.fingerprint)
    if progress:
        run.check_dataset(manifest.root, manifest.fingerprint)
    with device.strategy.scope():
        model = attach_head(backbone, config.model, len(manifest.classes))
        stages = schedule.resolve_stages(model, config.stages, config.model)
    use_fast_kernels(model, device.kind)

    store = Store(config.cache.max_bytes, display.message)
    splits = {
        split: decoding.open_split(
            manifest, split, config.image.size, _show_decoding(display, split, stop), store=store
        )
        for split in ("train", config.selection_split)
    }
    _check_shares(config, device, splits)
    if progress is None:
        progress = Progress([stage.epochs for stage in config.stages])
        display.message(f"{run.run_id}: training on {device.name}, {precision}")
        for stage, resolved in zip(config.stages, stages, strict=True):
            display.message(f"  {schedule.describe(stage, resolved)}")
        steps = pipeline.steps_per_epoch(splits["train"], config)
        if warning := schedule.slow_statistics(model, stages, config.model, steps):
            display.message(f"warning: {warning}")
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
        store,
        manifest,
        splits,
        model,
        stages,
        progress,
        loop.Totals(),
        # Within a call, TensorFlow may begin a step before the one before is over. What two workers
        # add up would then meet in another order in each, and both would wait for ever.
        Pace(SECONDS_PER_CALL, most=loop.MOST_STEPS if device.workers == 1 else 1),
        stop,
        run.started() or now(),
        weights_digest,
    )


def chosen_precision(config: Experiment, device: Device) -> str:
    """The arithmetic inside the network of `config` on `device`."""
    depthwise = BACKBONES[config.model.backbone].depthwise
    return device.precision(config.training.precision, depthwise=depthwise)


def _open_manifest(config: Experiment, display: Display) -> Manifest:
    manifest = load_manifest(config.dataset)
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
        display.decoding(split, done, total)
        if stop.is_set():
            raise Interrupted("stopped while reading the images; nothing was lost")

    return decoding


def now() -> str:
    """The time, in UTC (ISO 8601)."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
