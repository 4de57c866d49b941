"""Reading zip files, and tar files, plain or compressed by gzip, bzip2 or xz.

The format is recognised by the first bytes, not by the name. Nothing is written here, and declared
sizes are not trusted: a stream that expands to more than declared ends with an error.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from fer_bench.errors import DataError
from fer_bench.storage.files import is_name

# Images hardly compress: an archive that expands a hundredfold was made to fill a disk.
LARGEST_RATIO = 100
LARGEST_TOTAL = 256 * 2**30
# A small table of plain pictures does compress, but is too small to fill a disk.
HARMLESS = 8 * 2**20
# AffectNet of 2021, the release with the most files, has 1.5 million.
LARGEST_NUMBER = 10_000_000

_COMPRESSIONS: Mapping[bytes, Callable[..., io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
# What else users try to unpack, by its first bytes, and what to do with it.
_OTHERS = {
    b"Rar!": "a RAR archive; unpack it (unrar x) and zip the folder",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it (7z x) and zip the folder",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it (unzstd) and give the result",
    b"\x04\x22\x4d\x18": "compressed by lz4; unpack it (unlz4) and give the result",
    b"\x1f\x9d": "compressed by compress; unpack it (uncompress) and give the result",
    b"<": "a web page, perhaps a saved log-in page; download the archive again",
    b"%PDF": "a PDF file; download the archive again",
}
_BLOCK = tarfile.BLOCKSIZE
# A header in a tar file (a long name, a list of attributes) is read in one piece.
_LONGEST_HEADER = 2**20
_DRIVE = re.compile(r"^[A-Za-z]:")
# What the libraries raise for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RecursionError,
    ValueError,
)


class Member(NamedTuple):
    """A file inside an archive.

    Attributes:
        path: where it is written, relative to the new folder.
        size: in bytes, unpacked; never more than this is read.
        encrypted: whether it needs a password.
        open: its content as a stream.
    """

    path: PurePosixPath
    size: int
    encrypted: bool
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Archive:
    """An open archive.

    Attributes:
        members: its files, in the order in which they are read fastest.
        check_end: to be called after the members were read; raises when the checksum of the whole
            archive is wrong.
    """

    members: list[Member]
    check_end: Callable[[], None]


def largest_total(size: int) -> int:
    """The number of bytes to which an archive of `size` bytes may expand."""
    return min(LARGEST_TOTAL, max(HARMLESS, LARGEST_RATIO * size))


def format_of(path: Path) -> str:
    """The format of an archive by its bytes: `zip`, `tar`, or empty for anything else."""
    with contextlib.suppress(*_DAMAGE, OSError), _decompressed(path) as stream:
        # Tar first: a tar file that ends with a zip file looks like a zip file.
        tarfile.TarInfo.frombuf(stream.read(_BLOCK), tarfile.ENCODING, "surrogateescape")
        return "tar"
    return "zip" if zipfile.is_zipfile(path) else ""


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the archive at `path` within the block.

    Raises:
        DataError: it is not an archive, is damaged or was made to fill a disk, or a member leads
            out of the folder or is a link or a device; within the block, a member is damaged.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise DataError(
            f"{path}: expected an archive, found {found}.\nGive the path of the download."
        )
    kind = format_of(path)
    if not kind:
        raise DataError(f"{path}: {_not_an_archive(path)}.")
    try:
        with _zip(path) if kind == "zip" else _tar(path) as archive:
            yield archive
    except _DAMAGE as error:
        reason = str(error) or "it ends too early"
        raise DataError(
            f"{path}: cannot be read as a {kind} file ({reason}); nothing was unpacked.\n"
            "Download it again; if that does not help, pack the folder again."
        ) from error


def _not_an_archive(path: Path) -> str:
    """What a file that is not an archive is, and what to do, without the final full stop."""
    with path.open("rb") as file:
        start = file.read(64)
    for magic, text in _OTHERS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(magic):
            what, _, todo = text.partition("; ")
            return f"not a zip or tar file, but {what}.\n{todo[0].upper()}{todo[1:]}"
    size = f"{path.stat().st_size:,} bytes"
    if any(start.startswith(magic) for magic in _COMPRESSIONS):
        return (
            f"compressed, but no tar file inside, or a damaged one ({size}).\n"
            "Download it again, or unpack it and give the result"
        )
    return (
        f"not a zip or tar file, or a part of one ({size}).\n"
        "Download it again; a saved log-in page is a common cause"
    )


def _path_of(name: str, archive: Path, is_file: bool) -> PurePosixPath:
    """The path at which a member is written. Raises: DataError when it is unsafe."""
    path = PurePosixPath(name.replace("\\", "/"))
    trouble = "" if is_file else "a link or a device"
    if not path.parts or path.is_absolute() or ".." in path.parts or _DRIVE.match(path.parts[0]):
        trouble = "a path outside the folder"
    elif not trouble and not all(map(is_name, path.parts)):
        trouble = "a name that no folder can hold"
    if trouble:
        raise DataError(
            f"{archive}: unsafe member {name!r}, {trouble}; nothing was unpacked.\n"
            "Get the archive from its official source, or pack the folder without links."
        )
    return path


# zip -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[Archive]:
    with zipfile.ZipFile(path) as opened:
        # Not `is_dir`, which fails for an empty name in a damaged archive.
        infos = [info for info in opened.infolist() if not info.filename.endswith("/")]
        members = [_zip_member(opened, info, path) for info in infos]
        yield Archive(members, lambda: None)  # every member has a checksum of its own


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Member:
    # The upper half is the Unix mode, 0 in archives from other systems.
    is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    path = _path_of(info.filename, archive, is_file)
    encrypted = bool(info.flag_bits & 0x1)
    return Member(path, info.file_size, encrypted, lambda: opened.open(info))


# tar -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[Archive]:
    with (
        _decompressed(path) as stream,
        tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as opened,
    ):
        members = [_tar_member(opened, info, path) for info in _tar_files(opened)]
        _check_closed(opened, stream)
        yield Archive(members, lambda: _read_to_end(stream))


def _tar_files(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members but folders. Raises: tarfile.TarError for members that no program writes."""
    for number, info in enumerate(opened):
        if info.size < 0 or number >= LARGEST_NUMBER:
            raise tarfile.ReadError(f"member {number} is invalid")
        if not info.isdir():
            yield info


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo, archive: Path) -> Member:
    path = _path_of(info.name, archive, info.isreg())
    return Member(path, info.size, False, lambda: cast("IO[bytes]", opened.extractfile(info)))


