"""Everything that a run needs before its first step: checked, built, loaded, and resumed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from fer_bench.config.experiment import Experiment
from fer_bench.data import decoding, pipeline
from fer_bench.data.contents import LABELS, TrainedOn, Verification, Verify, labels_digest
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.device import collective, kernels
from fer_bench.device.precision import POLICIES
from fer_bench.device.selection import Device
from fer_bench.device.signals import Stop
from fer_bench.display import Display
from fer_bench.errors import DataError, DeviceError, Interrupted, RunError
from fer_bench.models import freezing
from fer_bench.models.build import OTHER_MODEL, attach_head, build_backbone, load_model
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.models.weight_source import find_weights
from fer_bench.models.weights import load_weights
from fer_bench.registry import BACKBONES
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import now
from fer_bench.storage.array_cache import Store
from fer_bench.timing import timed
from fer_bench.training import checkpoint
from fer_bench.training.checkpoint import Found
from fer_bench.training.parent import Parent, advice_to_continue
from fer_bench.training.progress import Origin, Progress
from fer_bench.training.steps import MOST_STEPS, Totals

# How long the steps of one call may take. After each call training reads the sums from the device,
# updates the display, and checks whether to stop.
SECONDS_PER_CALL = 0.5
SELECTED_ON_TEST = (
    "selection: test_split: the model is selected on the test images, so its score on them is too "
    "high; every table and page of this run will say so"
)
NO_STATE = (
    "warning: the last checkpoint of that run was not kept: training continues from its selected "
    "model, of epoch {epoch}, with a new optimizer, which is not what one longer run would have "
    "done; training.keep_state_mb (now {limit:g}) sets the largest checkpoint to keep"
)
FRESH = "Or train the run again: --fresh."
COSINE_OF_ALL = (
    "from here on, the learning rate follows the cosine over all {epochs} epochs of the last stage"
)


@dataclass
class Pace:
    """How many steps to make per call: as many as take about `seconds`, at most `most`."""

    seconds: float
    most: int = MOST_STEPS
    steps: int = 1

    def count(self, steps: int, seconds: float) -> None:
        """Note that a call of `steps` took `seconds`; the next has at most four times as many."""
        fitting = int(steps * self.seconds / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, 4 * self.steps, self.most))


@dataclass(kw_only=True)
class Session:
    """Everything that one process holds while it trains one run.

    Attributes:
        config: what is trained.
        run: where it is written. A run that replaces another moves there with its first checkpoint.
        device: what computes.
        display: where progress is shown.
        stop: set when training is to stop.
        manifest: the dataset.
        model: the network, a `keras.Model`.
        stages: what each stage of `config` trains in it.
        origin: when the run began, with which weights and which dataset.
        store: the cache of decoded images and frozen features.
        splits: the decoded images for training and for selection.
        contents: what `run.json` records of the content of the dataset.
        parent: the run that this one continues; None for a new run, or one with a checkpoint.
        found: the checkpoint that was restored; None for a new run.
        progress: how far training is.
        totals: the sums over the current epoch, on the device.
        pace: how many steps to make per call.
    """

    config: Experiment
    run: RunDirectory
    device: Device
    display: Display
    stop: Stop
    manifest: Manifest
    model: Any
    stages: list[freezing.ResolvedStage]
    origin: Origin
    store: Store
    splits: dict[str, decoding.Split]
    contents: dict[str, str]
    parent: Parent | None
    found: Found | None
    progress: Progress
    totals: Totals
    pace: Pace

    @property
    def precision(self) -> str:
        """The arithmetic inside the network."""
        return chosen_precision(self.config, self.device)

    @property
    def share(self) -> pipeline.Share:
        """The part of every training batch that this process reads."""
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
        """Whether the checkpoint is small enough to be kept when the run is finished."""
        return checkpoint.size(self.run) <= self.config.training.keep_state_mb * 1e6


def open_session(  # noqa: PLR0913 - what is trained, where, and on which data
    config: Experiment,
    run: RunDirectory,
    device: Device,
    display: Display,
    stop: Stop,
    *,
    manifest: Manifest | None = None,
    start: Found | Parent | None = None,
    verify: Verify = "sample",
) -> Session:
    """Check, build, load and resume everything, cheapest first; nothing is written.

    1. Check that the checkpoint or the weights are there, and read the dataset.
    2. Build the network and find the layers of the stages in it, then load its weights.
    3. Decode all images.
    4. Restore the values of the checkpoint.

    Args:
        config: what is trained.
        run: where it is written.
        device: what computes.
        display: where progress is shown.
        stop: whether to stop.
        manifest: the dataset, if it has been read already.
        start: the checkpoint of `run` to resume from, or the run to continue; None: a new run.
        verify: which files of the dataset are read again to find out whether they changed.

    Raises:
        FerError: the stages, the weights, the data or the checkpoint do not allow it.
        Interrupted: `stop` was set.
    """
    found = start if isinstance(start, Found) else None
    parent = start if isinstance(start, Parent) else None
    source = parent.run if parent else run if found else None
    if source is None:
        find_weights(config.model, run.outputs)
    progress = _first_progress(config, start)
    manifest = _open_dataset(
        config, device, display, manifest or load_manifest(config.dataset, verify)
    )
    origin = _origin(source, progress, manifest, device, display) if source else None
    trained_on = _trained_on(source, manifest) if source else None
    backbone = _build_backbone(config, device)
    if origin is None:
        weights_digest = _load_weights(backbone, config, run, device, display)
        origin = Origin(now(), weights_digest, manifest.fingerprint)
    progress.origin = replace(origin, started=now()) if parent else origin
    model, stages = _build_model(backbone, config, device, len(manifest.classes))
    store = Store(config.cache.max_bytes, display.message)
    check = Verification(verify, trained_on)
    splits = _decode(config, manifest, store, device, display, stop, check)
    session = Session(
        config=config,
        run=run,
        device=device,
        display=display,
        stop=stop,
        manifest=manifest,
        model=model,
        stages=stages,
        origin=progress.origin,
        store=store,
        splits=splits,
        contents=_contents(manifest, splits, check),
        parent=parent,
        found=found,
        progress=progress,
        totals=Totals(),
        # Within a call, TensorFlow may begin a step before the previous one is over. Two workers
        # could then exchange their sums in different orders, and both would wait forever.
        pace=Pace(SECONDS_PER_CALL, most=MOST_STEPS if device.workers == 1 else 1),
    )
    _restore(session)
    _announce(session)
    return session


def _first_progress(config: Experiment, start: Found | Parent | None) -> Progress:
    if start is None:
        return Progress([stage.epochs for stage in config.stages])
    stages = len(start.progress.stage_epochs)
    if stages != len(config.stages):
        raise RunError(
            f"the checkpoint has {stages} stages, the experiment has {len(config.stages)}.\n"
            "Start again with `fer train --fresh`."
        )
    return start.progress


def _origin(
    source: RunDirectory, progress: Progress, manifest: Manifest, device: Device, display: Display
) -> Origin:
    """How the run began whose checkpoint is restored: with this dataset, and with these kernels."""
    origin = progress.origin
    try:
        record = source.read_record()
    except RunError as error:
        if origin is None:  # an older version wrote the checkpoint
            raise
        damaged = str(error).splitlines()[0]
        display.message(f"warning: {damaged} It is written again, from the checkpoint.")
    else:
        kernels.check_same(record.kernels, device.kernels, source.run_id)
        origin = origin or Origin(
            record.started or now(), record.model.weights_digest, record.dataset.fingerprint or ""
        )
    source.check_dataset(manifest.root, manifest.fingerprint, origin.fingerprint)
    return replace(origin, fingerprint=manifest.fingerprint)


def _trained_on(source: RunDirectory, manifest: Manifest) -> TrainedOn | None:
    """The content that a run was trained on; None if its `run.json` is damaged.

    Raises:
        DataError: the labels of the dataset changed since.
    """
    try:
        source.check_labels(manifest)
        return source.trained_on(FRESH)
    except RunError:  # reported before
        return None


# The dataset -----------------------------------------------------------------------------------


def _open_dataset(
    config: Experiment,
    device: Device,
    display: Display,
    manifest: Manifest,
) -> Manifest:
    """Check the dataset, which is the same for all workers."""
    if "valence_arousal" in config.model.targets:
        _check_valence_arousal(manifest, config)
    for warning in manifest.warnings():
        display.message(f"warning: {warning}")
    if config.selection == "test_split":
        display.message(f"warning: {SELECTED_ON_TEST}")
    collective.agree(device, f"the dataset at {manifest.root}", manifest.fingerprint)
    return manifest


def _check_valence_arousal(manifest: Manifest, config: Experiment) -> None:
    for split in ("train", config.selection_split):
        if not np.isfinite(manifest.valence_arousal(split)).all(axis=1).any():
            raise DataError(
                f"{manifest.root}: no {split} sample has valence and arousal.\n"
                "Remove valence_arousal from model.targets, or use another dataset."
            )


@timed("reading and decoding images")
def _decode(
    config: Experiment,
    manifest: Manifest,
    store: Store,
    device: Device,
    display: Display,
    stop: Stop,
    check: Verification,
) -> dict[str, decoding.Split]:
    """Decode the images for training and those for selection."""
    splits = {
        name: decoding.open_split(
            manifest,
            name,
            config.image.size,
            _show_decoding(display, name, stop),
            store=store,
            check=check,
        )
        for name in ("train", config.selection_split)
    }
    _check_shares(config, device, splits)
    return splits


def _contents(
    manifest: Manifest, splits: dict[str, decoding.Split], check: Verification
) -> dict[str, str]:
    """What `run.json` records of the content: that of the run which is continued, else of now."""
    found = {LABELS: labels_digest(manifest.samples)}
    for name in manifest.split_sizes():
        known = splits[name].contents if name in splits else ""
        found[name] = known or decoding.split_contents(manifest, name, check.which)
    return found | dict(check.trained_on.contents if check.trained_on else {})


def _show_decoding(display: Display, split: str, stop: Stop) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        display.progress(f"decoding {split} images", done, total)
        if stop.is_set():
            raise Interrupted("stopped while decoding images; nothing was lost")

    return show


def _check_shares(config: Experiment, device: Device, splits: dict[str, decoding.Split]) -> None:
    """Make sure that every worker and each of its devices gets images."""
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


# The network -----------------------------------------------------------------------------------


@timed("building the network")
def _build_backbone(config: Experiment, device: Device) -> Any:
    """The backbone with random weights, in which the layers of all stages exist."""
    keras.utils.clear_session()  # layer names count from the start in every run
    keras.mixed_precision.set_global_policy(POLICIES[chosen_precision(config, device)])
    keras.utils.set_random_seed(config.seed)
    with device.strategy.scope():
        backbone = build_backbone(config.model, config.image.size)
    freezing.check_stages(backbone.layers, config.stages)
    return backbone


def chosen_precision(config: Experiment, device: Device) -> str:
    """The arithmetic inside the network of `config` on `device`."""
    depthwise = BACKBONES[config.model.backbone].depthwise
    return device.precision(config.training.precision, depthwise=depthwise)


@timed("building the network")
def _load_weights(
    backbone: Any, config: Experiment, run: RunDirectory, device: Device, display: Display
) -> str | None:
    """Load the first weights of a new run; returns their digest."""
    if config.model.weights != "none":
        display.message(f"loading the weights of {config.model.backbone}: {config.model.weights}")
    with device.strategy.scope():
        return load_weights(backbone, config.model, run.outputs)


@timed("building the network")
def _build_model(
    backbone: Any, config: Experiment, device: Device, classes: int
) -> tuple[Any, list[freezing.ResolvedStage]]:
    """The whole network, and what each stage trains in it."""
    with device.strategy.scope():
        model = attach_head(backbone, config.model, classes)
        stages = freezing.resolve_stages(model, config.stages, config.model)
    use_fast_kernels(model, device.kind)
    return model, stages


# Where training begins -------------------------------------------------------------------------


def _restore(session: Session) -> None:
    """Give the model the values of the checkpoint, if there is one."""
    parent, progress, model = session.parent, session.progress, session.model
    if parent and not parent.has_state:
        try:
            model.set_weights(load_model(parent.run.model).get_weights())
        except ValueError as error:
            raise RunError(
                f"{parent.run.model}: is not the model of this run; its weights do not fit.\n"
                f"{OTHER_MODEL}"
            ) from error
    elif progress.weights:
        origin = parent.run if parent else session.run
        checkpoint.restore(origin, progress, "model", model.variables)


def _announce(session: Session) -> None:
    """Print where training begins."""
    config, run, progress = session.config, session.run, session.progress
    show = session.display.message
    _announce_damage(session)
    if session.parent:
        parent = session.parent.run.run_id
        show(f"{run.run_id}: continuing from {parent} after epoch {progress.epoch}")
        if not session.parent.has_state:
            show(NO_STATE.format(epoch=progress.epoch, limit=config.training.keep_state_mb))
        if config.stages[-1].schedule == "cosine":
            show(COSINE_OF_ALL.format(epochs=config.stages[-1].epochs))
    elif progress.weights:
        show(f"{run.run_id}: resuming at epoch {progress.epoch + 1}, step {progress.step}")
    else:
        show(f"{run.run_id}: training on {session.device.name}, {session.precision}")
        _describe_stages(session)
        if session.device.writes:
            for advice in advice_to_continue(config, run.outputs):
                show(advice)


def _announce_damage(session: Session) -> None:
    """Name every damaged file of the checkpoint, and say what is used instead."""
    given = session.found or session.parent
    used = "the checkpoint before it" if session.found and session.found.is_before else "a copy"
    for problem in given.problems if given else ():
        session.display.message(f"warning: {problem}; training continues from {used}")


def _describe_stages(session: Session) -> None:
    config, show = session.config, session.display.message
    for stage, resolved in zip(config.stages, session.stages, strict=True):
        show(f"  {freezing.describe(stage, resolved)}")
    steps = pipeline.steps_per_epoch(session.splits["train"], config)
    slow = freezing.slow_statistics(session.model, session.stages, config.model, steps)
    if slow:
        show(f"warning: {slow}")
