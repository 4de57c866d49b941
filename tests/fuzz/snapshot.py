"""A folder as it was: what changed in it, and everything put back without copying the rest."""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Of a file: its kind, size, inode and times. A change sets the time of change, which no program can
# set back. Of a folder: its kind and time.
State = tuple[int, ...]
States = dict[str, State]


def states(root: Path) -> States:
    """The state of everything below a folder, by relative path; links are not followed."""
    return dict(_states(root, ""))


def _states(folder: Path, prefix: str) -> Iterator[tuple[str, State]]:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        name = prefix + entry.name
        yield name, state(Path(entry.path))
        if entry.is_dir(follow_symlinks=False):
            yield from _states(Path(entry.path), f"{name}/")


def state(path: Path) -> State:
    """The state of one file or folder."""
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        return found.st_mode, found.st_mtime_ns
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_mode, found.st_size, found.st_ino, *times


def is_folder(of: State | None) -> bool:
    """Whether a state is that of a folder."""
    return of is not None and stat.S_ISDIR(of[0])


@dataclass
class Snapshot:
    """The state of a folder, and a copy to put files back from.

    Attributes:
        root: the folder.
        copy: its copy, which nothing else touches.
        known: the state of everything in it when it was last equal to the copy.
    """

    root: Path
    copy: Path
    known: States = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = states(self.root)

    def forget(self, path: Path) -> None:
        """Put a file back next time, even if it was changed too soon for the clock to show it."""
        self.known.pop(str(path.relative_to(self.root)), None)

    def restore(self) -> None:
        """Everything as in the copy, with the times of files and folders."""
        now = states(self.root)
        for name in sorted(now, reverse=True):
            if now[name] != self.known.get(name) and not self._is_kept(name, now[name]):
                _remove(self.root / name)
        for source in sorted(self.copy.rglob("*")):
            self._put(source, self.root / source.relative_to(self.copy))
        self._set_times()

    def _is_kept(self, name: str, found: State) -> bool:
        """A folder that exists in the copy stays; what is new in it is removed by itself."""
        return is_folder(found) and (self.copy / name).is_dir()

    def _put(self, source: Path, place: Path) -> None:
        if os.path.lexists(place):
            return
        if source.is_dir():
            place.mkdir()
        else:
            shutil.copy2(source, place)
        self.known[str(place.relative_to(self.root))] = state(place)

    def _set_times(self) -> None:
        for source in sorted(self.copy.rglob("*"), reverse=True):
            if source.is_dir():
                name = str(source.relative_to(self.copy))
                shutil.copystat(source, self.root / name)
                self.known[name] = state(self.root / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
