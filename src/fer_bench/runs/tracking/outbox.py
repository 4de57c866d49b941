"""What a tracker does not have of a run yet, and the file that records what it has."""

import contextlib
import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fer_bench.errors import FerError, RunError, shortened
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_config, read_metrics
from fer_bench.storage.files import read_json, why_unreadable, write_json
from fer_bench.storage.locks import held

FOLDER = "tracking"
# Charts. The sheets of `fer explain` show faces, which many licences keep where they are.
PICTURES = ("figures/**/*.png",)


class TrackingError(FerError):
    """A tracker refuses what is sent; nothing is lost, the run directory has all of it."""


class UnreachableError(TrackingError):
    """The tracker does not answer, so that no other run can be sent either."""


@dataclass
class Sent:
    """What a tracker has of one run.

    Attributes:
        path: the file that records it.
        epochs: how many rows of `history.csv`.
        files: the digest of each file when it was sent, per path in the run directory.
        status: the last status sent; None for none.
        server: what the tracker itself has to store.
    """

    path: Path
    epochs: int = 0
    files: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    server: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, {key: value for key, value in asdict(self).items() if key != "path"})

    def forget(self) -> None:
        """Start again as if nothing had been sent."""
        self.epochs, self.files, self.status, self.server = 0, {}, None, {}


@dataclass(frozen=True)
class TimedEpoch:
    """A row of `history.csv`.

    Attributes:
        number: 1-based.
        time: when the epoch ended, in seconds since 1970.
        values: its numbers per column, without those that are missing or not finite.
    """

    number: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Parcel:
    """What is to be sent; false if that is nothing.

    Attributes:
        epochs: the new rows of `history.csv`.
        files: digests of new or changed files, per path in the run directory.
        status: `running`, `finished`, `failed` or `killed` if it has changed, else None.
    """

    epochs: list[TimedEpoch] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    status: str | None = None

    def __bool__(self) -> bool:
        return bool(self.epochs or self.files or self.status)

    def __str__(self) -> str:
        parts = [
            _count(len(self.epochs), "epoch"),
            _count(len(self.files), "file"),
            f"status {self.status}" if self.status else "",
        ]
        return ", ".join(filter(None, parts)) or "nothing"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


@contextlib.contextmanager
def sending(run: RunDirectory, tracker: str) -> Iterator[Sent]:
    """What `tracker` has of `run`; one process and thread at a time may change and save it.

    Raises:
        TrackingError: the file that records what was sent cannot be read.
    """
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    with held(folder / f".{tracker}.lock", wait=True):
        yield _read_sent(folder / f"{tracker}.json")


def _read_sent(path: Path) -> Sent:
    if not path.exists():
        return Sent(path)
    try:
        return Sent(path, **_checked(read_json(path)))
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"{path}: cannot be read ({why_unreadable(error)}); remove it, and the run is sent as "
            "a new one"
        ) from error


def _checked(document: Any) -> dict[str, Any]:
    """What `Sent.save` writes. Raises: ValueError that names the key."""
    kinds = {"epochs": int, "files": dict, "status": str | None, "server": dict}
    if not isinstance(document, dict) or not document.keys() <= kinds.keys():
        raise ValueError(f"expected an object of {', '.join(kinds)}")
    for key, value in document.items():
        if not isinstance(value, kinds[key]):
            raise ValueError(f"{key} is {shortened(value)}")
    return document


def unsent(run: RunDirectory, sent: Sent) -> Parcel:
    """What `run` has now that was not `sent`."""
    status = status_of(run)
    digests = {name: _digest(run.path / name) for name in _files(run, status)}
    return Parcel(
        [epoch for epoch in timed_epochs(run) if epoch.number > sent.epochs],
        {name: digest for name, digest in digests.items() if sent.files.get(name) != digest},
        status if status != sent.status else None,
    )


def status_of(run: RunDirectory) -> str | None:
    """`running`, `finished`, `failed` or `killed`; None if the run has not started."""
    recorded = run.status()
    if recorded == "interrupted":
        return "killed"
    if recorded != "running":
        return recorded
    try:
        with run.lock():  # recorded as running, but no process holds it
            return "killed"
    except RunError:
        return "running"


def timed_epochs(run: RunDirectory) -> list[TimedEpoch]:
    """The epochs of `run`, each with the time at which it ended.

    The last epoch ended when `history.csv` was written, and each epoch before it as many seconds
    earlier as the later ones took. That is exact while a run trains without a break.
    """
    epochs = run.read_history()
    if not epochs:
        return []
    timed, ended = [], run.history.stat().st_mtime
    for epoch in reversed(epochs):
        timed.append(TimedEpoch(epoch.number, ended, epoch.numbers))
        ended -= epoch.numbers.get("seconds", 0.0)
    return timed[::-1]


def _files(run: RunDirectory, status: str | None) -> list[str]:
    """The files that trackers get; the history only once it is complete."""
    whole = (run.config, run.history) if status != "running" else (run.config,)
    found = [path for path in whole if path.exists()]
    for pattern in ("metrics/*.json", *PICTURES):
        found += sorted(run.path.glob(pattern))
    return [str(path.relative_to(run.path)) for path in found if not path.name.startswith(".")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# The content of the files -----------------------------------------------------------------------


def parameters(run: RunDirectory) -> dict[str, str]:
    """Every key of `config.yaml`, flat: `stages.0.epochs` is the first stage's number of epochs."""
    if not run.config.exists():
        return {}
    return dict(_flat(read_config(run.config), ""))


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        children = [(str(name), child) for name, child in value.items()]
    elif isinstance(value, list) and any(isinstance(child, dict | list) for child in value):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)
        return
    for name, child in children:
        yield from _flat(child, f"{key}.{name}" if key else name)


def facts(run: RunDirectory) -> dict[str, str]:
    """The tags by which a run is found: run_id, name, seed, backbone and dataset."""
    record = run.read_record()
    found = {
        "run_id": run.run_id,
        "name": record.name,
        "seed": record.seed,
        "backbone": record.model.backbone,
        "dataset": record.dataset.name,
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def measured(run: RunDirectory, name: str) -> dict[str, float]:
    """The numbers of one metrics file: `test/macro_f1` with `test/macro_f1_low` and `_high`.

    Nested keys are joined by dots: `test/without_twins.macro_f1`.

    Args:
        run: the run.
        name: a path in the run directory, for example `metrics/test.json`.
    """
    evaluation = name.removeprefix("metrics/").removesuffix(".json")
    document = read_metrics(run, evaluation)
    return {f"{evaluation}/{key}": value for key, value in _values(document, "")}


def _values(document: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Each `{value, low, high}` in `document`, at any depth; names are joined by dots."""
    for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
        number = document.get(key)
        if "value" in document and isinstance(number, int | float) and math.isfinite(number):
            yield f"{name}{suffix}", float(number)
    for key, child in document.items():
        if isinstance(child, dict):
            yield from _values(child, f"{name}.{key}" if name else key)


def best_epoch(run: RunDirectory) -> int:
    """The 1-based epoch whose model was kept and evaluated; 0 if unknown."""
    best = run.read_record().best
    return (best and best.epoch) or 0


def milliseconds(time: str | None) -> int | None:
    """A time of `run.json` (ISO 8601) in milliseconds since 1970; None stays None."""
    return int(datetime.datetime.fromisoformat(time).timestamp() * 1000) if time else None
