"""Where the results of a run are written: in its folder, or in a copy of it elsewhere.

A run may be read-only: of a colleague, on a mounted disk, or in an archive.
"""

import shutil
from pathlib import Path

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.locks import LOCK
from fer_bench.storage.replacement import replaced_folder
from fer_bench.user_folders import can_write


def place_of_results(run: RunDirectory, to: Path | None = None) -> RunDirectory:
    """The folder that results of a run are written into.

    Args:
        run: the run.
        to: a folder of runs, for results that do not go into the run. They are written into a copy
            of the run, which has everything but the model and the checkpoints; a copy that is
            there already is used as it is.

    Raises:
        RunError: the run cannot be written; or `to` has another run of this name.
        OSError: the copy cannot be made.
    """
    if to is not None:
        return _copy(run, to)
    if not can_write(run.path):
        raise RunError(
            f"{run.path}: this run cannot be written (read-only, or of another user).\n"
            "Give a folder for the results: --to FOLDER."
        )
    return run


def _copy(run: RunDirectory, to: Path) -> RunDirectory:
    copy = RunDirectory(to / run.run_id)
    if copy.path.exists():
        _check_same(run, copy)
        return copy
    to.mkdir(parents=True, exist_ok=True)
    with replaced_folder(copy.path, wait=True) as fresh:
        if not copy.path.exists():  # another process may have made it meanwhile
            left_out = shutil.ignore_patterns(run.model.name, run.state.name, LOCK, ".*")
            shutil.copytree(run.path, fresh, ignore=left_out, dirs_exist_ok=True)
            fresh.chmod(0o755)  # that of a read-only run is not
    return copy


def _check_same(run: RunDirectory, copy: RunDirectory) -> None:
    """Raises: RunError for a folder that is not a copy of the run."""
    started = run.read_record().started
    if not copy.run_json.exists() or copy.read_record().started != started:
        raise RunError(
            f"{copy.path}: is not a copy of {run.path} (started {started}).\n"
            "Give another folder: --to FOLDER."
        )
