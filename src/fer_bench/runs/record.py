"""What `run.json` says of a run, and each evaluation of its protocol, wherever it was trained.

One form for runs that were trained here and for those that were adopted: what nobody knows of a run
is None in it, never a key that is missing.
"""

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fer_bench.config.dataset import Dataset
from fer_bench.data.manifest import Manifest
from fer_bench.data.splits import split_digest


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """Section `dataset` of `run.json`.

    Attributes:
        name: the registered name.
        release: which release was recognised.
        fingerprint: of the samples, see `Manifest.fingerprint`.
        split_digest: of the splits that they are in.
        classes: in the order of the model's logits.
        counts: samples by split and class.
        dropped: rows that were left out, by reason.
        labels: which of several labels the release has; None where it has one.
        class_labels: by class, the labels of the release that it takes; None where all are kept.
    """

    name: str | None = None
    release: str | None = None
    fingerprint: str | None = None
    split_digest: str | None = None
    classes: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int] = field(default_factory=dict)
    labels: str | None = None
    class_labels: Mapping[str, Sequence[str]] | None = None

    @classmethod
    def of(cls, manifest: Manifest, config: Dataset) -> "DatasetRecord":
        """That of a dataset which was read as `config` says."""
        return cls(
            name=manifest.name,
            release=manifest.release,
            fingerprint=manifest.fingerprint,
            split_digest=split_digest(manifest.samples),
            classes=list(manifest.classes),
            counts=manifest.counts(),
            dropped=dict(manifest.dropped),
            **config.label_choice,
        )


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Section `model` of `run.json`.

    Attributes:
        backbone: its registered name; of an adopted run, what the model is called.
        weights: where they came from at first; `adopted` where there is no model.
        weights_digest: of the weights that the backbone started from; None where random.
        parameters: how many the model has.
        trainable_parameters: how many of them train, by stage.
        first_trainable_layer: its name, by stage.
    """

    backbone: str
    weights: str
    weights_digest: str | None = None
    parameters: int | None = None
    trainable_parameters: Sequence[int] = ()
    first_trainable_layer: Sequence[str | None] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """`run.json`. The public contract names its keys; they stand in this order."""

    run_id: str
    name: str
    seed: int
    status: str
    started: str
    ended: str | None
    device: str | None = None
    precision: str | None = None
    xla: bool | None = None
    threads: int | None = None
    workers: int | None = None
    versions: Mapping[str, str]
    dataset: DatasetRecord
    model: ModelRecord
    stages: Sequence[Mapping[str, Any]] = ()
    trunk_views: int | None = None
    selection: str
    tracking: Sequence[str] = ()
    best: Mapping[str, Any] | None = None
    parent: Mapping[str, Any] | None = None
    state_kept: bool = False
    images_per_second: float | None = None
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `run.json`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ProtocolRecord:
    """Section `protocol` of `metrics/<evaluation>.json`: what numbers must share to be compared.

    Attributes:
        dataset: the registered name of what was measured on.
        release: which release was recognised.
        dataset_fingerprint: of its samples.
        split: the name of the split.
        classes: those of its images.
        views: how often each image was shown.
        class_rule: how classes were treated that one side lacks; None on the run's own dataset.
        selection: the split that chose the model, or `unknown`.
        trunk_views: how many views of each image the frozen layers saw while training.
        labels: which of several labels the release has; None where it has one.
        class_labels: by class, the labels of the release that it takes; None where all are kept.
    """

    dataset: str | None
    release: str | None
    dataset_fingerprint: str | None
    split: str
    classes: Sequence[str]
    views: str = "none"
    class_rule: str | None = None
    selection: str
    trunk_views: int | None
    labels: str | None = None
    class_labels: Mapping[str, Sequence[str]] | None = None

    def to_json(self) -> dict[str, Any]:
        """The section."""
        return asdict(self)


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of installed packages."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version()} | found


def now() -> str:
    """The time, in UTC (ISO 8601)."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
