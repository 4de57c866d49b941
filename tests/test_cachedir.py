import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_bench.cachedir import cache_root, cached
from fer_bench.errors import DataError

# Arguments: the word to write, the file that says that making began, the file to wait for.
MAKER = """
import sys, time
from pathlib import Path
from fer_bench.cachedir import cached

word, begun, go_on = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

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
    return {path.name: path.read_text() for path in folder.iterdir()}


def maker(tmp_path: Path, word: str) -> "subprocess.Popen[str]":
    """Another process that makes the entry; it has begun to when this returns."""
    begun = tmp_path / f"begun-{word}"
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, word, begun, tmp_path / "go-on"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
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


def test_a_killed_process_leaves_no_entry(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "killed")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [path for path in (root / "kind").iterdir() if not path.name.startswith(".")] == []
    assert contents(cached("kind", "key", writes("word"))) == {"file": "word"}


def test_of_two_processes_at_once_one_wins(tmp_path: Path, root: Path) -> None:
    processes = [maker(tmp_path, word) for word in ("one", "two")]
    (tmp_path / "go-on").touch()
    entries = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (entry,) = map(Path, entries)
    first, second = contents(entry).values()
    assert first == second
    assert list((root / "kind").iterdir()) == [entry]


def test_an_entry_made_meanwhile_is_taken(tmp_path: Path, root: Path) -> None:
    process = maker(tmp_path, "slow")
    entry = cached("kind", "key", writes("fast"))
    (tmp_path / "go-on").touch()
    assert process.communicate(timeout=60)[0].strip() == str(entry)
    assert contents(entry) == {"file": "fast"}


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> None:
    assert cache_root() == root
    monkeypatch.delenv("FER_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "fer-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "fer-bench"


def test_what_a_killed_process_left_is_removed_after_a_day(root: Path) -> None:
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
