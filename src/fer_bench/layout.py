"""How a dataset's folder is looked through: in a fixed order, links not followed, all counted.

Functions count what they leave out in `dropped`, by reason, and raise `DataError` without the
root; `reading(root)` puts it in front.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFDIR, S_ISDIR, S_ISLNK, S_ISREG

import pandas as pd

from fer_bench import labels
from fer_bench.archive import is_hidden_name, is_image_name
from fer_bench.errors import DataError
from fer_bench.registry import did_you_mean

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
INCOMPLETE = "Download the whole archive and unpack it again."
# No part of these begins with a dot, and none is a drive.
_PLAIN = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*")
# How deep below the root a release may lie: archives wrap it in a folder, unpackers in another.
WRAPPERS = 2


@contextlib.contextmanager
def reading(root: Path, advice: str = "") -> Iterator[None]:
    """Put `root` in front of every `DataError`, and make one of an `OSError`.

    Raises: DataError, also when `root` is no folder; the message then ends with `advice`.
    """
    try:
        if not root.is_dir():
            found = "a file" if root.exists() else "no such folder"
            raise DataError(f"{found}.\n{advice or 'Give the unpacked folder.'}")
        yield
    except OSError as error:
        place = error.filename or root
        raise DataError(
            f"{place}: cannot be read ({error.strerror or error}).\nCheck your rights there."
        ) from error
    except DataError as error:
        raise DataError(f"{root}: {error}") from error


def find(root: Path, holds: Callable[[Path], bool]) -> Path | None:
    """`root`, or the highest folder at most `WRAPPERS` levels below it, for which `holds` is true.

    Raises: DataError when it is true for two folders of that level, as for two copies.
    """
    level = [root]
    for depth in range(WRAPPERS + 1):
        if depth:
            level = [inner for folder in level for inner in subfolders(folder, Counter())]
        found = [folder for folder in level if holds(folder)]
        if len(found) > 1:
            shown = listed(f"'{folder.relative_to(root).as_posix()}'" for folder in found)
            raise DataError(f"the data could be in any of {shown}.\nGive one of them as the root.")
        if found:
            return found[0]
    return None


def visible(folder: Path, dropped: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """What `folder` shows, by name. Callers follow no link to a folder or an image."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden_name(entry.name):
                dropped["hidden"] += 1
            elif not _is_utf8(entry.name):  # no list, table or page could name it
                dropped["name is not UTF-8"] += 1
            else:
                yield entry


def has_folder(folder: Path, place: str) -> bool:
    """Whether there is a folder at `place` in `folder`, without a link on the way."""
    return S_ISDIR(_mode(folder, place))


def has_file(folder: Path, place: str) -> bool:
    """Whether there is a file at `place` in `folder`, without a link on the way."""
    return S_ISREG(_mode(folder, place))


def subfolders(folder: Path, dropped: Counter[str]) -> list[Path]:
    """The folders in `folder`; anything else is counted."""
    folders = []
    for entry in visible(folder, dropped):
        if entry.is_dir(follow_symlinks=False):
            folders.append(Path(entry.path))
        else:
            dropped["symbolic link" if entry.is_symlink() else "outside a class folder"] += 1
    return folders


def image_names(folder: Path, dropped: Counter[str]) -> list[str]:
    """The names of the images in `folder`; anything else is counted."""
    names = []
    for entry in visible(folder, dropped):
        if entry.is_file(follow_symlinks=False) and is_image_name(entry.name):
            names.append(entry.name)
        else:
            dropped["symbolic link" if entry.is_symlink() else "not an image"] += 1
    return names


def image_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """Every image at any depth below `folder`, relative to it with forward slashes, by folder."""
    for path in file_paths(folder, dropped):
        if is_image_name(path.rpartition("/")[2]):
            yield path
        else:
            dropped["not an image"] += 1


def file_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """Every file at any depth below `folder`, as `image_paths` gives them; links are counted."""
    for entry in visible(folder, dropped):
        if entry.is_dir(follow_symlinks=False):
            inner = file_paths(Path(entry.path), dropped)
            yield from (f"{entry.name}/{path}" for path in inner)
        elif entry.is_file(follow_symlinks=False):
            yield entry.name
        else:
            dropped["symbolic link" if entry.is_symlink() else "not an image"] += 1


def split_of(folder_name: str, names: Mapping[str, Collection[str]] = SPLIT_FOLDERS) -> str | None:
    """The split that a folder of this name holds, or None."""
    name = folder_name.strip().casefold()
    return next((split for split, known in names.items() if name in known), None)


