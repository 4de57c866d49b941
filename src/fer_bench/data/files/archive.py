"""Unpacking a downloaded archive: safely, completely or not at all."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fer_bench.data.files.archive_formats import LARGEST_NUMBER, Member, largest_total, open_archive
from fer_bench.data.files.file_names import is_image
from fer_bench.errors import DataError
from fer_bench.storage.replacement import check_place, check_vacant, replaced_folder


class Unpacked(NamedTuple):
    """How many files of an archive were written, and how many were left out."""

    written: int
    ignored: int


def unpack(
    archive: Path,
    root: Path,
    force: bool,
    pick: Callable[[PurePosixPath], bool] = is_image,
    check: Callable[[Path], object] = lambda _: None,
) -> Unpacked:
    """Unpack the zip or tar file `archive` as the folder `root`.

    A single top folder in the archive is left out. Everything is written to a hidden folder beside
    `root` first, which replaces `root` only when it is complete.

    Args:
        archive: the file; its format is recognised by its bytes, its name does not matter.
        root: the folder to make.
        force: replace `root` if it is not empty.
        pick: which members to write, by their path inside the archive.
        check: called with the complete new folder before it becomes `root`; may raise.

    Raises:
        DataError: the archive is missing, damaged, unsafe or encrypted, `root` must not be
            replaced, or the files cannot be written.
    """
    check_place(root, archive)
    try:
        with replaced_folder(root) as fresh:
            check_vacant(root, force)
            unpacked = _extract(archive, fresh, pick)
            check(fresh)
    except OSError as error:
        raise DataError(
            f"{root}: cannot unpack {archive} there ({error}); nothing was unpacked.\n"
            "Check the free space and the permissions of that folder, or give another --root."
        ) from error
    return unpacked


def _extract(archive: Path, folder: Path, pick: Callable[[PurePosixPath], bool]) -> Unpacked:
    """Write the picked members of `archive` below `folder`, after checking all of them."""
    with open_archive(archive) as opened:
        picked = [member for member in opened.members if pick(member.path)]
        members = _without_wrapper(picked)
        _check_members(members, archive)
        _check_size(members, archive, folder)
        _write(members, folder)
        opened.check_end()
    return Unpacked(len(members), len(opened.members) - len(members))


def _without_wrapper(members: list[Member]) -> list[Member]:
    tops = {member.path.parts[0] for member in members}
    if len(tops) != 1 or any(len(member.path.parts) == 1 for member in members):
        return members
    (top,) = tops
    return [member._replace(path=member.path.relative_to(top)) for member in members]


def _check_members(members: list[Member], archive: Path) -> None:
    if not members:
        raise DataError(
            f"{archive}: contains no images or label files.\n"
            "Check that it is the archive of this dataset."
        )
    if any(member.encrypted for member in members):
        raise DataError(
            f"{archive}: encrypted archives are not supported.\n"
            "Unpack it with its password, then zip the folder again without one."
        )
    ((target, times),) = Counter(member.path for member in members).most_common(1)
    if times > 1:
        raise DataError(
            f"{archive}: contains '{target}' {times} times; nothing was unpacked.\n"
            "Get the archive from its official source."
        )


def _check_size(members: list[Member], archive: Path, folder: Path) -> None:
    # A member is never read beyond its declared size, so the sum is reliable.
    total = sum(member.size for member in members)
    size = archive.stat().st_size
    if total > largest_total(size) or len(members) > LARGEST_NUMBER:
        raise DataError(
            f"{archive}: {size:,} bytes would expand to {total:,} in {len(members):,} files, as "
            "no archive of images does; nothing was unpacked.\n"
            "Get the archive from its official source."
        )
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(
            f"{folder.parent}: unpacking {archive} needs {total:,} bytes, {free:,} are free.\n"
            "Make room, or give a --root on another disk."
        )


def _write(members: list[Member], folder: Path) -> None:
    # Modes and owners from the archive are not applied.
    for parent in {member.path.parent for member in members}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for member in members:
        with member.open() as source, (folder / member.path).open("xb") as copy:
            shutil.copyfileobj(source, copy, length=2**20)
