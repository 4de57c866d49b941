import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from messages import says

from fer_bench.errors import DataError
from fer_bench.storage import cache
from fer_bench.storage.cache import (
    cache_root,
    cached,
    clear,
    entries,
    filling,
    known_kinds,
    make_room,
    remove,
    unfinished,
)

# Arguments: the word to write, the file that says that making began, the file to wait for, and
# what the file system says of locks (0: it has them).
MAKER = """
import fcntl, sys, time
from pathlib import Path
from fer_bench.storage.cache import cached

word, begun, go_on, trouble = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

def no_locks(*_):
    raise OSError(trouble, "No locks")

if trouble:
    fcntl.flock = no_locks

def make(folder):
    (folder / "first").write_text(word)
    begun.touch()
    while not go_on.exists():
        time.sleep(0.01)
    (folder / "second").write_text(word)

print(cached("kind", "key", make))
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def writes(word: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "file").write_text(word)

    return make


def never(_: Path) -> None:
    raise AssertionError("made again")


def contents(folder: Path) -> dict[str, str]:
    """What the maker of an entry left in it."""
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert json.loads(files.pop("entry.json"))
    return files


def visible(folder: Path) -> list[Path]:
    """Everything in a folder, in order of names, but what killed processes left."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def started_maker(tmp_path: Path, word: str, trouble: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-c", MAKER, word),
            *(tmp_path / f"begun-{word}", tmp_path / "go-on", str(trouble)),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def maker(tmp_path: Path, word: str, trouble: int = 0) -> "subprocess.Popen[str]":
    """Another process that makes the entry; it has begun to when this returns."""
    begun = tmp_path / f"begun-{word}"
    process = started_maker(tmp_path, word, trouble)
    deadline = time.monotonic() + 600
    while not begun.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_an_entry_is_made_once(root: Path) -> None:
    entry = cached("kind", "key", writes("word"))
    assert entry.parent == root / "kind"
    assert contents(entry) == {"file": "word"}
    assert cached("kind", "key", never) == entry


def test_another_key_or_kind_is_another_entry() -> None:
    entries = [cached(kind, key, writes(f"{kind} {key}")) for kind, key in ("aa", "ab", "ba")]
    assert [contents(entry)["file"] for entry in entries] == ["a a", "a b", "b a"]


@pytest.mark.parametrize("key", ["", "a/b", "..", "ü" * 300, "x\ny\0"])
def test_any_text_is_a_key(root: Path, key: str) -> None:
    assert cached("kind", key, writes("word")).parent == root / "kind"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_nothing(root: Path, error: type[BaseException]) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise error

    with pytest.raises(error):
        cached("kind", "key", fail)
    assert list((root / "kind").iterdir()) == []
    assert contents(cached("kind", "key", writes("word"))) == {"file": "word"}


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def put(kind: str, key: str, size: int, used: float) -> Path:
    """An entry with a file of `size` bytes, last used at `used` seconds."""

    def make(folder: Path) -> None:
        (folder / "values").write_bytes(b"x" * size)

    path = cached(kind, key, make)
    os.utime(path, (used, used))
    return path


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*"))


# Two processes ---------------------------------------------------------------------------------


def test_a_killed_process_leaves_no_entry(tmp_path: Path, root: Path) -> None:
    kill(maker(tmp_path, "killed"))
    assert visible(root / "kind") == []
    assert entries() == []
    assert contents(cached("kind", "key", writes("word"))) == {"file": "word"}


@pytest.mark.parametrize("key", ["key", "another key"])
def test_what_a_killed_process_left_is_removed_at_once(
    tmp_path: Path, root: Path, key: str
) -> None:
    kill(maker(tmp_path, "killed"))
    (left,) = root.glob("kind/.making-*")
    assert (left / "first").exists()
    assert list((root / "kind").iterdir()) == [left]
    entry = cached("kind", key, writes("word"))
    assert list((root / "kind").iterdir()) == [entry]


