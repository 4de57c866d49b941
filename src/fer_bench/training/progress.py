"""How far training is: `progress.json` of a checkpoint, its one writer and its one reader."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from fer_bench.runs.record import BestRecord, Count, NotNegative, ParentRecord, Time
from fer_bench.storage.files import parse_json_with_nan, read_bounded, why_unreadable, write_json

# A hundred thousand epochs take about this much.
LARGEST_BYTES = 50 * 2**20

ArrayFile = Annotated[str, Field(pattern=r"^[\w-]+\.npz$")]  # a name, never a path
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_STRICT = {"allow_inf_nan": False, "extra": "forbid"}


@dataclass
class StageProgress:
    """The state of early stopping and the plateau rule in one stage."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    best_val_loss: float | None = None
    epochs_without_better: Count = 0
    plateau_epochs: Count = 0
    plateau_scale: NotNegative = 1.0


@dataclass(frozen=True)
class Origin:
    """How the run began: what `run.json` says of it, in case that file is damaged.

    Attributes:
        started: when (ISO 8601).
        weights_digest: of the weights that the backbone started from; None for random ones.
        fingerprint: of the dataset, see `Manifest.fingerprint`.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    started: Time
    weights_digest: str | None
    fingerprint: str


@dataclass
class Progress:
    """How far training is.

    Attributes:
        stage_epochs: epochs of each stage, fewer than planned if early stopping ended it.
        epoch: completed epochs.
        step: completed steps of the current epoch.
        stage: index of the stage whose optimizer is saved; -1 if there is none.
        totals: sums of loss, correct predictions and images over these steps.
        epoch_seconds: time spent in these steps.
        history: one row per completed epoch, as in `history.csv`.
        best: the selected model, or None before the first epoch.
        in_stage: the state of the rules of the current stage.
        optimizer: name of the optimizer's file; empty before the first checkpoint.
        weights: names of the files with the weights: those frozen in the stage, and the others.
        best_weights: likewise for the selected model, which may be from an earlier stage.
        parent: the run that this one continues; None for most runs.
        origin: how the run began; None in the checkpoints of older versions.
        digests: the SHA-256 of every array file; empty in the checkpoints of older versions.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    stage_epochs: Annotated[list[Count], Field(min_length=1)]
    epoch: Count = 0
    step: Count = 0
    stage: Annotated[int, Field(ge=-1)] = 0
    totals: Annotated[list[float], Field(min_length=3, max_length=3)] = field(
        default_factory=lambda: [0.0, 0.0, 0.0]
    )
    epoch_seconds: NotNegative = 0.0
    history: list[dict[str, str | int | float | None]] = field(default_factory=list)
    best: BestRecord | None = None
    in_stage: StageProgress = field(default_factory=StageProgress)
    optimizer: Annotated[str, Field(pattern=r"^([\w-]+\.npz)?$")] = ""
    weights: Annotated[list[ArrayFile], Field(max_length=2)] = field(default_factory=list)
    best_weights: Annotated[list[ArrayFile], Field(max_length=2)] = field(default_factory=list)
    parent: ParentRecord | None = None
    origin: Origin | None = None
    digests: dict[ArrayFile, Sha256] = field(default_factory=dict)

    @property
    def files(self) -> set[str]:
        """The names of all array files."""
        return {self.optimizer, *self.weights, *self.best_weights} - {""}

    @property
    def done(self) -> bool:
        """Whether all epochs of all stages are completed."""
        return self.epoch >= sum(self.stage_epochs)


def write_progress(path: Path, progress: Progress) -> None:
    """Write a `progress.json`, with a digest of itself, atomically."""
    document = asdict(progress)
    write_json(path, document | {"digest": _digest(document)})


def read_progress(path: Path) -> Progress:
    """Read and check a `progress.json`.

    Raises:
        ValueError: it is missing, too large, not JSON, not what its own digest says, or a value is
            not what its key allows. The message does not repeat the path.
    """
    document = _document(path)
    digest = document.pop("digest", None)
    if digest is None and document.get("digests"):
        raise ValueError("its own digest is missing")
    if digest is not None and digest != _digest(document):
        raise ValueError("its content is not what was written (its digest differs)")
    try:
        progress = _reader().validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        from fer_bench.config.messages import explain_first

        raise ValueError(explain_first(error)) from error
    _check(progress)
    return progress


def _document(path: Path) -> dict[str, Any]:
    """Raises: ValueError."""
    try:
        document = parse_json_with_nan(read_bounded(path, LARGEST_BYTES))
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read as JSON ({why_unreadable(error)})") from error
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {type(document).__name__}")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache  # building it takes milliseconds
def _reader() -> TypeAdapter[Progress]:
    return TypeAdapter(Progress)


def _check(progress: Progress) -> None:
    """Check what its values say together. Raises: ValueError."""
    planned, rows = sum(progress.stage_epochs), len(progress.history)
    if progress.epoch > planned:
        raise ValueError(f"epoch is {progress.epoch}, its stages have {planned} epochs")
    if progress.stage >= len(progress.stage_epochs):
        raise ValueError(f"stage is {progress.stage}, it has {len(progress.stage_epochs)} stages")
    if rows != progress.epoch:
        raise ValueError(f"history has {rows} rows, epoch is {progress.epoch}")
    if progress.digests and set(progress.digests) != progress.files:
        raise ValueError("digests does not name the array files")
