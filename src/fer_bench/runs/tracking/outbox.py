"""What of a run a tracker does not have yet, and the file that says what it has."""

import contextlib
import csv
import datetime
import fcntl
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fer_bench.errors import FerError, RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_metrics
from fer_bench.storage.files import write_json

FOLDER = "tracking"
# Charts. The sheets of `fer explain` show faces, which many licences keep where they are.
PICTURES = ("figures/**/*.png",)


class TrackingError(FerError):
    """A tracker does not take what is sent; all of it stays in the run directory."""


class UnreachableError(TrackingError):
    """Nobody answers, so that no other run can be sent either."""


@dataclass
class Sent:
    """What a tracker has of one run.

    Attributes:
        path: the file that says so.
        epochs: how many lines of `history.csv`.
        files: the digest of each file as it was sent, by its path in the run directory.
        status: the last status sent; None for none.
        server: what the tracker itself has to remember.
    """

    path: Path
    epochs: int = 0
    files: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    server: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Write it down."""
        write_json(self.path, {key: value for key, value in asdict(self).items() if key != "path"})

    def forget(self) -> None:
        """Begin as if nothing had been sent."""
        self.epochs, self.files, self.status, self.server = 0, {}, None, {}


@dataclass(frozen=True)
class Epoch:
    """A line of `history.csv`.

    Attributes:
        number: 1-based.
        time: when it ended, in seconds since 1970.
        values: its numbers by their column; those that are missing or not finite are left out.
    """

    number: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Parcel:
    """What is to be sent; false if there is nothing.

    Attributes:
        epochs: the lines of `history.csv` that are new.
        files: digests of files that are new or changed, by their path in the run directory.
        status: `running`, `finished`, `failed` or `killed` where it changed, else None.
    """

    epochs: list[Epoch] = field(default_factory=list)
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
    """What `tracker` has of `run`, to be changed and saved by one process and thread at a time.

    Raises:
        TrackingError: the file that says what was sent cannot be read.
    """
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f".{tracker}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield _read_sent(folder / f"{tracker}.json")


def _read_sent(path: Path) -> Sent:
    if not path.exists():
        return Sent(path)
    try:
        return Sent(path, **json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise TrackingError(
            f"{path}: cannot be read ({error}); remove it, and the run is sent as a new one"
        ) from error


def unsent(run: RunDirectory, sent: Sent) -> Parcel:
    """What of `run`, as it is now, is not among what was `sent`."""
    status = status_of(run)
    digests = {name: _digest(run.path / name) for name in _files(run, status)}
    return Parcel(
        [epoch for epoch in history(run) if epoch.number > sent.epochs],
        {name: digest for name, digest in digests.items() if sent.files.get(name) != digest},
        status if status != sent.status else None,
    )


def status_of(run: RunDirectory) -> str | None:
    """`running`, `finished`, `failed` or `killed`; None where nothing was begun."""
    said = run.status()
    if said == "interrupted":
        return "killed"
    if said != "running":
        return said
    try:
        with run.lock():  # it says `running`, but no process holds it
            return "killed"
    except RunError:
        return "running"


def history(run: RunDirectory) -> list[Epoch]:
    """The epochs of `run`.

    The last one ended when `history.csv` was written, the others as many seconds earlier as those
    after them took. That is exact while a run trains without a break.
    """
    if not run.history.exists():
        return []
    with run.history.open(encoding="utf-8", newline="") as file:
        rows = [_numbers(row) for row in csv.DictReader(file)]
    epochs, ended = [], run.history.stat().st_mtime
    for row in reversed(rows):
        number = int(row.pop("epoch"))
        epochs.append(Epoch(number, ended, row))
        ended -= row.get("seconds", 0.0)
    return epochs[::-1]


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for key, text in row.items():
        with contextlib.suppress(ValueError):  # the name of the stage, or nothing
            found[key] = float(text)
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _files(run: RunDirectory, status: str | None) -> list[str]:
    """The files that trackers get; the history only when it grows no more."""
    whole = (run.config, run.history) if status != "running" else (run.config,)
    found = [path for path in whole if path.exists()]
    for pattern in ("metrics/*.json", *PICTURES):
        found += sorted(run.path.glob(pattern))
    return [str(path.relative_to(run.path)) for path in found if not path.name.startswith(".")]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# What is in the files ---------------------------------------------------------------------------


def parameters(run: RunDirectory) -> dict[str, str]:
    """Every key of `config.yaml`, flat: `stages.0.epochs` is the first stage's number of epochs."""
    if not run.config.exists():
        return {}
    return dict(_flat(yaml.safe_load(run.config.read_text(encoding="utf-8")), ""))


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
    """What a run is found by: run_id, name, seed, backbone and dataset."""
    record = run.read_json(run.run_json)
    found = {
        "run_id": run.run_id,
        "name": record.get("name"),
        "seed": record.get("seed"),
        "backbone": _within(record, "model", "backbone"),
        "dataset": _within(record, "dataset", "name"),
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def measured(run: RunDirectory, name: str) -> dict[str, float]:
    """The numbers of one metrics file: `test/macro_f1` with `test/macro_f1_low` and `_high`.

    What stands deeper has dots: `test/without_twins.macro_f1`.

    Args:
        run: the run.
        name: a path in the run directory, such as `metrics/test.json`.
    """
    evaluation = name.removeprefix("metrics/").removesuffix(".json")
    document = read_metrics(run, evaluation)
    return {f"{evaluation}/{key}": value for key, value in _values(document, "")}


def _values(document: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Each `{value, low, high}` in `document`, however deep; names are joined by dots."""
    for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
        number = document.get(key)
        if "value" in document and isinstance(number, int | float) and math.isfinite(number):
            yield f"{name}{suffix}", float(number)
    for key, child in document.items():
        if isinstance(child, dict):
            yield from _values(child, f"{name}.{key}" if name else key)


def best_epoch(run: RunDirectory) -> int:
    """The 1-based epoch whose model is kept, which is what metrics are about; 0 if unknown."""
    epoch = _within(run.read_json(run.run_json), "best", "epoch")
    return epoch if isinstance(epoch, int) else 0


def moment(run: RunDirectory, which: str) -> int | None:
    """When training `started` or `ended`, in ms since 1970; None where `run.json` does not say."""
    said = run.read_json(run.run_json).get(which)
    if not isinstance(said, str):
        return None
    return int(datetime.datetime.fromisoformat(said).timestamp() * 1000)


def _within(document: Mapping[str, Any], section: str, key: str) -> Any | None:
    inner = document.get(section)
    return inner.get(key) if isinstance(inner, dict) else None
