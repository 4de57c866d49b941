"""Walking a dataset's folder in a fixed order, and counting everything that is left out.

Functions count what they leave out in `dropped`, by reason, and raise `DataError` without the
root, which `reading(root)` puts in front. Within `reading`, symbolic links that stay inside the
root are followed (see `links`); outside of it, no link is.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFDIR, S_ISDIR, S_ISLNK, S_ISREG

import pandas as pd

from fer_bench import labels
from fer_bench.config.paths import DEEPEST
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
from fer_bench.spelling import did_you_mean
from fer_bench.storage.delimited import TableFormatError, read_columns

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
INCOMPLETE = "Download the whole archive and unpack it again."
CONVERT = "Convert the images to JPEG or PNG."
# Paths without a part that begins with a dot, and without a drive.
_PLAIN = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*")
# How deep below the root a release may be: archives wrap it in a folder, unpackers in another.
WRAPPERS = 2


@contextlib.contextmanager
def reading(root: Path, advice: str = "") -> Iterator[Links]:
    """Follow links inside `root`, and put `root` in front of every `DataError`.

    Raises: DataError for an `OSError`, and when `root` is not a folder; that message ends with
        `advice`. Messages name the links that were not followed.
    """
    try:
        if not root.is_dir():
            raise DataError(_not_a_folder(root, advice or "Give the unpacked folder."))
        with links.below(root) as followed:
            try:
                yield followed
            except DataError as error:
                raise DataError(f"{error}{followed.explanation()}") from error
    except OSError as error:
        place = error.filename or root
        raise DataError(
            f"{place}: cannot be read ({error.strerror or error}).\nCheck its permissions."
        ) from error
    except DataError as error:
        raise DataError(f"{root}: {error}") from error


def reading_download(name: str, root: Path) -> contextlib.AbstractContextManager[Links]:
    """`reading`, with the advice to unpack the download of the dataset `name` as `root`."""
    return reading(root, f"Unpack the download: fer data prepare {name} ARCHIVE --root {root}")


def _not_a_folder(root: Path, advice: str) -> str:
    """What is at `root`, which is not a folder, what to do, and what is beside it."""
    if root.exists():
        return f"a file.\n{advice}"
    if root.is_symlink():
        return f"a symbolic link to {root.readlink()}, which does not exist.\n{advice}"
    if not root.parent.is_dir():
        return f"no such folder.\n{advice}"
    return f"no such folder.\n{advice}\n'{root.parent}' holds {contents(root.parent)}."


def find(root: Path, holds: Callable[[Path], bool]) -> Path | None:
    """`root`, or the highest folder at most `WRAPPERS` levels below it, for which `holds` is true.

    A link to another folder of the same level does not count.

    Raises: DataError when it is true for two folders of one level, such as two copies.
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
    """`folders` sorted by name, without links to others of them."""
    by_target: dict[Path, Path] = {}
    for folder in sorted(folders, key=lambda folder: (folder.is_symlink(), folder)):
        by_target.setdefault(folder.resolve(), folder)
    return sorted(by_target.values())


