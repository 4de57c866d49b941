"""`run.json`: what a run is, how far it is and what it ran on, whether trained here or adopted.

`RunRecord` is what is written and what is read. What is not known of a run is None. Older versions
wrote fewer keys, and no `schema`: those have their defaults.
"""

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from fer_bench.errors import RunError
from fer_bench.storage.files import parse_json_with_nan, read_bounded, read_json, why_unreadable

if TYPE_CHECKING:
    from fer_bench.config.dataset import Dataset
    from fer_bench.data.manifest import Manifest

# The version of the format. It changes when a key gets another meaning, not when one is added.
SCHEMA = 1

Status = Literal["running", "finished", "failed", "interrupted"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _checked_time(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


def _known_schema(schema: int) -> int:
    if schema != SCHEMA:
        raise ValueError(f"is {schema}, this version of fer-bench reads {SCHEMA}; update it")
    return schema


Time = Annotated[str, AfterValidator(_checked_time)]


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """Section `dataset` of `run.json`.

    Attributes:
        name: the registered name.
        release: which release was recognised.
        fingerprint: of the samples, see `Manifest.fingerprint`.
        split_digest: of the splits of the samples.
        classes: in the order of the model's logits.
        counts: samples per split and class.
        dropped: rows that were left out, per reason.
        labels: which of several labels the release has; None where it has one.
        class_labels: per class, the labels of the release that it takes; None where all are kept.
        content_digest: SHA-256 over the content of the images of each split, and over `labels`: all
            classes, valence, arousal and attributes; None for runs of older versions.
    """

    name: str | None = None
    release: str | None = None
    fingerprint: str | None = None
    split_digest: str | None = None
    classes: Sequence[str] = ()
    counts: Mapping[str, Mapping[str, Count]] = field(default_factory=dict)
    dropped: Mapping[str, Count] = field(default_factory=dict)
    labels: str | None = None
    class_labels: Mapping[str, Sequence[str]] | None = None
    content_digest: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls,
        manifest: "Manifest",
        config: "Dataset",
        content_digest: Mapping[str, str] | None = None,
    ) -> "DatasetRecord":
        """The section for a dataset that was read as `config` says."""
        from fer_bench.data.splits import split_digest

        return cls(
            name=manifest.name,
            release=manifest.release,
            fingerprint=manifest.fingerprint,
            split_digest=split_digest(manifest.samples),
            classes=list(manifest.classes),
            counts=manifest.counts(),
            dropped=dict(manifest.dropped),
            content_digest=dict(content_digest) if content_digest else None,
            **config.label_choice,
        )


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Section `model` of `run.json`.

    Attributes:
        backbone: its registered name; of an adopted run, the name of the model.
        weights: the source of the first weights; `adopted` where there is no model.
        weights_digest: of the weights that the backbone started from; None where random.
        parameters: the number of parameters of the model.
        trainable_parameters: how many of them train, per stage.
        first_trainable_layer: its name, per stage.
    """

    backbone: str | None = None
    weights: str | None = None
    weights_digest: str | None = None
    parameters: Count | None = None
    trainable_parameters: Sequence[Count] | None = ()
    first_trainable_layer: Sequence[str | None] | None = ()


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """An entry of `stages` in `run.json`.

    Attributes:
        name: of the stage.
        epochs: that it has, after early stopping.
        frozen_up_to: the last layer of the frozen trunk; None where nothing is frozen.
    """

    name: str | None = None
    epochs: Count
    frozen_up_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class BestRecord:
    """Section `best` of `run.json`: the 1-based epoch whose model was kept, and its metric."""

    epoch: Positive | None = None
    metric: str | None = None
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class ParentRecord:
    """Section `parent` of `run.json`: the finished run that this one continues, if it does.

    Attributes:
        run_id: of the parent.
        epoch: its last epoch, 1-based.
        optimizer: `kept`, or `new` where the parent's state was not kept.
    """

    run_id: str
    epoch: Count
    optimizer: Literal["kept", "new"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `run.json`, in this order. Its keys are a public contract.

    Attributes:
        schema: the version of the format.
        started: ISO 8601, as `ended`.
        kernels: the library that the CPU computed with, with which the run is resumed; None on a
            GPU.
        xla: whether XLA compiled the training step.
        trunk_views: how many views of each image the frozen layers saw.
        selection: the split that chose the model.
        tracking: the trackers that the run is mirrored to.
        state_kept: whether a finished run can be trained longer with its own optimizer.
        images_per_second: mean over the epochs.
        seconds: all epochs together.
    """

    __pydantic_config__: ClassVar[Any] = {"allow_inf_nan": False}

    schema: Annotated[int, AfterValidator(_known_schema)] = SCHEMA
    run_id: str | None = None
    name: str | None = None
    seed: int | None = None
    status: Status | None = None
    started: Time | None = None
    ended: Time | None = None
    device: str | None = None
    precision: str | None = None
    kernels: Literal["onednn", "eigen"] | None = None
    xla: bool | None = None
    threads: Positive | None = None
    workers: Positive | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    dataset: DatasetRecord = field(default_factory=DatasetRecord)
    model: ModelRecord = field(default_factory=ModelRecord)
    stages: Sequence[StageRecord] = ()
    trunk_views: Count | None = None
    selection: Literal["validation", "test_split", "unknown"] | None = None
    tracking: Sequence[str] = ()
    best: BestRecord | None = None
    parent: ParentRecord | None = None
    state_kept: bool = False
    images_per_second: NotNegative | None = None
    seconds: NotNegative | None = None

    @property
    def is_adopted(self) -> bool:
        """Whether the predictions come from elsewhere, so that there is no model."""
        return self.model.weights == "adopted"

    def to_json(self) -> dict[str, Any]:
        """The document of `run.json`."""
        return asdict(self)


@cache  # building it takes milliseconds, and few commands need it
def _reader() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)