def split_folders(
    root: Path, dropped: Counter[str], names: Mapping[str, Collection[str]] = SPLIT_FOLDERS
) -> dict[str, Path]:
    """The folders of `root` that are named as splits, in the order of `names`; perhaps none.

    Raises: DataError when two stand for the same split.
    """
    found: dict[str, Path] = {}
    for folder in subfolders(root, dropped):
        split = split_of(folder.name, names)
        if split is None:
            dropped["unrelated folder"] += 1
        else:
            _refuse_second(found.get(split), folder, root)
            found[split] = folder
    return {split: found[split] for split in names if split in found}


def class_folders(
    folder: Path,
    known: Collection[str],
    dropped: Counter[str],
    *,
    complete: bool = True,
    advice: str = "Rename it, or move it away.",
) -> dict[str, Path]:
    """The class folders of `folder` by canonical name, in the order of `known`.

    `advice` is what to do about a name that is none of them, and looks like none.

    Raises: DataError for a name that is none of `known`, two of the same class, and, if
        `complete`, a class without a folder.
    """
    found: dict[str, Path] = {}
    for inner in subfolders(folder, dropped):
        label = labels.canonical(inner.name)
        if label is None or label not in known:
            spellings = [name for name, class_ in labels.SPELLINGS.items() if class_ in known]
            hint = did_you_mean(inner.name.casefold(), spellings)
            raise DataError(
                f"unknown class folder '{folder.name}/{inner.name}'; known: {', '.join(known)}.\n"
                f"{hint or advice}"
            )
        _refuse_second(found.get(label), inner, folder.parent)
        found[label] = inner
    missing = [label for label in known if label not in found]
    if complete and missing:
        present = listed(inner.name for inner in found.values())
        raise DataError(
            f"'{folder.name}' has no class folder for {', '.join(missing)}; found {present}.\n"
            f"{INCOMPLETE}"
        )
    return {label: found[label] for label in known if label in found}


def class_images(class_folder: Path, dropped: Counter[str]) -> list[str]:
    """The names of the images of one class. Raises: DataError when there are none."""
    names = image_names(class_folder, dropped)
    if not names:
        shown = f"{class_folder.parent.name}/{class_folder.name}"
        raise DataError(f"class folder '{shown}' holds no images.\n{INCOMPLETE}")
    return names


def read_table(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """The named columns of a CSV file as text, blanks around names and values removed.

    A byte order mark and Windows line ends do not matter; an empty cell is an empty string.

    Raises: DataError when the file is missing, is no CSV or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"'{path.name}' is missing.\n{INCOMPLETE}")
    try:
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,  # else a comma at the end of every row shifts the columns
            usecols=lambda name: name.strip() in columns,
        )
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"'{path.name}' cannot be read as CSV ({error}).\n{INCOMPLETE}") from error
    table = table.rename(columns=str.strip)
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(
            f"'{path.name}' lacks the columns {', '.join(missing)}; its first line is "
            f"{_first_line(path)!r}.\n{INCOMPLETE}"
        )
    return pd.DataFrame({column: table[column].str.strip() for column in columns})


def inside(text: str, list_name: str) -> str:
    """A path that a list names, with forward slashes. Raises: DataError when it leads outside."""
    if _PLAIN.fullmatch(text):  # nearly all are, and a list may name 400,000
        return text
    path = PurePosixPath(text.replace("\\", "/"))
    if (
        not text
        or "\0" in text
        or path.is_absolute()
        or ".." in path.parts
        or PureWindowsPath(text).drive
    ):
        raise DataError(
            f"'{list_name}' names {text!r}, which leads out of the folder of images.\n"
            "Get the list from its official source."
        )
    return str(path)


def listed(names: Iterable[str]) -> str:
    """The first eight names, for a message."""
    shown = list(names)
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) + rest) or "no folder"


def contents(folder: Path) -> str:
    """What `folder` shows, for a message."""
    entries = visible(folder, Counter())
    names = [f"{entry.name}{' (a link)' if entry.is_symlink() else ''}" for entry in entries]
    return listed(names) if names else "nothing"


def _mode(folder: Path, place: str) -> int:
    """The mode of what is at `place`; 0 when that is nothing, or a link is on the way."""
    path, mode = folder, S_IFDIR  # `folder` itself may be a link
    try:
        for part in PurePosixPath(place).parts:
            path /= part
            mode = path.lstat().st_mode
            if S_ISLNK(mode):
                return 0
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return mode


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # the file system's bytes stand in `name` as surrogates
        return False
    return True


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip()[:80]


def _refuse_second(first: Path | None, second: Path, below: Path) -> None:
    """Two folders for one thing are an error, which names them relative to `below`."""
    if first is not None:
        folders = [f"'{folder.relative_to(below).as_posix()}'" for folder in (first, second)]
        raise DataError(
            f"{' and '.join(folders)} stand for the same thing.\nMove one of them away."
        )