def _check_closed(opened: tarfile.TarFile, stream: "_Stream") -> None:
    """Raises: tarfile.ReadError unless the members end with a block of zeros.

    The module `tarfile` accepts any end.
    """
    stream.seek(opened.offset)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError(f"it ends too early or is damaged at byte {opened.offset:,}")


def _read_to_end(stream: "_Stream") -> None:
    # Decompressors compare the checksum at the end of the data.
    while stream.read(_LONGEST_HEADER):
        pass


@contextlib.contextmanager
def _decompressed(path: Path) -> Iterator["_Stream"]:
    with path.open("rb") as file:
        start = file.read(8)
    openers = (opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic))
    opener = next(openers, None)
    size = path.stat().st_size
    limit = size if opener is None else largest_total(size)
    with opener(path) if opener else path.open("rb") as decompressed:
        yield _Stream(decompressed, limit)


class _Stream(io.BufferedIOBase):
    """The bytes of a tar file, at most `limit` of them and not too many at once.

    Raises: tarfile.ReadError for anything that is wrong with them.
    """

    def __init__(self, file: io.BufferedIOBase, limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes."""
        if size is None or not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError("a header of an impossible size")
        with _explained():
            content = self._file.read(size)
            self._check(self._file.tell())
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset from the start."""
        if whence != io.SEEK_SET or offset < 0:
            raise tarfile.ReadError("a member at an impossible offset")
        self._check(offset)
        with _explained():
            return self._file.seek(offset)

    def tell(self) -> int:
        """The number of bytes read or skipped so far."""
        return self._file.tell()

    def _check(self, offset: int) -> None:
        if offset > self._limit:
            raise tarfile.ReadError(f"it expands to more than {self._limit:,} bytes")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what the decompressors raise into a `tarfile.ReadError`."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise tarfile.ReadError(str(error) or "it ends too early") from error
    except OSError as error:
        if error.errno is not None:  # from the system; decompressors set none
            raise
        raise tarfile.ReadError(str(error)) from error
