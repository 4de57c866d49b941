"""How a dataset's folder is looked through: in a fixed order, all that is left out counted.

Functions count what they leave out in `dropped`, by reason, and raise `DataError` without the
root; `reading(root)` puts it in front. Inside of `reading`, symbolic links that stay inside the
root are followed like what they lead to (`links`); outside of it, none is.
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
from fer_bench.data.files import links
from fer_bench.data.files.file_names import (
    ARCHIVE_SUFFIXES,
    NOT_AN_IMAGE,
    NOT_UTF8,
    is_image_name,
    reason_hidden,
    reason_left_out,
)
from fer_bench.data.files.links import Links
from fer_bench.data.manifest import has_unsupported, left_out
from fer_bench.errors import DataError
from fer_bench.registry import did_you_mean

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
INCOMPLETE = "Download the whole archive and unpack it again."
CONVERT = "Convert the images to JPEG or PNG."
# No part of these begins with a dot, and none is a drive.
_PLAIN = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*")
# How deep below the root a release may lie: archives wrap it in a folder, unpackers in another.
WRAPPERS = 2


@contextlib.contextmanager
def reading(root: Path, advice: str = "") -> Iterator[Links]:
    """Follow links inside `root`; put it in front of every `DataError`, made of an `OSError` too.

    Raises: DataError, also when `root` is no folder; the message then ends with `advice`. Where
        links were not followed, the message names them.
    """
    try:
        if not root.is_dir():
            raise DataError(_instead(root, advice or "Give the unpacked folder."))
        with links.below(root) as followed:
            try:
                yield followed
            except DataError as error:
                raise DataError(f"{error}{followed.explanation()}") from error
    except OSError as error:
        place = error.filename or root
        raise DataError(
            f"{place}: cannot be read ({error.strerror or error}).\nCheck your rights there."
        ) from error
    except DataError as error:
        raise DataError(f"{root}: {error}") from error


def reading_download(name: str, root: Path) -> contextlib.AbstractContextManager[Links]:
    """`reading`, with the advice to unpack the download of the dataset `name` as `root`."""
    return reading(root, f"Unpack the download: fer data prepare {name} ARCHIVE --root {root}")


def _instead(root: Path, advice: str) -> str:
    """What is at `root`, which is no folder, what to do, and what lies where it should be."""
    if root.exists():
        return f"a file.\n{advice}"
    if root.is_symlink():
        return f"a symbolic link to {root.readlink()}, where nothing is.\n{advice}"
    if not root.parent.is_dir():
        return f"no such folder.\n{advice}"
    return f"no such folder.\n{advice}\n'{root.parent}' holds {contents(root.parent)}."


def find(root: Path, holds: Callable[[Path], bool]) -> Path | None:
    """`root`, or the highest folder at most `WRAPPERS` levels below it, for which `holds` is true.

    A link to a folder of the same level is no other folder.

    Raises: DataError when it is true for two folders of that level, as for two copies.
    """
    level = [root]
    for depth in range(WRAPPERS + 1):
        if depth:
            level = [inner for folder in level for inner in subfolders(folder, Counter())]
        found = _distinct([folder for folder in level if holds(folder)])
        if len(found) > 1:
            shown = listed(f"'{folder.relative_to(root).as_posix()}'" for folder in found)
            raise DataError(f"the data could be in any of {shown}.\nGive one of them as the root.")
        if found:
            return found[0]
    return None


def _distinct(folders: list[Path]) -> list[Path]:
    """`folders` by name, each once, without links to others of them."""
    by_target: dict[Path, Path] = {}
    for folder in sorted(folders, key=lambda folder: (folder.is_symlink(), folder)):
        by_target.setdefault(folder.resolve(), folder)
    return sorted(by_target.values())


def visible(folder: Path, dropped: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """What `folder` shows, by name: nothing hidden or of a system, no link that is not followed.

    The methods `is_dir` and `is_file` of an entry tell what a link leads to.
    """
    for entry in _entries(folder):
        if reason := _reason_unseen(entry):
            dropped[reason] += 1
        else:
            yield entry


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _reason_unseen(entry: os.DirEntry[str]) -> str:
    """Why `entry` is not looked at, or an empty string."""
    if reason := reason_hidden(entry.name):
        return reason
    if not _is_utf8(entry.name):  # no list, table or page could name it
        return NOT_UTF8
    return links.current().refusal(entry.path) if entry.is_symlink() else ""


def has_folder(folder: Path, place: str) -> bool:
    """Whether there is a folder at `place` in `folder`, reached by links that are followed."""
    return S_ISDIR(_mode(folder, place))


def has_file(folder: Path, place: str) -> bool:
    """Whether there is a file at `place` in `folder`, reached by links that are followed."""
    return S_ISREG(_mode(folder, place))


def missing_folder(folder: Path, place: str, known: Collection[str] = ()) -> DataError:
    """The error that no folder is at `place` in `folder`, with what is there instead.

    Args:
        folder: a folder that is there.
        place: what is missing, or has a part that is missing.
        known: folders that are what they should be, so that none of them is the missing one.
    """
    outer, *inner = PurePosixPath(place).parts
    if has_folder(folder, outer):
        return missing_folder(folder / outer, "/".join(inner), known)
    others = [other.name for other in subfolders(folder, Counter()) if other.name not in known]
    advice = (
        f"Rename '{others[0]}' to '{outer}', if it is that folder; else download the whole archive."
        if len(others) == 1
        else INCOMPLETE
    )
    return DataError(f"no folder '{outer}' in '{folder.name}'; found {contents(folder)}.\n{advice}")


def subfolders(folder: Path, dropped: Counter[str]) -> list[Path]:
    """The folders in `folder`; anything else is counted."""
    folders = []
    for entry in visible(folder, dropped):
        if entry.is_dir():
            folders.append(Path(entry.path))
        else:
            dropped["outside a class folder"] += 1
    return folders


def image_names(folder: Path, dropped: Counter[str]) -> list[str]:
    """The names of the images in `folder`; anything else is counted."""
    names = []
    for entry in visible(folder, dropped):
        if entry.is_file() and is_image_name(entry.name):
            names.append(entry.name)
        else:
            dropped[reason_left_out(entry.name)] += 1
    return names


def image_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """Every image at any depth below `folder`, relative to it with forward slashes, by folder."""
    for path in file_paths(folder, dropped):
        name = path.rpartition("/")[2]
        if is_image_name(name):
            yield path
        else:
            dropped[reason_left_out(name)] += 1


def file_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """Every file at any depth below `folder`, as `image_paths` gives them.

    A folder that several links lead to is looked through at the first of them.
    """
    return _file_paths(folder, dropped, set())


def _file_paths(folder: Path, dropped: Counter[str], linked: set[Path]) -> Iterator[str]:
    """`file_paths`, without the folders `linked`, to which links have led already."""
    for entry in visible(folder, dropped):
        if entry.is_file():
            yield entry.name
        elif not entry.is_dir():  # a socket, a pipe
            dropped[NOT_AN_IMAGE] += 1
        elif entry.is_symlink() and Path(entry.path).resolve() in linked:
            dropped[links.AGAIN] += 1
        else:
            if entry.is_symlink():
                linked.add(Path(entry.path).resolve())
            inner = _file_paths(Path(entry.path), dropped, linked)
            yield from (f"{entry.name}/{path}" for path in inner)


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

    A folder of another name is no class where links from class folders lead into it. Otherwise
    `advice` is what to do about it, unless its name resembles that of a class.

    Raises: DataError for any other name that is none of `known`, two of the same class, and, if
        `complete`, a class without a folder.
    """
    found: dict[str, Path] = {}
    unknown = []
    for inner in subfolders(folder, dropped):
        label = labels.canonical(inner.name)
        if label is None or label not in known:
            unknown.append(inner)
        else:
            _refuse_second(found.get(label), inner, folder.parent)
            found[label] = inner
    for inner in unknown:
        _refuse_unknown(inner, known, found.values(), advice)
        dropped["unrelated folder"] += 1
    missing = [label for label in known if label not in found]
    if complete and missing:
        raise DataError(
            f"'{folder.name}' has no class folder for {', '.join(missing)}; "
            f"found {contents(folder)}.\n{INCOMPLETE}"
        )
    return {label: found[label] for label in known if label in found}


