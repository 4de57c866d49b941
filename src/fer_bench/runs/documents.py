"""Reading the documents of an evaluation: its metrics, and those on corrupted images."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fer_bench.config.yaml_files import MOST_BYTES, parse_written
from fer_bench.errors import RunError
from fer_bench.metrics.schema import (
    CorruptionsDocument,
    DocumentError,
    MetricsDocument,
    check_corruptions,
    check_metrics,
)
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import read_bounded, read_json

T = TypeVar("T")
# Keys of published values that came after the first run ids.
LATER = ("n", "metric_as")
_RUN_ID = re.compile(r".+-s[0-9]+-(?P<digest>[0-9a-f]{8})")


def read_metrics(run: RunDirectory, evaluation: str) -> MetricsDocument:
    """Read and check `metrics/<evaluation>.json`.

    Raises:
        RunError: the file is missing or damaged; the message names the file, the key, what is
            wrong, and the command that writes it again.
    """
    again = evaluate_command(run, evaluation)
    return _read(run.metrics(evaluation), check_metrics, again)


def read_corruptions(run: RunDirectory, evaluation: str) -> CorruptionsDocument:
    """Read and check `corruptions/<evaluation>.json`. Raises: RunError, as `read_metrics`."""
    again = evaluate_command(run, evaluation, corruptions=True)
    return _read(run.corruptions(evaluation), check_corruptions, again)


def read_config(path: Path) -> Any:
    """The value in a `config.yaml`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file, too large, no YAML, or its anchors unfold to too much.
    """
    return parse_written(read_bounded(path, MOST_BYTES))


def is_config_of(names: Iterable[str], path: Path, document: Any) -> bool:
    """Whether a `config.yaml` is that of the run with these names: one has to have its digest.

    Names other than `<name>-s<seed>-<digest>` have none, and are not compared. Line ends and
    comments may differ; see `Experiment.run_id` for the keys that the digest leaves out.

    Args:
        names: of its folder, and the id under which it was made.
        path: the file.
        document: what `read_config` returned of it.

    Raises: OSError, ValueError, as `read_config`.
    """
    digests = [named["digest"] for name in names if (named := _RUN_ID.fullmatch(name))]
    if not digests or _digest(read_bounded(path, MOST_BYTES)) in digests:
        return True
    if isinstance(document, dict) and document.get("published"):
        kept = [_without(entry, LATER) for entry in document["published"]]
        document = document | {"published": kept}
    return any(_digest(text.encode()) in digests for text in _written(document))


def _without(entry: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def _written(document: Any) -> Iterator[str]:
    """A configuration as PyYAML writes it: with libyaml, five times as fast, and without it."""
    for dumper in (getattr(yaml, "CSafeDumper", yaml.SafeDumper), yaml.SafeDumper):
        yield yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def evaluate_command(run: RunDirectory, evaluation: str, corruptions: bool = False) -> str:
    """The command that makes an evaluation, such as `test+flip` or `test@fer2013`, again."""
    with contextlib.suppress(RunError):  # a damaged run.json has a message of its own
        if run.is_adopted():
            return f"fer adopt NAME PREDICTIONS --split {evaluation} --fresh"
    rest, _, views = evaluation.partition("+")
    split, _, data = rest.partition("@")
    options = {
        "--split": split if split != "test" else "",
        "--views": views,
        "--data": f"configs/{data}.yaml" if data else "",
        "--corruptions": "all" if corruptions else "",
    }
    chosen = "".join(f" {option} {value}" for option, value in options.items() if value)
    return f"fer evaluate {run.run_id}{chosen}"


def _read(path: Path, check: Callable[[object], T], again: str) -> T:
    try:
        return check(_parse(path))
    except (DocumentError, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise RunError(f"{path}: {reason}; write it again with `{again}`.") from error


def _parse(path: Path) -> dict[str, Any]:
    """The content of a JSON file. Raises: ValueError when it is no JSON object, OSError."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {type(document).__name__}")
    return document
