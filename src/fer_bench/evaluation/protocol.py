"""What a finished run is measured on: everything that is known of it without its model.

Whatever can be refused is refused here, before TensorFlow is imported and the model is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import ConfigError, DataError, RunError
from fer_bench.evaluation import cross_dataset
from fer_bench.evaluation.cross_dataset import ClassRule
from fer_bench.evaluation.test_time_views import Views
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import ProtocolRecord
from fer_bench.storage.replacement import settle_files

# What says where a dataset lies, and nothing of what it is.
PLACES = tuple(
    f"dataset.{name}"
    for name, field in Dataset.model_fields.items()
    if Path in (field.annotation, *get_args(field.annotation))
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """What a model is measured on, and how it gets to see it.

    Attributes:
        split: the name of the split.
        data: the experiment whose dataset is used; None for that of the run itself.
        views: how often each image is shown.
        class_rule: how classes are treated that the model or another dataset lacks.
    """

    split: str = "test"
    data: Experiment | None = None
    views: Views = "none"
    class_rule: ClassRule = "mask_logits"

    @property
    def name(self) -> str:
        """The name of the evaluation's files: `test`, `test+flip`, `test@fer2013_csv`."""
        elsewhere = f"@{self.data.name}" if self.data else ""
        return f"{self.split}{elsewhere}{'' if self.views == 'none' else f'+{self.views}'}"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run that was trained here.

    Attributes:
        run: its folder.
        config: its experiment; the dataset lies where the user says.
        classes: what the model tells apart, in the order of its logits.
    """

    run: RunDirectory
    config: Experiment
    classes: tuple[str, ...]

    def own_dataset(self) -> Manifest:
        """The dataset that it was trained on. Raises: DataError when it is not there any more."""
        root = self.config.dataset.root
        try:
            manifest = load_manifest(self.config.dataset)
            self.run.check_dataset(manifest.root, manifest.fingerprint)
        except DataError as error:
            here = "" if root.is_absolute() else f" ({root.resolve()} from this folder)"
            raise DataError(
                f"{error}\n{self.run.config} says where the data of this run lies: "
                f"dataset.root is {root}{here}.\n"
                "Give another place with --set dataset.root=FOLDER."
            ) from error
        return manifest


def open_trained_run(run: RunDirectory, overrides: Sequence[str] = ()) -> TrainedRun:
    """What a run says of itself.

    Args:
        run: its folder.
        overrides: where its dataset lies now, each `dataset.root=folder` or another of `PLACES`.

    Raises:
        RunError: it is not finished, was trained elsewhere, or does not say what its classes are.
        ConfigError: an override would make it another experiment.
    """
    settle_files(run.path)
    if run.status() != "finished":
        raise RunError(
            f"{run.run_id}: the run is not finished (status: {run.status()}).\n"
            f"Finish it with: fer train {run.config}"
        )
    if run.is_adopted():
        raise RunError(
            f"{run.run_id}: its predictions come from elsewhere, and there is no model to ask.\n"
            "Its metrics are in the run already; give more predictions with: fer adopt"
        )
    _check_places(overrides)
    return TrainedRun(run, load_experiment(run.config, overrides), _classes(run))


def load_data(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment whose dataset is measured on, lying where the overrides say.

    Raises: ConfigError.
    """
    _check_places(overrides)
    return load_experiment(path, overrides)


def _check_places(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in PLACES:
            raise ConfigError(
                f"--set {override}: a trained run stays the experiment that it is; all that can be "
                f"set is where data lies: {', '.join(PLACES)}.\n"
                "Train another experiment with fer train, or measure on other data with --data."
            )


def _classes(run: RunDirectory) -> tuple[str, ...]:
    classes = tuple(run.read_record().dataset.classes)
    if not classes:
        raise RunError(
            f"{run.run_json}: dataset.classes is missing: what does this model distinguish?\n"
            f"Train the run again: fer train {run.config} --fresh"
        )
    return classes


@dataclass(frozen=True)
class Measurement:
    """A run, what it is measured on, and the images for that.

    Attributes:
        trained: the run.
        protocol: the split, the views and the rule for classes.
        manifest: the dataset; of another one than the run's, only the images of known classes.
    """

    trained: TrainedRun
    protocol: Protocol
    manifest: Manifest

    def of_split(self, split: str) -> "Measurement":
        """The same of another split."""
        return replace(self, protocol=replace(self.protocol, split=split))

    def record(self) -> ProtocolRecord:
        """What the metrics say of it."""
        config, protocol, manifest = self.trained.config, self.protocol, self.manifest
        return ProtocolRecord(
            dataset=manifest.name,
            release=manifest.release,
            dataset_fingerprint=manifest.fingerprint,
            split=protocol.split,
            classes=list(manifest.classes),
            views=protocol.views,
            class_rule=protocol.class_rule if protocol.data else None,
            selection=config.selection,
            trunk_views=config.cache.views,
            **(protocol.data or config).dataset.label_choice,
        )

    def answers(self, probabilities: FloatArray) -> tuple[tuple[str, ...], FloatArray]:
        """What the model may answer, and how probable it finds each answer.

        Args:
            probabilities: of the classes of the run, shape (n, classes).
        """
        known = self.trained.classes
        if self.protocol.data is None:
            return known, probabilities
        shared = [name for name in known if name in self.manifest.classes]
        return cross_dataset.answers(probabilities, known, shared, self.protocol.class_rule)


def open_measurement(trained: TrainedRun, protocol: Protocol) -> Measurement:
    """Read the dataset that a run is measured on. With `data`, its own is not needed.

    Raises:
        DataError: it is missing, has no such split, or is not the one that the run says; or it
            shares fewer than two classes with the run.
    """
    if protocol.data is None:
        manifest = trained.own_dataset()
    else:
        other = load_manifest(protocol.data.dataset)
        manifest = cross_dataset.restricted(
            other, cross_dataset.shared_classes(trained.classes, other)
        )
    manifest.split(protocol.split)
    return Measurement(trained, protocol, manifest)