def _refuse_unknown(
    folder: Path, known: Collection[str], classes: Iterable[Path], advice: str
) -> None:
    """Raises: DataError, unless `folder` only keeps what links from the class folders lead to."""
    for class_folder in classes:  # which meets their links
        for _ in file_paths(class_folder, Counter()):
            pass
    if links.current().lead_into(folder):
        return
    spellings = [name for name, class_ in labels.SPELLINGS.items() if class_ in known]
    hint = did_you_mean(folder.name.casefold(), spellings)
    raise DataError(
        f"unknown class folder '{folder.parent.name}/{folder.name}'; "
        f"known: {', '.join(known)}.\n{hint or advice}"
    )


def class_images(class_folder: Path, dropped: Counter[str]) -> list[str]:
    """The names of the images of one class. Raises: DataError when there are none."""
    others = Counter[str]()
    names = image_names(class_folder, others)
    dropped.update(others)
    if not names:
        shown = f"{class_folder.parent.name}/{class_folder.name}"
        raise DataError(
            f"class folder '{shown}' holds no images; found {left_out(others)}.\n"
            f"{CONVERT if has_unsupported(others) else INCOMPLETE}"
        )
    return names


def read_table(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """The named columns of a CSV file as text, blanks around names and values removed.

    A byte order mark and Windows line ends do not matter; an empty cell is an empty string.

    Raises: DataError when the file is missing, is no CSV or lacks a column.
    """
    if not path.is_file():
        raise missing_list(path)
    try:
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            encoding=encoding(path),
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


def missing_list(path: Path) -> DataError:
    """The error that the list `path` is missing, with what is there instead."""
    others = [entry.name for entry in _entries(path.parent) if entry.name != path.name]
    near = [name for name in others if path.stem.casefold() in name.casefold()]
    advice = f"Rename '{near[0]}' to '{path.name}', if it is that list." if len(near) == 1 else ""
    found = contents(path.parent)
    return DataError(f"'{path.name}' is missing; found {found}.\n{advice or INCOMPLETE}")


def encoding(path: Path) -> str:
    """How the text in `path` is encoded, by its byte order mark; UTF-8 where there is none."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


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
    return (", ".join(shown[:8]) + rest) or "nothing"


def contents(folder: Path) -> str:
    """What lies in `folder`, for a message: folders first, then files, nothing hidden."""
    shown = [entry for entry in _entries(folder) if not reason_hidden(entry.name)]
    return listed(map(_described, sorted(shown, key=lambda entry: not entry.is_dir())))


def unpack_advice(folder: Path, dataset: str) -> str:
    """The line of a message that says to unpack what lies in `folder`; empty without archives."""
    names = [entry.name for entry in _entries(folder) if entry.is_file()]
    packed = [name for name in names if name.casefold().endswith(ARCHIVE_SUFFIXES)]
    if not packed:
        return ""
    example = f"fer data prepare {dataset} {folder / packed[0]} --root NEW_FOLDER"
    return f"Unpack {listed(packed)} first: {example}\n"


def _described(entry: os.DirEntry[str]) -> str:
    name = entry.name.encode(errors="replace").decode()
    refused = entry.is_symlink() and links.current().refusal(entry.path)
    return f"{name} (a link)" if refused else name


def _mode(folder: Path, place: str) -> int:
    """The mode of what is at `place`; 0 when that is nothing, or a link that is not followed."""
    path, mode = folder, S_IFDIR  # `folder` itself may be a link
    try:
        for part in PurePosixPath(place).parts:
            path /= part
            mode = path.lstat().st_mode
            if S_ISLNK(mode):
                if links.current().refusal(str(path)):
                    return 0
                mode = path.stat().st_mode
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
    with path.open(encoding=encoding(path), errors="replace") as file:
        return file.readline().strip()[:80]


def _refuse_second(first: Path | None, second: Path, below: Path) -> None:
    """Two folders for one thing are an error, which names them relative to `below`."""
    if first is not None:
        folders = [f"'{folder.relative_to(below).as_posix()}'" for folder in (first, second)]
        raise DataError(
            f"{' and '.join(folders)} stand for the same thing.\nMove one of them away."
        )