def test_what_a_living_process_makes_is_left_alone(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "word")
    (making,) = unfinished()
    assert (making / "first").exists()
    cached("kind", "another key", writes("word"))
    assert [entry.kind for entry in clear()] == ["kind"]
    assert unfinished() == [making]
    (tmp_path / "go-on").touch()
    process.communicate(timeout=600)
    assert process.returncode == 0
    (entry,) = entries()
    assert contents(entry.path) == {"first": "word", "second": "word"}
    assert unfinished() == []


def test_another_process_is_waited_for(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "other")
    waits = []

    def on_wait() -> None:
        waits.append(visible(root / "kind"))
        (tmp_path / "go-on").touch()

    with filling("kind", "key", on_wait=on_wait) as entry:
        assert entry.fresh is None
        assert contents(entry.path) == {"first": "other", "second": "other"}
    assert process.communicate(timeout=600)[0].strip() == str(entry.path)
    assert waits == [[]]


def test_who_waits_for_a_process_that_is_killed_makes_the_entry(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "killed")
    with filling("kind", "key", on_wait=lambda: kill(process)) as entry:
        assert entry.fresh is not None
        assert not any(entry.fresh.iterdir())
        (entry.fresh / "file").write_text("word")
    assert list((root / "kind").iterdir()) == [entry.path]
    assert contents(entry.path) == {"file": "word"}


def test_of_many_at_once_one_makes_the_entry(root: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.05)
        (folder / "file").write_text("word")

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: cached("kind", "key", make), range(8)))
    assert len(made) == 1
    assert contents(found.pop()) == {"file": "word"}
    assert found == set()
    assert list((root / ".locks").iterdir()) == []


def test_who_waits_makes_the_entry_when_the_first_fails() -> None:
    begun, waiting = threading.Event(), threading.Event()

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        begun.set()
        assert waiting.wait(60)
        raise ValueError

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(cached, "kind", "key", fail)
        assert begun.wait(60)
        with filling("kind", "key", on_wait=waiting.set) as entry:
            assert entry.fresh
            (entry.fresh / "file").write_text("second")
        assert isinstance(first.exception(60), ValueError)
    assert contents(entry.path) == {"file": "second"}


def test_a_third_waits_for_the_second_when_the_first_fails() -> None:
    second_waits, second_makes, third_waits = (threading.Event() for _ in range(3))

    def make(folder: Path) -> None:
        second_makes.set()
        assert third_waits.wait(60)
        (folder / "file").write_text("second")

    def be_second() -> None:
        with filling("kind", "key", on_wait=second_waits.set) as entry:
            assert entry.fresh
            make(entry.fresh)

    def be_first(_: Path) -> None:
        threads.submit(be_second)
        assert second_waits.wait(60)
        raise ValueError

    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(ValueError):  # noqa: PT011 - it is our own
            cached("kind", "key", be_first)
        assert second_makes.wait(60)
        with filling("kind", "key", on_wait=third_waits.set) as entry:
            third_waits.set()  # lest the second wait for ever when the third did not
            assert entry.fresh is None
    assert contents(entry.path) == {"file": "second"}


def test_those_that_fail_try_one_after_the_other() -> None:
    at_once, most, waits = 0, 0, []

    def fail(number: int) -> None:
        nonlocal at_once, most
        with filling("kind", "key", on_wait=lambda: waits.append(number)):
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.02)
            at_once -= 1
            raise ValueError

    with ThreadPoolExecutor(8) as threads:
        tries = [threads.submit(fail, number) for number in range(8)]
        assert all(isinstance(each.exception(60), ValueError) for each in tries)
    assert most == 1
    assert len(waits) == len(set(waits))
    assert len(waits) >= 4


def test_different_entries_are_made_at_the_same_time(root: Path) -> None:
    with filling("kind", "a") as first, filling("kind", "b") as second:
        assert first.fresh
        assert second.fresh
        assert visible(root / "kind") == []
    assert visible(root / "kind") == sorted([first.path, second.path])


