"""What an archive holds, whatever it is called: zip, tar, and tar compressed by gzip, bzip2 or xz.

The first bytes tell the format. Nothing is written here, and nothing is believed: a stream that
unpacks to more than was announced ends with an error.
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

# Images hardly compress: an archive that grows a hundredfold was made to fill a disk.
LARGEST_RATIO = 100
LARGEST_TOTAL = 256 * 2**30
# A small table of even pictures does compress, and fills no disk.
HARMLESS = 8 * 2**20
# AffectNet of 2021, the most numerous release that is known, has 1.5 million.
LARGEST_NUMBER = 10_000_000

_COMPRESSIONS: Mapping[bytes, Callable[..., io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
# What people also have at hand, by the bytes that it begins with, and what to do with it.
_OTHERS = {
    b"Rar!": "a RAR archive; unpack it (unrar x) and zip the folder",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it (7z x) and zip the folder",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it (unzstd) and give what comes out",
    b"\x04\x22\x4d\x18": "compressed by lz4; unpack it (unlz4) and give what comes out",
    b"\x1f\x9d": "compressed by compress; unpack it (uncompress) and give what comes out",
    b"<": "a web page, perhaps a saved log-in page; download the archive again",
    b"%PDF": "a PDF file; download the archive again",
}
_BLOCK = tarfile.BLOCKSIZE
# A header of a tar file, a long name or a list of attributes, is read at once.
_LONGEST_HEADER = 2**20
_DRIVE = re.compile(r"^[A-Za-z]:")
# What reading an archive raises where its bytes make no sense.
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
        path: where it goes, relative to the folder that is made.
        size: in bytes, unpacked; no more are ever read.
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
        members: its files, in the order in which they are read soonest.
        check_end: call it when the members are read: raises one of what `explained` explains where
            the checksum of the whole is wrong.
    """

    members: list[Member]
    check_end: Callable[[], None]


def largest_total(size: int) -> int:
    """To how many bytes an archive of `size` bytes may grow."""
    return min(LARGEST_TOTAL, max(HARMLESS, LARGEST_RATIO * size))


def format_of(path: Path) -> str:
    """The format of an archive by its bytes: `zip`, `tar`, or an empty string for anything else."""
    with contextlib.suppress(*_DAMAGE, OSError), _decompressed(path) as stream:
        # A tar file first: a zip file at its end would look like the whole.
        tarfile.TarInfo.frombuf(stream.read(_BLOCK), tarfile.ENCODING, "surrogateescape")
        return "tar"
    return "zip" if zipfile.is_zipfile(path) else ""


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Look into the archive at `path`, as long as the block lasts.

    Raises:
        DataError: it is none, is damaged or was made to fill a disk, a member leads out of the
            folder, or is a link or a device; inside the block, a member turns out to be damaged.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise DataError(
            f"{path}: expected an archive, found {found}.\nGive the path of the download."
        )
    kind = format_of(path)
    if not kind:
        raise DataError(f"{path}: {_instead(path)}.")
    try:
        with _zip(path) if kind == "zip" else _tar(path) as archive:
            yield archive
    except _DAMAGE as error:
        reason = str(error) or "it ends too early"
        raise DataError(
            f"{path}: cannot be read as a {kind} file ({reason}); nothing was unpacked.\n"
            "Download it again; if that does not help, pack the folder anew."
        ) from error


def _instead(path: Path) -> str:
    """What a file that is no archive is, and what to do, without the final full stop."""
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
            "Download it again, or unpack it and give what comes out"
        )
    return (
        f"not a zip or tar file, or a part of one ({size}).\n"
        "Download it again; a saved log-in page is a common cause"
    )


def _path_of(name: str, archive: Path, is_file: bool) -> PurePosixPath:
    """Where the member called `name` goes. Raises: DataError when that is unsafe."""
    path = PurePosixPath(name.replace("\\", "/"))
    trouble = "" if is_file else "a link or a device"
    if not path.parts or path.is_absolute() or ".." in path.parts or _DRIVE.match(path.parts[0]):
        trouble = "a path out of the folder"
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
        # `is_dir` fails for a damaged, empty name.
        infos = [info for info in opened.infolist() if not info.filename.endswith("/")]
        members = [_zip_member(opened, info, path) for info in infos]
        yield Archive(members, lambda: None)  # every member has a checksum of its own


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Member:
    # The upper half holds the Unix mode; archives from other systems leave it 0.
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
    """Everything but folders. Raises: tarfile.TarError for what no program would write."""
    for number, info in enumerate(opened):
        if info.size < 0 or number >= LARGEST_NUMBER:
            raise tarfile.ReadError(f"member {number} makes no sense")
        if not info.isdir():
            yield info


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo, archive: Path) -> Member:
    path = _path_of(info.name, archive, info.isreg())
    return Member(path, info.size, False, lambda: cast("IO[bytes]", opened.extractfile(info)))


def _check_closed(opened: tarfile.TarFile, stream: "_Stream") -> None:
    """The list of members must end with a block of zeros; `tarfile` takes any end for one."""
    stream.seek(opened.offset)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError(f"it ends too early or is damaged at byte {opened.offset:,}")


def _read_to_end(stream: "_Stream") -> None:
    # The checksum of compressed data stands at its end, and is compared there.
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
    """The bytes of a tar file, no more than `limit` of them and not too many at once.

    Whatever is wrong with them is a `tarfile.ReadError`.
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
        """Go to a place that is counted from the start."""
        if whence != io.SEEK_SET or offset < 0:
            raise tarfile.ReadError("a member at an impossible place")
        self._check(offset)
        with _explained():
            return self._file.seek(offset)

    def tell(self) -> int:
        """How many bytes were read or skipped."""
        return self._file.tell()

    def _check(self, place: int) -> None:
        if place > self._limit:
            raise tarfile.ReadError(f"it grows beyond {self._limit:,} bytes, as no images do")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Make a `tarfile.ReadError` of what the decompressors raise."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise tarfile.ReadError(str(error) or "it ends too early") from error
    except OSError as error:
        if error.errno is not None:  # of the system; decompressors give none
            raise
        raise tarfile.ReadError(str(error)) from error
