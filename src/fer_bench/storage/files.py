"""Reading files that others wrote, within bounds; writing files that are complete or do not appear.

`read_bounded` and `read_json` are how a file that a user or a colleague gave is opened: a named
pipe never hangs a command, and `/dev/zero` never fills the memory.
"""

import errno
import glob
import json
import os
import re
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from fer_bench.errors import shortened
from fer_bench.storage.locks import created_locked, is_alive, remove_unlocked

# The most bytes that are read of a table, a list or a document.
MOST_BYTES = 50 * 2**20
# What common file systems allow, in bytes.
LONGEST_NAME = 255
# A document of metrics has about seven levels.
MOST_LEVELS = 32
# No number that a computer uses has as many; Python refuses to read or to show thousands.
MOST_DIGITS = 400
# A file that is being written: `.history.csv.4711.tmp` by process 4711, `.writing-model.keras` by
# the process that holds the run.
_BESIDE = re.compile(r"\.writing-.+|\..+\.(?P<process>[0-9]+)\.tmp")
# What is no file, and what it is called.
_NO_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# A text in JSON, also one that does not end: what is in it is no bracket.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# A text, or a number that is too long.
_LONG_NUMBER = re.compile(_TEXT.pattern + rb"|(?P<digits>[0-9]{%d})" % MOST_DIGITS, re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"{[]}"))

# Above this many files, flushing the whole system is faster than flushing file by file: 5,000 small
# files took 0.05 to 0.09 s instead of 0.74 s (ext4).
_FEW = 100


def write_out(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    paths = [folder, *folder.rglob("*")]
    if len(paths) > _FEW:
        os.sync()
        return
    for path in paths:
        if path.is_dir() or path.is_file():
            synchronise(path)


def synchronise(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def check_name(text: str) -> str:
    """`text`, if it may be one part of a path: it never leads out of the folder that it is put in.

    Raises: ValueError that says why not, in words that can follow the text.
    """
    if not text:
        raise ValueError("is empty")
    if text in (".", ".."):
        raise ValueError("is a folder above or beside, not a name")
    if "/" in text:
        raise ValueError("is a path, not a name")
    if "\0" in text:
        raise ValueError("holds a NUL character")
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError as error:
        raise ValueError("cannot be the name of a file") from error
    if size > LONGEST_NAME:
        raise ValueError(f"has {size:,} bytes, a name has at most {LONGEST_NAME}")
    return text


def is_name(text: str) -> bool:
    """Whether `check_name` accepts it."""
    try:
        check_name(text)
    except ValueError:
        return False
    return True


def is_there(path: Path) -> bool:
    """Whether there is anything at `path`: also a link that leads nowhere, which cannot be read."""
    return os.path.lexists(path)


def target(path: Path) -> Path:
    """Where `path` leads, absolute; unlike `resolve` also for a link that leads to itself."""
    return Path(os.path.realpath(path))


def check_readable(path: Path, most: int | None = None) -> None:
    """Check that `path` is a file of at most `most` bytes (by default 50 MiB), without opening it.

    Raises:
        OSError: it is missing, or its folder cannot be read.
        IsADirectoryError: it is a folder.
        ValueError: it is a pipe, a socket or a device, or is larger.
    """
    _check(path, path.stat(), MOST_BYTES if most is None else most)


def _check(path: Path, found: os.stat_result, most: int) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    if kind in _NO_FILES:
        raise ValueError(f"is {_NO_FILES[kind]}, not a file")
    if found.st_size > most:
        raise ValueError(f"has {found.st_size:,} bytes, at most {most:,} are read")


def read_bounded(path: Path, most: int | None = None) -> bytes:
    """The content of a file that has at most `most` bytes, by default 50 MiB.

    Raises:
        OSError: it is missing, is a folder, or cannot be read.
        ValueError: it is a pipe, a socket or a device, or is larger.
    """
    most = MOST_BYTES if most is None else most
    with open_bounded(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # a buffer of this size, not of the largest
        if len(content) > size:  # it grew, or is a file of the kernel, which has no size
            content += file.read(most + 1 - len(content))
    if len(content) > most:
        raise ValueError(f"has more than the {most:,} bytes that are read")
    return content


def open_bounded(path: Path, most: int) -> BufferedReader:
    """A file that has at most `most` bytes, opened for reading.

    Raises: OSError and ValueError, as `read_bounded`.
    """
    check_readable(path, most)
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller closes it
    try:
        _check(path, os.fstat(file.fileno()), most)
    except (OSError, ValueError):
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a pipe too, which may have taken the place of a file, without waiting for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def why_unreadable(error: OSError | ValueError) -> str:
    """What `read_bounded` raised, in words that can follow `PATH: cannot be read`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def read_json(path: Path, most: int | None = None) -> Any:
    """The value in a JSON file: strict JSON, of limited size and depth.

    Raises:
        OSError: as `read_bounded`.
        ValueError: as `read_bounded`; or it is no JSON, holds NaN or infinity, a key twice, a
            number of more than `MOST_DIGITS` or a part of a character, or is nested deeper than
            `MOST_LEVELS`.
    """
    return parse_json(read_bounded(path, most))


def parse_json(content: bytes) -> Any:
    """The value of a JSON text, see `read_json`. Raises: ValueError."""
    return _parse(content, _refuse)


def parse_json_with_nan(content: bytes) -> Any:
    """As `parse_json`, for a reader that names the key whose value is NaN. Raises: ValueError."""
    return _parse(content, float)


def _parse(content: bytes, constant: Callable[[str], Any]) -> Any:
    check_levels(content)
    try:
        value = json.loads(
            content,
            parse_constant=constant,
            parse_int=_whole,
            object_pairs_hook=_object,
        )
        if b"\\ud" in content.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be shown
    except _LongNumberError as error:
        raise ValueError(f"line {_line_of_long_number(content)}: {error}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"holds a part of a character ({error.object[error.start]!a})") from error
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    return value


class _LongNumberError(ValueError):
    """A number that Python refuses to read, with a message about its own settings."""


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _LongNumberError(f"a number of {len(digits.lstrip('-')):,} digits")
    return int(digits)


def _line_of_long_number(content: bytes) -> int:
    """The line, from 1, of the first number of too many digits that is not in a text."""
    found = next((one for one in _LONG_NUMBER.finditer(content) if one["digits"]), None)
    return content.count(b"\n", 0, found.start() if found else 0) + 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shortened(twice)} occurs twice")
    return value


def check_levels(content: bytes) -> None:
    """Check how deep the brackets of a JSON text are nested. Raises: ValueError."""
    level = 0
    for bracket in _TEXT.sub(b"", content).translate(None, _NO_BRACKETS):
        level += 1 if bracket in b"{[" else -1
        if level > MOST_LEVELS:
            raise ValueError(f"is nested more than {MOST_LEVELS} levels deep")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` so that `path` has either its old or its new content, never a part."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        remove_abandoned(left)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_beside(path, temporary, lambda beside: beside.write_bytes(data))


def remove_abandoned(path: Path) -> None:
    """Remove a file beside another one that a killed process was writing; others stay."""
    named = _BESIDE.fullmatch(path.name)
    if named and not is_alive(int(named["process"] or 0)):
        remove_unlocked(path)


def write_beside(path: Path, temporary: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill the file `temporary`, then move it to `path` in one step."""
    try:
        with created_locked(temporary) as file:
            write(temporary)
            os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write `document` as indented JSON, atomically. Raises: ValueError for NaN or infinity."""
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
