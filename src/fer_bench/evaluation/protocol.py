"""What a finished run is measured on, checked without its model.

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
from fer_bench.data.contents import Verification, Verify
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import ConfigError, DataError, RunError
from fer_bench.evaluation import cross_dataset
from fer_bench.evaluation.cross_dataset import ClassRule
from fer_bench.evaluation.test_time_views import Views
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.elsewhere import place_of_results
from fer_bench.runs.record import ProtocolRecord
from fer_bench.storage.files import target

# The settings that say where a dataset is, and nothing about its content.
PLACES = tuple(
    f"dataset.{name}"
    for name, field in Dataset.model_fields.items()
    if Path in (field.annotation, *get_args(field.annotation))
)

OTHER_DATA = (
    "Or evaluate on the changed images as on other data: --data with an experiment file for them."
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """What a model is measured on, and how.

    Attributes:
        split: the name of the split.
        data: the experiment whose dataset is used; None for the dataset of the run.
        views: the test-time views of each image.
        class_rule: how to treat classes that only the model or only the other dataset has.
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
        results: the folder that results are written into: that of the run, or a copy of it.
        config: its experiment, with the dataset where the user says.
        classes: the classes of the model, in the order of its logits.
    """

    run: RunDirectory
    results: RunDirectory
    config: Experiment
    classes: tuple[str, ...]

    def own_dataset(self, verify: Verify = "sample") -> Manifest:
        """The dataset that it was trained on. Raises: DataError when it is missing or changed.

        `verify` says which files of labels that the cache knows are read again.
        """
        root = self.config.dataset.root
        try:
            manifest = load_manifest(self.config.dataset, verify)
            self.run.check_dataset(manifest.root, manifest.fingerprint)
            self.run.check_labels(manifest)
        except DataError as error:
            here = "" if root.is_absolute() else f" ({target(root)} from this folder)"
            raise DataError(
                f"{error}\n{self.run.config} has dataset.root: {root}{here}.\n"
                "If the data is elsewhere now: --set dataset.root=FOLDER."
            ) from error
        return manifest


def open_trained_run(
    run: RunDirectory, overrides: Sequence[str] = (), to: Path | None = None
) -> TrainedRun:
    """Read a finished run that has a model.

    Args:
        run: its folder.
        overrides: where its dataset is now, each `dataset.root=folder` or another of `PLACES`.
        to: a folder of runs for its results; None for the run itself.

    Raises:
        RunError: it is not finished, was trained elsewhere, cannot be written, or does not record
            its classes.
        ConfigError: an override would make it another experiment.
    """
    run.settle()
    if run.status() != "finished":
        raise RunError(
            f"{run.run_id}: the run is not finished (status: {run.status()}).\n"
            f"Finish it with: fer train {run.config}"
        )
    if run.is_adopted():
        raise RunError(
            f"{run.run_id}: its predictions come from elsewhere, so there is no model.\n"
            "Its metrics are in the run already; to add other predictions: fer adopt"
        )
    _check_places(overrides)
    config, classes = load_experiment(run.config, overrides), _classes(run)
    return TrainedRun(run, place_of_results(run, to), config, classes)


def load_data(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment whose dataset a run is measured on, with the dataset where `overrides` say.

    Raises:
        ConfigError: it cannot be read, or an override changes more than a place.
    """
    _check_places(overrides)
    return load_experiment(path, overrides)


def _check_places(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in PLACES:
            raise ConfigError(
                f"--set {override}: the experiment of a trained run is fixed; only the place of "
                f"its data can be set: {', '.join(PLACES)}.\n"
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
    """A run, the protocol of its evaluation, and the dataset for it.

    Attributes:
        trained: the run.
        protocol: the split, the views and the rule for classes.
        manifest: the dataset; if it is not that of the run, only the images of shared classes.
        verify: which image files are read again to find out whether they changed.
    """

    trained: TrainedRun
    protocol: Protocol
    manifest: Manifest
    verify: Verify = "sample"

    @property
    def check(self) -> Verification:
        """What the content of the images is compared with."""
        own = self.protocol.data is None
        return Verification(self.verify, self.trained.run.trained_on(OTHER_DATA) if own else None)

    def of_split(self, split: str) -> "Measurement":
        """The same measurement on another split."""
        return replace(self, protocol=replace(self.protocol, split=split))

    def record(self) -> ProtocolRecord:
        """Section `protocol` of the metrics."""
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
        """The classes that the model may predict, and the probability of each.

        Args:
            probabilities: of the classes of the run, shape (n, classes).
        """
        known = self.trained.classes
        if self.protocol.data is None:
            return known, probabilities
        shared = [name for name in known if name in self.manifest.classes]
        return cross_dataset.answers(probabilities, known, shared, self.protocol.class_rule)


def open_measurement(
    trained: TrainedRun, protocol: Protocol, verify: Verify = "sample"
) -> Measurement:
    """Read the dataset that a run is measured on. With `protocol.data`, its own is not needed.

    `verify` says which of its files are read again to find out whether they changed.

    Raises:
        DataError: it is missing, does not have the split, or differs from what the run recorded; or
            it shares fewer than two classes with the run.
    """
    if protocol.data is None:
        manifest = trained.own_dataset(verify)
    else:
        other = load_manifest(protocol.data.dataset, verify)
        manifest = cross_dataset.restricted(
            other, cross_dataset.shared_classes(trained.classes, other)
        )
    manifest.split(protocol.split)
    return Measurement(trained, protocol, manifest, verify)
