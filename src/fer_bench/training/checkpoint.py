"""Checkpoints: everything that must survive a kill and a damaged file, restored exactly.

A checkpoint is `progress.json` and the array files that it names: the optimizer, the weights that
change in the current stage, those that are frozen in it, and both for the selected model. The
arrays are written first, under new names, and then `progress.json` is replaced in one step: a kill
at any moment leaves files that belong together.

    progress.json          the newest checkpoint
    progress-before.json   the one before it, with its own arrays; it is used if one is damaged
    copy-of-<file>         a second copy of an array file that both of them name

After the first checkpoint of a run both are the same one, so that it exists twice too.
"""

import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import (
    check_readable,
    is_there,
    open_bounded,
    read_bounded,
    write_atomically,
)
from fer_bench.training.progress import Progress, read_progress, write_progress

# Of an array file: twice the largest backbone, in float64.
LARGEST_BYTES = 16 * 2**30
NEWEST, BEFORE = "progress.json", "progress-before.json"


# Writing ----------------------------------------------------------------------------------------


def save(
    run: RunDirectory,
    progress: Progress,
    model: Any,
    optimizer: Any,
    frozen: Collection[int] = (),
    *,
    is_best: bool = False,
) -> None:
    """Write a checkpoint, then remove the files that only older ones needed.

    Args:
        run: the run to save.
        progress: how far it is; the names of the files and their digests are set.
        model: the model as it is now.
        optimizer: the optimizer of the stage; None if the next stage begins with a new one.
        frozen: indices of those `model.variables` that do not change in the stage.
        is_best: whether this is the best model so far.
    """
    point = f"{progress.epoch:05d}-{progress.step:07d}"
    frozen_file = f"still-{progress.stage:03d}.npz"  # the name in the checkpoints of all versions
    trained_file = f"weights-{point}.npz"
    came_from, digests = progress.files, dict(progress.digests)
    progress.optimizer = f"optimizer-{point}.npz" if optimizer else ""
    weights = dict(enumerate(model.variables))
    trained = {index: v for index, v in weights.items() if index not in frozen}
    digests[trained_file] = _write(run, trained_file, trained)
    if optimizer:
        variables = dict(enumerate(optimizer.variables))
        digests[progress.optimizer] = _write(run, progress.optimizer, variables)
    if frozen_file not in progress.weights:
        still = {index: weights[index] for index in frozen}
        digests[frozen_file] = _write(run, frozen_file, still)
    progress.weights = [frozen_file, trained_file]
    if is_best:
        progress.best_weights = progress.weights
    _commit(run, progress, digests, came_from)


def copy(source: RunDirectory, run: RunDirectory, progress: Progress) -> None:
    """Start `run` with the arrays of `source` that `progress` names."""
    run.state.mkdir(parents=True, exist_ok=True)
    for name in sorted(progress.files):
        path = _intact(source, progress, name)
        run.replace_file(run.state / name, partial(shutil.copyfile, path))
    _commit(run, progress, progress.digests, set())


def _write(run: RunDirectory, name: str, variables: Mapping[int, Any]) -> str:
    """Write an array file; returns its SHA-256."""
    values = {str(number): np.asarray(variable.value) for number, variable in variables.items()}
    digest = _new_digest()

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(_Digesting(file, digest), **values)  # type: ignore[arg-type]  # as one option

    run.state.mkdir(parents=True, exist_ok=True)
    run.replace_file(run.state / name, write)
    return str(digest.hexdigest())


def _new_digest() -> Any:
    return hashlib.sha256()


