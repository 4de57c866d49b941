"""The ways to name a run on the command line, the same for every command that takes one."""

from collections.abc import Iterable
from pathlib import Path

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory, find_run, list_runs

LATEST = "latest"


def named_run(outputs: Path, typed: str) -> RunDirectory:
    """The run that is meant by what somebody typed.

    Args:
        outputs: the folder of the runs.
        typed: an id, a beginning that fits one run, a folder or a file in it, or `latest`.

    Raises:
        RunError: there is no such run, or more than one; names those that there are.
    """
    if run := run_at(outputs / typed) or run_at(Path(typed)):
        return run
    present = list_runs(outputs)
    if typed == LATEST and present:
        return max(present, key=lambda run: (run.read_record().started or "", run.run_id))
    fitting = [run for run in present if typed and run.run_id.startswith(typed)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RunError(
            f"{outputs}: {len(fitting)} runs begin with '{typed}': "
            f"{', '.join(run.run_id for run in fitting[:8])}.\nGive more of the name."
        )
    return find_run(outputs, typed)


def run_at(path: Path) -> RunDirectory | None:
    """The run whose folder this is, or in whose folder this file lies; None where there is none."""
    if not path.exists():
        return None
    for folder in (path,) if path.is_dir() else path.parents:
        # `.` has no name, which is what a run is called by.
        run = RunDirectory(folder if folder.name else folder.resolve())
        if run.run_json.is_file():
            return run
    return None


def runs_named(outputs: Path, typed: Iterable[str]) -> list[RunDirectory]:
    """Those runs, each once, in their order. Raises: RunError for the first that is not there."""
    runs = {run.path.resolve(): run for run in (named_run(outputs, one) for one in typed)}
    return list(runs.values())
