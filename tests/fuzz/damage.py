"""Ways to damage a file. Each takes the random source and the intact bytes, and returns new bytes.

A `Damage` says whether the result can still be a valid file of its kind. What cannot must be
refused, made again or named in a warning; a command that takes it as if nothing were wrong fails.
"""

import dataclasses
import io
import json
import math
import os
import socket
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Place = tuple[Any, ...]  # keys and positions that lead to a value of a document


@dataclass(frozen=True)
class Damage:
    """What was done to a file.

    Attributes:
        what: in words, with the place and the new value.
        content: the bytes afterwards.
        may_be_valid: whether the result can still be a valid file of its kind.
    """

    what: str
    content: bytes
    may_be_valid: bool


Damager = Callable[[Random, bytes], Damage]

# Values that are wrong wherever a number is due, or wherever text is.
NOT_A_NUMBER: tuple[Any, ...] = ("x", "", "<script>alert(1)</script>", [], {}, [1], math.nan)
NOT_TEXT: tuple[Any, ...] = (17, -1.5, True, [], {"a": 1}, ["a"], math.inf)
NOT_A_LIST: tuple[Any, ...] = ("x", 3, True, {"0": 1})
NOT_A_MAPPING: tuple[Any, ...] = ("x", 3, False, [1, 2])
STRANGE_TEXT = ("<script>alert(1)</script>", "../../escape", "\u202eabc", "a" * 70_000, "\x00", "")


# Bytes of any file ------------------------------------------------------------------------------


def emptied(random: Random, content: bytes) -> Damage:
    """No bytes are left."""
    return Damage("emptied", b"", may_be_valid=False)


def cut(random: Random, content: bytes) -> Damage:
    """The end is missing, as after a full disk."""
    size = random.randrange(1, max(len(content) - 2, 2))
    return Damage(f"cut to {size} of {len(content)} bytes", content[:size], may_be_valid=False)


def flipped_bit(random: Random, content: bytes) -> Damage:
    """One bit differs. In a text this may give another valid text."""
    place, bit = random.randrange(len(content)), random.randrange(8)
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return Damage(f"bit {bit} of byte {place} flipped", bytes(changed), may_be_valid=True)


def zeroed(random: Random, content: bytes) -> Damage:
    """A block of zeros, as a file system leaves it after a crash."""
    start = random.randrange(len(content))
    stop = min(len(content), start + random.choice((16, 512, 4096)))
    changed = content[:start] + bytes(stop - start) + content[stop:]
    return Damage(f"bytes {start} to {stop} zeroed", changed, may_be_valid=changed == content)


def noise(random: Random, content: bytes) -> Damage:
    """Nothing of the file is left."""
    size = random.choice((1, 100, 5000))
    return Damage(f"{size} random bytes", random.randbytes(size), may_be_valid=False)


def inserted_bytes(random: Random, content: bytes) -> Damage:
    """Bytes that are not UTF-8 in the middle."""
    place = random.randrange(len(content) + 1)
    changed = content[:place] + b"\xff\xfe\x00" + content[place:]
    return Damage(f"bytes ff fe 00 inserted at {place}", changed, may_be_valid=False)


ANY_FILE: tuple[Damager, ...] = (emptied, cut, zeroed, noise)


# Texts ------------------------------------------------------------------------------------------


def utf_16(random: Random, content: bytes) -> Damage:
    """The same text as a Windows editor may save it."""
    text = content.decode("utf-8", "replace")
    return Damage("saved as UTF-16", text.encode("utf-16"), may_be_valid=False)


def marked_merge(random: Random, content: bytes) -> Damage:
    """The marks of a merge that was not finished."""
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    place = random.randrange(len(lines) + 1)
    lines.insert(place, "<<<<<<< HEAD\n=======\n>>>>>>> other\n")
    return Damage(f"merge marks at line {place + 1}", "".join(lines).encode(), may_be_valid=False)


def lost_line(random: Random, content: bytes) -> Damage:
    """A line is missing. The rest can be a valid file."""
    lines = content.splitlines(keepends=True)
    place = random.randrange(len(lines))
    del lines[place]
    return Damage(f"line {place + 1} removed", b"".join(lines), may_be_valid=True)


TEXTS: tuple[Damager, ...] = (utf_16, marked_merge, lost_line, inserted_bytes)


def perhaps(damager: Damager) -> Damager:
    """The same damage to a file that may still be valid."""

    def damage(random: Random, content: bytes) -> Damage:
        return dataclasses.replace(damager(random, content), may_be_valid=True)

    return damage


# A person may have copied a table without its end.
PRINTED: tuple[Damager, ...] = (emptied, perhaps(cut), zeroed, noise, *TEXTS)


# Documents of keys and values -------------------------------------------------------------------


