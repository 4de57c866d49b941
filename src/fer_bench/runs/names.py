"""The ways to name a run on the command line, which all commands share."""

from collections.abc import Iterable
from pathlib import Path

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory, find_run, list_runs

LATEST = "latest"


def named_run(outputs: Path, typed: str) -> RunDirectory:
    """The run that a user means by what was typed.

    Args:
        outputs: the folder of the runs.
        typed: an id, the beginning of exactly one id, a folder or a file in it, or `latest`.

    Raises:
        RunError: there is no such run, or more than one; names the existing ones.
    """
    if run := run_at(outputs / typed) or run_at(Path(typed)):
        return run
    present = list_runs(outputs)
    if typed == LATEST and present:
        return max(present, key=lambda run: (run.read_record().started or "", run.run_id))
    matching = [run for run in present if typed and run.run_id.startswith(typed)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RunError(
            f"{outputs}: {len(matching)} runs begin with '{typed}': "
            f"{', '.join(run.run_id for run in matching[:8])}.\nGive more of the name."
        )
    return find_run(outputs, typed)


def run_at(path: Path) -> RunDirectory | None:
    """The run with this folder, or with this file in its folder; None if there is none."""
    if not path.exists():
        return None
    for folder in (path,) if path.is_dir() else path.parents:
        # `.` has no name, but the id of a run is the name of its folder.
        run = RunDirectory(folder if folder.name else folder.resolve())
        if run.run_json.is_file():
            return run
    return None


def runs_named(outputs: Path, typed: Iterable[str]) -> list[RunDirectory]:
    """These runs, each once, in order. Raises: RunError for the first that does not exist."""
    runs = {run.path.resolve(): run for run in (named_run(outputs, one) for one in typed)}
    return list(runs.values())
