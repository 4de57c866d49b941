"""Opening what others wrote: only files, only as much as is bounded, only JSON of limited depth."""

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.storage.files import (
    MOST_LEVELS,
    check_readable,
    parse_json,
    read_bounded,
    read_json,
    why_unreadable,
)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(_pipe, "a named pipe"), (_folder, "a folder"), (_device, "a device"), (_loop, "symbolic")],
)
def test_what_is_no_file_is_named_and_never_opened(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    """A named pipe without a writer hung the command, `/dev/zero` filled the memory."""
    path = tmp_path / "x.csv"
    make(path)
    for read in (read_bounded, check_readable, read_json):
        with pytest.raises((OSError, ValueError)) as refused:
            read(path)
        assert isinstance(refused.value, OSError | ValueError)
        says(why_unreadable(refused.value), kind)


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket; its path is relative, because the path of a socket must be short."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")
        yield Path("s")


def test_a_socket_is_no_file(listening: Path) -> None:
    with pytest.raises(ValueError, match="a socket"):
        read_bounded(listening)


def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = tmp_path / "x", tmp_path / "file"
    file.write_text("x")
    os.mkfifo(path)
    before = file.stat()
    monkeypatch.setattr(Path, "stat", lambda _: before)
    with pytest.raises(ValueError, match="a named pipe"):
        read_bounded(path)


def test_only_as_much_as_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(10))
    assert read_bounded(path, 10) == bytes(10)
    with pytest.raises(ValueError, match="10 bytes"):
        read_bounded(path, 9)


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        read_bounded(path)


def test_a_file_without_a_size_is_bounded_too() -> None:
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("there is no /proc")
    assert stat.S_ISREG(path.stat().st_mode)
    assert path.stat().st_size == 0
    assert read_bounded(path)
    with pytest.raises(ValueError, match="more than"):
        read_bounded(path, 10)


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 50_000, "levels"),
        ('{"a":' * 50_000, "levels"),
        ('"\\"' + "[" * 50_000, "JSON"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "Infinity"),
        ("1" * 100_000, "digits"),
        ("", "JSON"),
        ("\x00", "JSON"),
        ('["a"', "JSON"),
    ],
)
def test_what_is_no_strict_json_of_limited_depth(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text.encode())


def test_not_utf_8() -> None:
    with pytest.raises(ValueError, match="JSON"):
        parse_json(b'["\xff"]')


@given(
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='a[]{}"\\\n'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[]{}"\\'), inner),
    )
)
def test_brackets_in_texts_are_no_levels(document: object) -> None:
    assert parse_json(json.dumps(document).encode()) == document


def test_the_deepest_that_is_read() -> None:
    nested = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert parse_json(nested.encode())
    with pytest.raises(ValueError, match="levels"):
        parse_json(f"[{nested}]".encode())


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{\n"a": "' + "1" * 5000 + '",\n"b": [-' + "1" * 5000 + "]}", ("line 3", "5,000")),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', ("'b'", "twice")),
        (r'{"a": "\ud800"}', (r"\ud800",)),
        ('{"a": 1}}', ("Extra data",)),
    ],
    ids=["digits", "twice", "surrogate", "garbage"],
)
def test_json_that_would_be_misread_is_named(content: str, parts: tuple[str, ...]) -> None:
    """Python's own message named `sys.set_int_max_str_digits`; a badly merged key was taken."""
    with pytest.raises(ValueError, match=r".") as refused:
        parse_json(content.encode())
    says(refused.value, *parts)
    assert "sys." not in str(refused.value)


def test_pairs_of_surrogates_and_digits_in_texts_are_read() -> None:
    assert parse_json(rb'{"a": "\ud83d\ude00"}') == {"a": "\N{GRINNING FACE}"}
    assert parse_json(b'"' + b"1" * 5000 + b'"') == "1" * 5000