def read_record(path: Path) -> RunRecord:
    """Read and check a `run.json`.

    Raises:
        RunError: the file is missing, too large, not JSON, written by a newer version, or a value
            is not what its key allows. The message names the file and the key.
    """
    try:
        content = read_bounded(path)
        parse_json_with_nan(content)  # refuses more: a key that occurs twice, numbers without end
        # Strict: "3" is not a number, and 3 is not a name.
        return _reader().validate_json(content, strict=True)
    except ValidationError as error:
        found = _explained(error)
    except (OSError, ValueError) as error:
        found = why_unreadable(error)
    config = path.with_name("config.yaml")
    raise RunError(f"{path}: {found}.\nTrain the run again: fer train {config} --fresh")


def is_newer(path: Path) -> bool:
    """Whether a newer version wrote this `run.json`, so that it must not be written again."""
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("schema", SCHEMA) != SCHEMA


def _explained(error: ValidationError) -> str:
    from fer_bench.config.messages import explain_first

    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"cannot be read as JSON ({first['ctx']['error']})"
    if not first["loc"]:
        return f"expected a JSON object, found {type(first['input']).__name__}"
    return explain_first(error)


@dataclass(frozen=True, kw_only=True)
class ProtocolRecord:
    """Section `protocol` of `metrics/<evaluation>.json`: what numbers must share to be compared.

    Attributes:
        dataset: the registered name of the measured dataset.
        release: which release was recognised.
        dataset_fingerprint: of its samples.
        split: the name of the split.
        classes: of its images.
        views: how each image was shown.
        class_rule: how classes that one side lacks were treated; None on the run's own dataset.
        selection: the split that chose the model, or `unknown`.
        trunk_views: how many views of each image the frozen layers saw in training.
        labels: which of several labels the release has; None where it has one.
        class_labels: per class, the labels of the release that it takes; None where all are kept.
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
    """The versions of Python and of installed packages."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version()} | found


def now() -> str:
    """The time, in UTC (ISO 8601)."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