class _Digesting(io.RawIOBase):
    """A file whose digest is computed as it is written: what the disk returns is not trusted."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file, self._digest = file, digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return self._file.write(content)


def _commit(
    run: RunDirectory, progress: Progress, digests: Mapping[str, str], came_from: set[str]
) -> None:
    """Make `progress` the newest checkpoint, whose array files are in their places.

    Args:
        run: the run to save.
        progress: the checkpoint.
        digests: of its array files; an older version has not left that of every file.
        came_from: the files of the checkpoint that training came from.
    """
    progress.digests = {
        name: digests.get(name) or _digest(run.state / name) for name in sorted(progress.files)
    }
    newest, before = run.state / NEWEST, run.state / BEFORE
    # Not so if the newest one was found damaged: then training came from the one before it.
    older = read_bounded(newest) if came_from and _files(newest) == came_from else None
    kept = came_from if older else _files(before) or progress.files
    shared = progress.files & kept
    for name in sorted(shared):
        _write_copy(run, name, progress.digests[name])
    write_progress(newest, progress)
    if older:
        write_atomically(before, older)
    elif not _files(before):
        write_progress(before, progress)
    copies = {_copy_of(run, name).name for name in shared}
    _keep_only(run, {NEWEST, BEFORE, *progress.files, *kept, *copies})


def _files(path: Path) -> set[str]:
    """The array files that a `progress.json` names; none if it is not intact."""
    try:
        return read_progress(path).files
    except ValueError:
        return set()


def _copy_of(run: RunDirectory, name: str) -> Path:
    return run.state / f"copy-of-{name}"


def _write_copy(run: RunDirectory, name: str, digest: str) -> None:
    """Copy an array file, unless there is a copy; a copy of a damaged file is not kept."""
    path = _copy_of(run, name)
    if not path.exists():
        run.replace_file(path, partial(shutil.copyfile, run.state / name))
        if _digest(path) != digest:
            path.unlink()


def _keep_only(run: RunDirectory, names: set[str]) -> None:
    for path in run.state.iterdir():
        if path.name not in names:
            path.unlink()


# Finding ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An intact checkpoint.

    Attributes:
        progress: its content.
        is_before: whether it is the one before the newest, which is damaged.
        problems: what is damaged, a line for each file.
    """

    progress: Progress
    is_before: bool = False
    problems: tuple[str, ...] = ()


def exists(run: RunDirectory) -> bool:
    """Whether the run has a checkpoint, intact or not."""
    return any(is_there(run.state / name) for name in (NEWEST, BEFORE))


def find(run: RunDirectory, everywhere: Callable[[bool], bool] = bool) -> Found | None:
    """The newest checkpoint whose files are all intact, or None if there never was one.

    Args:
        run: the run to resume.
        everywhere: whether something holds for all workers, given whether it does for this one.

    Raises:
        RunError: none is intact; names every damaged file.
    """
    if not exists(run):
        return None
    lost: list[str] = []
    for name in (NEWEST, BEFORE):
        progress, replaced, missing = _examined(run, name)
        if everywhere(progress is not None) and progress:
            return Found(progress, name == BEFORE, (*lost, *replaced))
        lost += missing or [f"{run.state / name}: another worker does not find it intact"]
    lines = "".join(f"\n  {line}" for line in dict.fromkeys(lost))
    raise RunError(
        f"{run.state}: no checkpoint is intact, and nothing was changed.{lines}\n"
        "Restore the files, or start again with `fer train --fresh`."
    )


def _examined(run: RunDirectory, name: str) -> tuple[Progress | None, list[str], list[str]]:
    """A checkpoint if it is intact, files whose copies it takes, and files that it lacks."""
    try:
        progress = read_progress(run.state / name)
        # Versions that left no digests did not leave an earlier checkpoint either.
        if name == NEWEST and not progress.digests and (run.state / BEFORE).exists():
            raise ValueError("its digests are missing")
    except ValueError as error:
        return None, [], [f"{run.state / name}: {error}"]
    replaced: list[str] = []
    missing: list[str] = []
    for file in sorted(progress.files):
        digest = progress.digests.get(file)
        if problem := _problem(run.state / file, digest):
            has_copy = digest and not _problem(_copy_of(run, file), digest)
            (replaced if has_copy else missing).append(f"{run.state / file}: {problem}")
    return None if missing else progress, replaced, missing


def _problem(path: Path, digest: str | None) -> str | None:
    """What is wrong with an array file; older versions have not left a digest."""
    try:
        if digest is None:
            check_readable(path, LARGEST_BYTES)
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return f"its array {damaged} is damaged" if damaged else None
        found = _digest(path)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        return _unreadable(error)
    return None if found == digest else _is_other(found, digest)