def visible(folder: Path, dropped: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """The entries of `folder` by name, without hidden and system files and refused links.

    The methods `is_dir` and `is_file` of an entry follow links.
    """
    for entry in _entries(folder):
        if reason := _reason_skipped(entry):
            dropped[reason] += 1
        else:
            yield entry


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _reason_skipped(entry: os.DirEntry[str]) -> str:
    """Why `entry` is skipped, or an empty string."""
    if reason := reason_hidden(entry.name):
        return reason
    if not _is_utf8(entry.name):  # no list, table or page can name it
        return NOT_UTF8
    return links.current().refusal(entry.path) if entry.is_symlink() else ""


def has_folder(folder: Path, place: str) -> bool:
    """Whether `folder` has a folder at the path `place`; refused links do not count."""
    return S_ISDIR(_mode(folder, place))


def has_file(folder: Path, place: str) -> bool:
    """Whether `folder` has a file at the path `place`; refused links do not count."""
    return S_ISREG(_mode(folder, place))


def missing_folder(folder: Path, place: str, known: Collection[str] = ()) -> DataError:
    """The error that `folder` has no folder at the path `place`, with what it has instead.

    Args:
        folder: an existing folder.
        place: a path of which some part is missing.
        known: names of other folders that belong there, so that none of them is the missing one.
    """
    outer, *inner = PurePosixPath(place).parts
    if has_folder(folder, outer):
        return missing_folder(folder / outer, "/".join(inner), known)
    others = [other.name for other in subfolders(folder, Counter()) if other.name not in known]
    advice = (
        f"If '{others[0]}' is that folder, rename it to '{outer}'; else download the whole archive."
        if len(others) == 1
        else INCOMPLETE
    )
    return DataError(f"no folder '{outer}' in '{folder.name}'; found {contents(folder)}.\n{advice}")


def subfolders(folder: Path, dropped: Counter[str]) -> list[Path]:
    """The folders in `folder`; everything else is counted."""
    folders = []
    for entry in visible(folder, dropped):
        if entry.is_dir():
            folders.append(Path(entry.path))
        else:
            dropped["outside a class folder"] += 1
    return folders


def image_names(folder: Path, dropped: Counter[str]) -> list[str]:
    """The names of the images in `folder`; everything else is counted."""
    names = []
    for entry in visible(folder, dropped):
        if entry.is_file() and is_image_name(entry.name):
            names.append(entry.name)
        else:
            dropped[reason_left_out(entry.name)] += 1
    return names


def image_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """The paths of all images at any depth below `folder`, relative to it, with forward slashes."""
    for path in file_paths(folder, dropped):
        name = path.rpartition("/")[2]
        if is_image_name(name):
            yield path
        else:
            dropped[reason_left_out(name)] += 1


def file_paths(folder: Path, dropped: Counter[str]) -> Iterator[str]:
    """The paths of all files at any depth below `folder`, like `image_paths`.

    A folder that several links lead to is entered through the first of them only.

    Raises: DataError when folders are nested deeper than `DEEPEST`.
    """
    return _file_paths(folder, dropped, set())


def _file_paths(
    folder: Path, dropped: Counter[str], linked: set[Path], depth: int = 0
) -> Iterator[str]:
    """`file_paths` without the folders `linked`, which were entered through another link."""
    if depth > DEEPEST:
        raise DataError(
            f"folders are nested more than {DEEPEST} levels deep, as in no dataset.\n"
            "Give the folder that holds the images."
        )
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
            inner = _file_paths(Path(entry.path), dropped, linked, depth + 1)
            yield from (f"{entry.name}/{path}" for path in inner)


def split_of(folder_name: str, names: Mapping[str, Collection[str]] = SPLIT_FOLDERS) -> str | None:
    """The split that a folder of this name holds, or None."""
    name = folder_name.strip().casefold()
    return next((split for split, known in names.items() if name in known), None)


def split_folders(
    root: Path, dropped: Counter[str], names: Mapping[str, Collection[str]] = SPLIT_FOLDERS
) -> dict[str, Path]:
    """The folders of `root` that are named like splits, in the order of `names`; perhaps none.

    Raises: DataError when two of them are the same split.
    """
    found: dict[str, Path] = {}
    for folder in subfolders(root, dropped):
        split = split_of(folder.name, names)
        if split is None:
            dropped["unrelated folder"] += 1
        else:
            _add(found, split, folder, root)
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

    A folder of another name is allowed if it only keeps the targets of links in class folders.

    Raises: DataError for a folder of an unknown name (with `advice`, unless a class has a similar
        name), for two folders of one class, and, if `complete`, for a class without a folder.
    """
    found: dict[str, Path] = {}
    unknown = []
    for inner in subfolders(folder, dropped):
        label = labels.canonical(inner.name)
        if label is None or label not in known:
            unknown.append(inner)
        else:
            _add(found, label, inner, folder.parent)
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
    """Raises: DataError, unless `folder` only keeps the targets of links in the class folders."""
    for class_folder in classes:
        for _ in file_paths(class_folder, Counter()):
            pass  # the links on the way are noted
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


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a list in a release, as `read_columns` reads them.

    Raises: DataError when the file is missing, is not CSV or lacks a column.
    """
    if not path.is_file():
        raise missing_list(path)
    try:
        return read_columns(path, columns)
    except TableFormatError as error:
        raise DataError(f"'{path.name}' {error}\n{INCOMPLETE}") from error


def missing_list(path: Path) -> DataError:
    """The error that the list `path` is missing, with the files beside it."""
    others = [entry.name for entry in _entries(path.parent) if entry.name != path.name]
    near = [name for name in others if path.stem.casefold() in name.casefold()]
    advice = f"If '{near[0]}' is that list, rename it to '{path.name}'." if len(near) == 1 else ""
    found = contents(path.parent)
    return DataError(f"'{path.name}' is missing; found {found}.\n{advice or INCOMPLETE}")


def inside(text: str, list_name: str) -> str:
    """A path from a list, with forward slashes. Raises: DataError when it leads outside."""
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
            f"'{list_name}' names {text!r}, which is outside the folder of images.\n"
            "Get the list from its official source."
        )
    return str(path)


def listed(names: Iterable[str]) -> str:
    """The first eight names, for a message."""
    shown = list(names)
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) + rest) or "nothing"


def contents(folder: Path) -> str:
    """What is in `folder`, for a message: folders first, then files, nothing hidden."""
    shown = [entry for entry in _entries(folder) if not reason_hidden(entry.name)]
    return listed(map(_described, sorted(shown, key=lambda entry: not entry.is_dir())))


def unpack_advice(folder: Path, dataset: str) -> str:
    """The line of a message that says to unpack the archives in `folder`; empty without any."""
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
    """The mode of the file or folder at `place`; 0 for nothing and for a refused link."""
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
    except UnicodeEncodeError:  # `name` has the file system's bytes as surrogates
        return False
    return True


def _add(found: dict[str, Path], name: str, folder: Path, top: Path) -> None:
    """Enter the folder of a split or class. Raises: DataError, relative to `top`, for a second."""
    if name in found:
        both = " and ".join(f"'{one.relative_to(top).as_posix()}'" for one in (found[name], folder))
        raise DataError(f"{both} are both folders of '{name}'.\nMove or rename one of them.")
    found[name] = folder