@pytest.mark.parametrize("trouble", [errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_of_two_processes_one_wins(tmp_path: Path, root: Path, trouble: int) -> None:
    processes = [maker(tmp_path, word, trouble) for word in ("one", "two")]
    (tmp_path / "go-on").touch()
    found = {process.communicate(timeout=600)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (entry,) = map(Path, found)
    first, second = contents(entry).values()
    assert first == second
    assert list((root / "kind").iterdir()) == [entry]


def test_without_locks_an_entry_made_meanwhile_is_taken(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "slow", errno.ENOLCK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        entry = cached("kind", "key", writes("fast"))
    (tmp_path / "go-on").touch()
    assert process.communicate(timeout=600)[0].strip() == str(entry)
    assert contents(entry) == {"file": "fast"}


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_what_is_left_is_removed_after_a_day(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    kill(maker(tmp_path, "killed"))
    (left,) = unfinished()
    cached("kind", "key", writes("word"))
    assert unfinished() == [left]
    os.utime(left, (0, 0))
    cached("kind", "another key", writes("word"))
    assert unfinished() == []


# One process -----------------------------------------------------------------------------------


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    assert cache_root() == root
    monkeypatch.delenv("FER_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "fer-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "fer-bench"


def unwritable_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home that is a file, so that root cannot write it either."""
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("FER_BENCH_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_home_that_cannot_be_written_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unwritable_home(monkeypatch, tmp_path)
    expected = tmp_path / f"fer-bench-{os.geteuid()}" / "cache"
    assert [cache_root(), cache_root()] == [expected, expected]
    (told,) = caplog.messages
    says(told, tmp_path / "home", expected, "FER_BENCH_CACHE")
    assert cached("kind", "key", writes("word")).is_relative_to(expected)


def test_without_any_folder_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unwritable_home(monkeypatch, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "home"))
    with pytest.raises(DataError) as refused:
        cache_root()
    says(refused.value, tmp_path / "home", "FER_BENCH_CACHE")


def test_a_folder_above_the_cache_that_cannot_be_written_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("")
    root = tmp_path / "home" / "deep" / "cache"
    monkeypatch.setenv("FER_BENCH_CACHE", str(root))
    with pytest.raises(DataError) as refused:
        cached("kind", "key", writes("word"))
    says(refused.value, root, "FER_BENCH_CACHE")


def test_what_older_versions_left_is_removed_after_a_day(root: Path) -> None:
    old, young = root / "kind" / ".making-old", root / "kind" / ".making-young"
    for leftover in (old, young):
        (leftover / "inner").mkdir(parents=True)
    os.utime(old, (0, 0))
    cached("kind", "key", writes("word"))
    assert not old.exists()
    assert young.exists()


def test_others_may_read_an_entry(root: Path) -> None:
    assert cached("kind", "key", writes("word")).stat().st_mode & 0o777 == 0o755


def test_a_cache_that_cannot_be_written_is_named(root: Path) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be written[\s\S]*FER_BENCH_CACHE"):
        cached("kind", "key", writes("word"))


def test_what_was_written_is_on_the_disk_before_it_is_an_entry(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    steps = []
    fsync, rename = os.fsync, Path.rename

    def logged_fsync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def logged_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    def make(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").touch()

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "rename", logged_rename)
    cached("kind", "key", make)
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    assert {"inner", "file", "entry.json"} < set(before)
    assert after == ["kind"]


def test_of_very_many_files_all_are_kept() -> None:
    def make(folder: Path) -> None:
        for number in range(150):
            (folder / str(number)).write_text(str(number))

    made = contents(cached("kind", "key", make))
    assert made == {str(number): str(number) for number in range(150)}


def test_an_entry_says_what_it_is() -> None:
    with filling("kind", "the key", {"images": 12}) as made:
        assert made.fresh
    about = json.loads((made.path / "entry.json").read_text())
    assert about.pop("made").startswith("20")
    assert about == {"key": "the key", "note": {"images": 12}}
    (entry,) = entries()
    assert entry.note == {"images": 12}


def test_a_hit_is_a_use() -> None:
    path = put("kind", "key", 10, used=1000)
    assert [entry.used for entry in entries()] == [1000]
    with filling("kind", "key") as found:
        assert (found.path, found.fresh) == (path, None)
    assert abs(entries()[0].used - time.time()) < 60


def test_a_cache_that_is_read_only_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("kind", "key", 10, used=1000)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(os, "open", refused)
    assert cached("kind", "key", never) == path


def test_what_a_user_of_a_found_entry_raises_passes_through() -> None:
    path = put("kind", "key", 10, used=1000)
    with pytest.raises(FileNotFoundError), filling("kind", "key"):
        (path / "gone").read_text()


def test_a_full_disk_is_named(root: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "values.bin"))

    with pytest.raises(DataError, match="No space left on device"):
        cached("kind", "key", fail)
    assert list((root / "kind").iterdir()) == []


# What is there ---------------------------------------------------------------------------------


def test_an_empty_cache_has_no_entries(root: Path) -> None:
    assert entries() == clear() == make_room(1, 1) == []
    assert unfinished() == []
    assert not root.exists()
    assert known_kinds() == ["images", "trunk"]


def test_entries_are_listed_by_last_use() -> None:
    new = put("images", "a", 100, used=3000)
    old = put("trunk", "b", 200, used=1000)
    middle = put("twins", "c", 300, used=2000)
    assert [entry.path for entry in entries()] == [old, middle, new]
    assert [entry.kind for entry in entries()] == ["trunk", "twins", "images"]
    assert [entry.bytes for entry in entries()] == [size_of(path) for path in (old, middle, new)]
    assert [entry.path for entry in entries(["images", "twins"])] == [middle, new]
    assert known_kinds() == ["images", "trunk", "twins"]


@pytest.mark.parametrize("content", [None, "", "[]", '{"note": 3}', "{}"])
def test_an_entry_of_an_older_version_is_valid(content: str | None) -> None:
    path = cached("kind", "key", writes("word"))
    (path / "entry.json").unlink()
    if content is not None:
        (path / "entry.json").write_text(content)
    assert cached("kind", "key", never) == path
    assert [(entry.path, entry.note) for entry in entries()] == [(path, {})]


def test_only_what_this_program_made_is_an_entry(root: Path) -> None:
    for name in ("Documents", ".making-x", ".removing-x", "0" * 31):
        (root / "home" / name).mkdir(parents=True)
    (root / "file").touch()
    assert entries() == clear(["home"]) == []
    assert (root / "home" / "Documents").exists()


def test_removing(root: Path) -> None:
    path = cached("kind", "key", writes("word"))
    assert remove(path)
    assert list((root / "kind").iterdir()) == []
    assert not remove(path)
    assert not remove(root / "no such kind" / path.name)
    assert contents(cached("kind", "key", writes("again"))) == {"file": "again"}


def test_a_removed_entry_vanishes_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached("kind", "key", writes("word"))
    seen = []
    rmtree = shutil.rmtree

    def logged(folder: Path, **options: Any) -> None:
        seen.append((path.exists(), folder.name.startswith(".")))
        rmtree(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", logged)
    remove(path)
    assert seen == [(False, True)]


def test_what_was_half_removed_is_removed(root: Path) -> None:
    (root / "kind" / ".removing-x" / "inner").mkdir(parents=True)
    cached("kind", "key", writes("word"))
    assert visible(root / "kind") == list((root / "kind").iterdir())


def test_clearing_tells_what_was_removed(root: Path) -> None:
    put("images", "a", 1, used=2)
    kept = put("twins", "b", 1, used=1)
    before = entries()
    assert clear(["images"]) == [entry for entry in before if entry.kind == "images"]
    assert [entry.path for entry in entries()] == [kept]
    assert [entry.path for entry in clear()] == [kept]
    assert entries() == []


def test_clearing_removes_what_a_killed_process_left(tmp_path: Path, root: Path) -> None:
    kill(maker(tmp_path, "killed"))
    assert clear() == []
    assert list((root / "kind").iterdir()) == []


# Room ------------------------------------------------------------------------------------------


@pytest.fixture
def stored() -> list[Path]:
    """Three entries of arrays that are equally large, last used longest ago first."""
    paths = [put(kind, "k", 1000, used) for used, kind in enumerate(("trunk", "images"), start=1)]
    return [*paths, put("trunk", "l", 1000, used=3)]


def one(stored: list[Path]) -> int:
    """The size of an entry; that of all is the same but for the time in `entry.json`."""
    sizes = {size_of(path) for path in stored}
    assert len(sizes) == 1
    return sizes.pop()


def left(stored: list[Path]) -> list[bool]:
    return [path.exists() for path in stored]


@pytest.mark.parametrize(
    ("needed", "limit", "expected"),
    [
        (0, 3.0, [True, True, True]),
        (1, 4.0, [True, True, True]),
        (1, 3.0, [False, True, True]),
        (1, 2.0, [False, False, True]),
        (1, 1.0, [False, False, False]),
        (0, 0.0, [False, False, False]),
        (0, 2.9, [False, True, True]),
        (2, 1.0, [True, True, True]),  # in vain
    ],
)
def test_room_is_made_of_what_was_used_longest_ago(
    stored: list[Path], needed: int, limit: float, expected: list[bool]
) -> None:
    size = one(stored)
    removed = make_room(needed * size, int(limit * size))
    assert left(stored) == expected
    assert [entry.path for entry in removed] == [path for path in stored if not path.exists()]


def test_a_hit_keeps_an_entry(stored: list[Path]) -> None:
    cached("trunk", "k", never)
    make_room(1, 3 * one(stored))
    assert left(stored) == [True, False, True]


def test_what_is_to_be_kept_is_kept(stored: list[Path]) -> None:
    size = one(stored)
    make_room(0, size, keep=stored[:1])
    assert left(stored) == [True, False, False]
    make_room(1, size, keep=stored[:1])
    assert left(stored) == [True, False, False]


def test_only_arrays_make_room(stored: list[Path]) -> None:
    other = put("twins", "k", 5000, used=0)
    make_room(0, 3 * one(stored))
    assert left(stored) == [True, True, True]
    make_room(0, 0)
    assert left(stored) == [False, False, False]
    assert other.exists()


def test_what_is_used_while_room_is_made_is_kept(
    stored: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = entries(cache.ARRAYS)
    monkeypatch.setattr(cache, "entries", lambda _: listed)
    cached("trunk", "k", never)
    make_room(0, 2 * one(stored))
    assert left(stored) == [True, False, True]


def test_two_that_make_room_remove_no_more_than_one(
    stored: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, limit = entries(cache.ARRAYS), 2 * one(stored)
    monkeypatch.setattr(cache, "entries", lambda _: listed)  # both looked at the same time
    assert [entry.path for entry in make_room(0, limit)] == stored[:1]
    assert make_room(0, limit) == []
    assert left(stored) == [False, True, True]


def test_many_that_make_room_at_once() -> None:
    paths = [put("images", f"{number:02}", 100, used=number + 1) for number in range(40)]
    limit = sum(map(size_of, paths[30:]))
    with ThreadPoolExecutor(8) as threads:
        removed = [
            of for each in threads.map(lambda _: make_room(0, limit), range(8)) for of in each
        ]
    assert sorted(entry.path for entry in removed) == sorted(paths[:30])
    assert [entry.path for entry in entries()] == paths[30:]