def _unreadable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _is_other(found: str, digest: str) -> str:
    return f"its content is not what was written (SHA-256 {found[:12]}, written {digest[:12]})"


def _digest(path: Path) -> str:
    with open_bounded(path, LARGEST_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Reading ----------------------------------------------------------------------------------------


def restore(run: RunDirectory, progress: Progress, kind: str, variables: list[Any]) -> None:
    """Set `variables` to the values of a checkpoint, bit for bit.

    Args:
        run: the run that has the checkpoint.
        progress: its content, see `find`.
        kind: `model` or `optimizer`, or `best` for the selected model.
        variables: what to set.

    Raises:
        RunError: a file is missing, damaged or was written for another model.
    """
    files = {
        "model": progress.weights,
        "best": progress.best_weights,
        "optimizer": [progress.optimizer],
    }
    saved: dict[str, Any] = {}
    for name in files[kind]:
        saved |= _read(run, progress, name)
    for index, variable in enumerate(variables):
        value = saved.get(str(index))
        if value is None or tuple(variable.shape) != value.shape:
            found = "nothing" if value is None else f"shape {value.shape}"
            raise RunError(
                f"{run.state}: for {variable.path} the checkpoint has {found}, this model needs "
                f"shape {tuple(variable.shape)}.\nStart again with `fer train --fresh`."
            )
        variable.assign(value)


def _read(run: RunDirectory, progress: Progress, name: str) -> dict[str, Any]:
    """The arrays of a file or of its copy, from the very bytes that fit the digest.

    Raises: RunError if both are damaged.
    """
    digest = progress.digests.get(name)
    if digest is None:  # of an older version, which left no digest and no copy
        path = _intact(run, progress, name)
        return _arrays(path, path)
    problems = []
    for path in (run.state / name, _copy_of(run, name)):
        try:
            content = read_bounded(path, LARGEST_BYTES)
        except (OSError, ValueError) as error:
            problems.append(_unreadable(error))
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == digest:
            return _arrays(io.BytesIO(content), path)
        problems.append(_is_other(found, digest))
    raise _lost(run.state / name, problems[0])


def _intact(run: RunDirectory, progress: Progress, name: str) -> Path:
    """An array file, or its copy. Raises: RunError if both are damaged."""
    digest = progress.digests.get(name)
    problem = _problem(run.state / name, digest)
    if not problem:
        return run.state / name
    if digest and not _problem(_copy_of(run, name), digest):
        return _copy_of(run, name)
    raise _lost(run.state / name, problem)


def _lost(path: Path, problem: str) -> RunError:
    return RunError(
        f"{path}: {problem}.\n"
        "Run the same `fer train` again: it resumes from a checkpoint that is intact, or says that "
        "only `--fresh` is left."
    )


def _arrays(source: Path | IO[bytes], path: Path) -> dict[str, Any]:
    """The arrays in a file, or in its content. Raises: RunError that names `path`."""
    try:
        with np.load(source, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the checkpoint cannot be read ({error}).\n"
            "Start again with `fer train --fresh`."
        ) from error


# Keeping order ----------------------------------------------------------------------------------


def mend(run: RunDirectory, progress: Progress) -> None:
    """Put copies in the places of damaged array files."""
    for name in sorted(progress.files):
        path, intact = run.state / name, _intact(run, progress, name)
        if intact != path:
            run.replace_file(path, partial(shutil.copyfile, intact))


def keep_newest(run: RunDirectory, progress: Progress) -> None:
    """Keep one checkpoint, without copies, unless one of its files is damaged."""
    if not any(_problem(run.state / name, progress.digests.get(name)) for name in progress.files):
        write_progress(run.state / NEWEST, progress)
        _keep_only(run, {NEWEST, *progress.files})


def size(run: RunDirectory) -> int:
    """The size of the checkpoint in bytes."""
    return sum(path.stat().st_size for path in run.state.glob("*"))
