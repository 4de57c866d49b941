"""Unpacking a downloaded archive: safely, completely or not at all."""

import contextlib
import fcntl
import lzma
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from fer_bench.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
LIST_SUFFIXES = (".csv", ".txt", ".npy")

# Images hardly compress: an archive that grows a hundredfold was made to fill a disk.
LARGEST_RATIO = 100
LARGEST_TOTAL = 256 * 2**30

_DRIVE = re.compile(r"^[A-Za-z]:")
# What reading a zip file raises where its bytes make no sense.
_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


class Unpacked(NamedTuple):
    """How many files of an archive were written, and how many were left out."""

    written: int
    ignored: int


class _Member(NamedTuple):
    """A file inside an archive and where it goes, relative to the new folder."""

    info: zipfile.ZipInfo
    target: PurePosixPath


def is_hidden(path: PurePath) -> bool:
    """Whether a part of `path` is hidden, or is what macOS adds to every archive."""
    return any(is_hidden_name(part) for part in path.parts)


def is_hidden_name(name: str) -> bool:
    """`is_hidden` for one part of a path; for hundreds of thousands of names, paths are slow."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(path: PurePath) -> bool:
    """Whether `path` is the name of an image that is not hidden."""
    return is_image_name(path.name) and not is_hidden(path)


def is_image_name(name: str) -> bool:
    """`is_image` for one part of a path."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden_name(name)


def is_release_file(path: PurePath) -> bool:
    """Whether `path` is the name of an image, or of a list that says something about images."""
    return path.suffix.lower() in IMAGE_SUFFIXES + LIST_SUFFIXES and not is_hidden(path)


def unpack(
    archive: Path,
    root: Path,
    force: bool,
    pick: Callable[[PurePosixPath], bool] = is_image,
    check: Callable[[Path], object] = lambda _: None,
) -> Unpacked:
    """Unpack the zip file `archive` as the folder `root`, without the single folder it may wrap.

    Everything is written to a hidden folder beside `root` first, which takes the place of `root`
    only when it is complete. Whenever the process stops, `root` holds the old files or the new
    ones; what a killed process left behind is removed at the next call.

    Args:
        archive: the zip file.
        root: the folder to make.
        force: replace `root` if it holds something.
        pick: which members to write, by their path inside the archive.
        check: called with the complete new folder before it becomes `root`; may raise.

    Raises:
        DataError: the archive is missing, damaged, unsafe or encrypted, `root` is in the way, or
            the files cannot be written.
    """
    root = root.resolve()  # a link to another disk stays a link
    _check_place(root, archive)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            _clear_leftovers(root)
            _check_vacant(root, force)
            with _fresh_folder(root) as fresh:
                unpacked = _extract(archive, fresh, pick)
                check(fresh)
                _replace(root, fresh)
    except OSError as error:
        raise DataError(
            f"{root}: cannot unpack {archive} there ({error}); nothing was unpacked.\n"
            "Check the free space and your rights in that folder, or give another --root."
        ) from error
    return unpacked


