"""The ways to name a run on the command line, which all commands share."""

import os
from collections.abc import Iterable
from pathlib import Path

from fer_bench.errors import ConfigError, RunError, shortened
from fer_bench.labels import SPLITS
from fer_bench.runs.directory import RunDirectory, find_run, list_runs
from fer_bench.spelling import did_you_mean
from fer_bench.storage.files import is_name, is_there

LATEST = "latest"
# How often each image was shown; `none` is no part of a name.
VIEWS = ("flip", "ten_crop")


def named_run(outputs: Path, typed: str) -> RunDirectory:
    """The run that a user means by what was typed; what a killed process left of it is settled.

    Args:
        outputs: the folder of the runs.
        typed: an id, the beginning of exactly one id, a folder or a file in it, or `latest`.

    Raises:
        RunError: there is no such run, or more than one; names the existing ones.
    """
    run = _named(outputs, typed)
    run.settle()
    return run


def _named(outputs: Path, typed: str) -> RunDirectory:
    if (is_name(typed) and (run := run_at(outputs / typed))) or (run := run_at(Path(typed))):
        return run
    present = list_runs(outputs)
    if typed == LATEST and present:
        return max(present, key=lambda run: (_started(run), run.run_id))
    matching = [run for run in present if typed and run.run_id.startswith(typed)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RunError(
            f"{outputs}: {len(matching)} runs begin with '{typed}': "
            f"{', '.join(run.run_id for run in matching[:8])}.\nGive more of the name."
        )
    return find_run(outputs, typed)


def _started(run: RunDirectory) -> str:
    """When a run began; empty, the earliest, where that is not known."""
    try:
        return run.read_record().started or ""
    except RunError:  # reported by whatever needs this run, not because of another one
        return ""


def check_evaluation(name: str) -> None:
    """Check the name of an evaluation: `test`, `test+flip`, `test@fer2013_csv`, or all of these.

    Raises: ConfigError naming what is known.
    """
    rest, plus, views = name.partition("+")
    split, at, data = rest.partition("@")
    wrong = ""
    if split not in SPLITS:
        wrong = did_you_mean(split, SPLITS) or f"The splits are {', '.join(SPLITS)}."
    elif at and not is_name(data):
        wrong = "After @ comes the name of a dataset."
    elif plus and views not in VIEWS:
        wrong = f"After + comes {' or '.join(VIEWS)}."
    if wrong:
        raise ConfigError(
            f"--split {shortened(name)}: is no evaluation. {wrong}\n"
            "Give a split, or a name such as test+flip or test@fer2013_csv."
        )


def run_at(path: Path) -> RunDirectory | None:
    """The run with this folder, or with this file in its folder; None if there is none."""
    if not os.path.exists(path):  # noqa: PTH110 - False, too, for what no file system could hold
        return None
    for folder in (path,) if path.is_dir() else path.parents:
        # `.` and `..` are no names, but the id of a run is the name of its folder.
        run = RunDirectory(folder if folder.name not in ("", "..") else folder.resolve())
        if is_there(run.run_json):
            return run
    return None


def runs_named(outputs: Path, typed: Iterable[str]) -> list[RunDirectory]:
    """These runs, each once, in order. Raises: RunError for the first that does not exist."""
    runs = {run.path.resolve(): run for run in (named_run(outputs, one) for one in typed)}
    return list(runs.values())