def _places(document: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    yield path, document
    children: Any = ()
    if isinstance(document, dict):
        children = document.items()
    elif isinstance(document, list):
        children = enumerate(document)
    for key, value in children:
        yield from _places(value, (*path, key))


def _replaced(document: Any, path: Place, value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], value)
    return copy


def _removed(document: Any, path: Place) -> Any:
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _removed(copy[path[0]], path[1:])
    return copy


def _wrong(random: Random, value: Any) -> tuple[Any, bool]:
    """A value of another kind, and whether it can still be valid."""
    if isinstance(value, bool) or value is None:
        return random.choice((17.5, [1], {"a": 1})), True
    if isinstance(value, int | float):
        wrong = random.choice((*NOT_A_NUMBER, -1e300, 10**400))
        return wrong, False
    if isinstance(value, str):
        is_text = random.random() < 0.4
        return random.choice(STRANGE_TEXT if is_text else NOT_TEXT), is_text
    return random.choice(NOT_A_LIST if isinstance(value, list) else NOT_A_MAPPING), False


def _shown(path: Place) -> str:
    return ".".join(map(str, path)) or "the document"


def damaged_document(random: Random, document: Any, write: Callable[[Any], bytes]) -> Damage:
    """One value of a document replaced by one of another kind, or removed."""
    path, value = random.choice(list(_places(document)))
    if path and random.random() < 0.2:
        return Damage(f"{_shown(path)} removed", write(_removed(document, path)), may_be_valid=True)
    wrong, valid = _wrong(random, value)
    shown = repr(wrong) if len(repr(wrong)) < 60 else f"{repr(wrong)[:40]}… ({len(repr(wrong))})"
    what = f"{_shown(path)}: {value!r:.40} became {shown}"
    return Damage(what, write(_replaced(document, path, wrong)), may_be_valid=valid)


def json_value(random: Random, content: bytes) -> Damage:
    """A value of a JSON document is of another kind, or missing."""
    return damaged_document(random, json.loads(content), lambda d: json.dumps(d).encode())


def json_nested(random: Random, content: bytes) -> Damage:
    """Brackets that exhaust the stack of a parser."""
    depth = random.choice((60, 1_000, 100_000))
    return Damage(f"{depth} brackets", b"[" * depth + b"]" * depth, may_be_valid=False)


JSON: tuple[Damager, ...] = (*ANY_FILE, *TEXTS, json_nested, *[json_value] * 12)


# YAML that people write -------------------------------------------------------------------------


def yaml_value(random: Random, content: bytes) -> Damage:
    """A value of a YAML document is of another kind, or missing."""
    import yaml

    def write(document: Any) -> bytes:
        if isinstance(document, int) and document > 10**300:
            return str(document).encode()
        return bytes(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())

    return damaged_document(random, yaml.safe_load(content), write)


def yaml_aliases(random: Random, content: bytes) -> Damage:
    """Aliases that unfold to millions of nodes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return Damage("aliases in aliases", "\n".join(lines).encode(), may_be_valid=False)


def yaml_nested(random: Random, content: bytes) -> Damage:
    """Nesting that exhausts the stack of a parser."""
    depth = random.choice((60, 1_000, 50_000))
    opening = random.choice((b"[", b"{a: "))
    return Damage(f"{depth} times {opening.decode()!r}", opening * depth, may_be_valid=False)


def yaml_digits(random: Random, content: bytes) -> Damage:
    """A number of thousands of digits, which takes long to convert."""
    number = random.choice(("0x1" + "0" * 5_000, "9" * 5_000, "1" * 100_000))
    return Damage("a number of thousands of digits", b"seed: " + number.encode(), False)


def yaml_tag(random: Random, content: bytes) -> Damage:
    """A tag that makes unsafe loaders run code."""
    return Damage("a tag of Python", b"!!python/object/apply:os.system ['touch escaped']\n", False)


def doubled_key(random: Random, content: bytes) -> Damage:
    """A top-level key appears twice."""
    keys = [line for line in content.splitlines() if line[:1].isalpha() and b":" in line]
    key = random.choice(keys).split(b":")[0]
    return Damage(f"key {key.decode()} twice", content + b"\n" + key + b": 1\n", False)


YAML: tuple[Damager, ...] = (
    *ANY_FILE,
    *TEXTS,
    yaml_aliases,
    yaml_nested,
    yaml_digits,
    yaml_tag,
    doubled_key,
    *[yaml_value] * 10,
)

# A list in them may be cut off where it is as good as before.
YAML_LISTS = tuple(perhaps(damager) if damager is cut else damager for damager in YAML)


# Tables -----------------------------------------------------------------------------------------


def csv_cell(random: Random, content: bytes) -> Damage:
    """One cell below the header is something else."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = random.randrange(1, len(rows))
    column = random.randrange(len(rows[row]))
    wrong = random.choice(("", "x", "nan", "inf", "-1e300", "1e400", '"', "<script>", "1;2"))
    what = f"line {row + 1}, column {rows[0][column]}: {rows[row][column]!r} became {wrong!r}"
    rows[row][column] = wrong
    number = rows[0][column].startswith("p_")
    return Damage(what, _joined(rows), may_be_valid=not number)