def _check_place(root: Path, archive: Path) -> None:
    # Replacing deletes: a mistyped `--root data` must not take the download along.
    for inside in (archive.resolve(), Path.cwd().resolve()):
        if inside.is_relative_to(root):
            raise DataError(
                f"{root}: cannot be made by unpacking, because {inside} lies inside it.\n"
                "Give a folder of its own with --root."
            )


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep two processes from unpacking to one folder; the lock vanishes with its process."""
    with _beside(root, "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{root}: another process is unpacking there.\nWait for it to end."
            ) from error
        yield


def _beside(root: Path, purpose: str) -> Path:
    return root.with_name(f".{root.name}.{purpose}")


def _clear_leftovers(root: Path) -> None:
    """Undo what a killed process left behind; the lock is held, so nobody else is at work."""
    replaced = _beside(root, "replaced")
    if replaced.exists() and not root.exists():
        replaced.rename(root)
    for leftover in (replaced, _beside(root, "unpacking")):
        if leftover.exists():
            shutil.rmtree(leftover)


def _check_vacant(root: Path, force: bool) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder, found a file.\nGive another --root.")
    if not force:
        raise DataError(
            f"{root}: the folder is there already and is not empty.\n"
            "Use --force to replace it, or give another --root."
        )


@contextlib.contextmanager
def _fresh_folder(root: Path) -> Iterator[Path]:
    fresh = _beside(root, "unpacking")
    try:
        fresh.mkdir()
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _extract(archive: Path, folder: Path, pick: Callable[[PurePosixPath], bool]) -> Unpacked:
    """Write the picked members of `archive` below `folder`, after checking all of them."""
    try:
        with _opened(archive) as opened:
            files = _files(opened, archive)
            members = _without_wrapper([file for file in files if pick(file.target)])
            _check_members(members, archive)
            _check_size(members, archive, folder)
            _write(opened, members, folder)
    except _DAMAGE as error:
        reason = str(error) or "it ends too early"
        raise DataError(
            f"{archive}: cannot be read as a zip file ({reason}); nothing was unpacked.\n"
            "Download it again; if that does not help, zip the folder anew."
        ) from error
    return Unpacked(len(members), len(files) - len(members))


def _opened(archive: Path) -> zipfile.ZipFile:
    if not archive.is_file():
        found = "a folder" if archive.is_dir() else "nothing"
        raise DataError(
            f"{archive}: expected a zip file, found {found}.\nGive the path of the download."
        )
    if not zipfile.is_zipfile(archive):
        raise DataError(
            f"{archive}: not a zip file, or a part of one ({archive.stat().st_size:,} bytes).\n"
            "Download it again; a saved log-in page is a common cause."
        )
    return zipfile.ZipFile(archive)


def _files(opened: zipfile.ZipFile, archive: Path) -> list[_Member]:
    """All files of an archive. Raises: DataError when one leads, or points, out of the folder."""
    files = []
    for info in opened.infolist():
        if info.filename.endswith("/"):  # `is_dir` fails for a damaged, empty name
            continue
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if trouble := _danger(info, path):
            raise DataError(
                f"{archive}: unsafe member {info.filename!r}, {trouble}; nothing was unpacked.\n"
                "Get the archive from its official source."
            )
        files.append(_Member(info, path))
    return files


def _danger(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """What makes a member unsafe to write, or an empty string."""
    if not path.parts or path.is_absolute() or ".." in path.parts or _DRIVE.match(path.parts[0]):
        return "a path out of the folder"
    # The upper half holds the Unix mode; archives from other systems leave it 0.
    kind = stat.S_IFMT(info.external_attr >> 16)
    return "" if kind in (0, stat.S_IFREG) else "a link or a device"


def _without_wrapper(members: list[_Member]) -> list[_Member]:
    tops = {member.target.parts[0] for member in members}
    if len(tops) != 1 or any(len(member.target.parts) == 1 for member in members):
        return members
    (top,) = tops
    return [_Member(info, target.relative_to(top)) for info, target in members]


def _check_members(members: list[_Member], archive: Path) -> None:
    if not members:
        raise DataError(
            f"{archive}: none of its files is wanted here.\n"
            "Check that it is the archive of this data set."
        )
    if any(member.info.flag_bits & 0x1 for member in members):
        raise DataError(
            f"{archive}: protected by a password, which is not supported.\n"
            "Unpack it with its password, then zip the folder again without one."
        )
    ((target, times),) = Counter(member.target for member in members).most_common(1)
    if times > 1:
        raise DataError(
            f"{archive}: holds '{target}' {times} times; nothing was unpacked.\n"
            "Get the archive from its official source."
        )


def _check_size(members: list[_Member], archive: Path, folder: Path) -> None:
    # A member is never read beyond the size that it declares, so that the sum is binding.
    total = sum(member.info.file_size for member in members)
    size = archive.stat().st_size
    if total > min(LARGEST_TOTAL, LARGEST_RATIO * size):
        raise DataError(
            f"{archive}: {size:,} bytes would grow to {total:,}, which no archive of images does; "
            "nothing was unpacked.\n"
            "Get the archive from its official source."
        )
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(
            f"{folder.parent}: unpacking {archive} needs {total:,} bytes, {free:,} are free.\n"
            "Make room, or give a --root on another disk."
        )


def _write(opened: zipfile.ZipFile, members: list[_Member], folder: Path) -> None:
    for parent in {member.target.parent for member in members}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for info, target in members:
        with opened.open(info) as source, (folder / target).open("xb") as copy:
            shutil.copyfileobj(source, copy, length=2**20)


def _replace(root: Path, fresh: Path) -> None:
    """Put the complete folder `fresh` in the place of `root`; on failure, `root` is as before."""
    replaced = _beside(root, "replaced")
    if root.exists():
        root.rename(replaced)
    try:
        fresh.rename(root)
    except BaseException:
        if replaced.exists():
            replaced.rename(root)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