def csv_column(random: Random, content: bytes) -> Damage:
    """A column is missing, twice there, or has another name."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    column = random.randrange(len(rows[0]))
    name = rows[0][column]
    kind = random.choice(("removed", "doubled", "renamed"))
    if kind == "renamed":
        rows[0][column] = name + "_"
    elif kind == "removed":
        rows = [row[:column] + row[column + 1 :] for row in rows]
    else:
        rows = [row[: column + 1] + row[column:] for row in rows]
    return Damage(f"column {name} {kind}", _joined(rows), may_be_valid=kind == "removed")


def csv_row(random: Random, content: bytes) -> Damage:
    """A row is there twice, too short or too long."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    place = random.randrange(1, len(rows))
    kind = random.choice(("doubled", "too short", "too long"))
    if kind == "doubled":
        rows.insert(place, rows[place])
    elif kind == "too short":
        rows[place] = rows[place][:-1]
    else:
        rows[place] = [*rows[place], "1"]
    return Damage(f"line {place + 1} {kind}", _joined(rows), may_be_valid=False)


def _joined(rows: list[list[str]]) -> bytes:
    return ("\n".join(",".join(row) for row in rows) + "\n").encode()


CSV: tuple[Damager, ...] = (*ANY_FILE, *TEXTS, *[csv_cell] * 5, *[csv_column] * 2, *[csv_row] * 2)
# Columns that nobody knows are left alone, and all but one may be missing.
HISTORY = tuple(perhaps(damager) if damager is csv_column else damager for damager in CSV)


# Arrays, images, archives -----------------------------------------------------------------------


def surely(damager: Damager) -> Damager:
    """The same damage to a file in which every bit counts."""

    def damage(random: Random, content: bytes) -> Damage:
        done = damager(random, content)
        return Damage(done.what, done.content, may_be_valid=done.content == content)

    damage.__name__ = damager.__name__
    return damage


def another_array(random: Random, content: bytes) -> Damage:
    """A correct archive of other arrays."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(random.choice((0, 3)), "float32"))
    return Damage("another array", buffer.getvalue(), may_be_valid=False)


def other_members(random: Random, content: bytes) -> Damage:
    """An archive whose members leave the folder, or unpack to more than fits."""
    buffer = io.BytesIO()
    name = random.choice(("../escaped.txt", "/tmp/escaped.txt", "a/../../escaped.txt"))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"x")
    return Damage(f"an archive of {name}", buffer.getvalue(), may_be_valid=False)


EVERY_BIT: tuple[Damager, ...] = tuple(map(surely, (*ANY_FILE, *[flipped_bit] * 4)))
ARRAYS: tuple[Damager, ...] = (*EVERY_BIT, another_array)
IMAGES: tuple[Damager, ...] = (*ANY_FILE, flipped_bit)
ARCHIVES: tuple[Damager, ...] = (*EVERY_BIT, other_members)


# What is no file --------------------------------------------------------------------------------


def put_no_file(random: Random, place: Path) -> str:
    """Put something in the place of a file that is no regular file; returns what it is."""
    if place.is_dir():
        place.rename(place.with_name(f"{place.name}.moved"))
    else:
        place.unlink(missing_ok=True)
    kind = random.choice(("folder", "FIFO", "socket", "link to itself", "/dev/zero", "broken link"))
    if kind == "folder":
        place.mkdir()
    elif kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        _bind(place)
    else:
        target = {"link to itself": place, "/dev/zero": Path("/dev/zero")}
        place.symlink_to(target.get(kind, place.with_name("nowhere")))
    return kind


def _bind(place: Path) -> None:
    """A socket with a long path is bound by its name in its folder."""
    here = Path.cwd()
    os.chdir(place.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(place.name)
    finally:
        os.chdir(here)


def put_sparse(place: Path, size: int) -> None:
    """A file of `size` zeros that takes no space."""
    with place.open("wb") as file:
        file.truncate(size)


def seeds(arguments: Sequence[str]) -> list[str]:
    """The seeds of inputs: `1 300` means 1-0 to 1-299, and `1-7 1-9` these two."""
    if "-" in arguments[0]:
        return list(arguments)
    return [f"{arguments[0]}-{number}" for number in range(int(arguments[1]))]


def is_small(path: Path) -> bool:
    """Whether a path is a regular file that can be read as a whole; links are not followed."""
    found = path.lstat() if os.path.lexists(path) else None
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size < 1 << 28
