"""Arrays that are kept: found again, made once, and never larger altogether than allowed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fer_bench.storage import array_cache, cache
from fer_bench.storage.array_cache import Store, Wanted
from fer_bench.storage.array_file import VALUES

VALUES_OF = {"a": np.arange(12, dtype=np.float32).reshape(4, 3)}
BYTES = 4 * 3 * 4


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Gives an array in blocks of two rows, and counts how often."""

    def __init__(self, factor: float = 1.0) -> None:
        self.calls, self.values = 0, factor * VALUES_OF["a"]

    def __call__(self) -> Iterator[Any]:
        self.calls += 1
        yield self.values[:2].astype(np.float32)
        yield self.values[2:].astype(np.float32)


def wanted(key: str, kind: str = "trunk") -> Wanted:
    return Wanted(kind, key, (4, 3), "float32", {"about": key})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(said: list[str]) -> Store:
    return Store(10**6, said.append)


def test_what_is_kept_is_made_once_and_found_again(store: Store, said: list[str]) -> None:
    make = Maker()
    for _ in range(3):
        array = store.keep(wanted("a"), make)
        np.testing.assert_array_equal(array.memmap(), make.values)
        assert array.path.is_file()
    assert make.calls == 1
    assert said == []


def test_another_key_or_kind_is_another_array(store: Store) -> None:
    makers = [Maker(factor) for factor in (1, 2, 3)]
    for make, want in zip(makers, (wanted("a"), wanted("b"), wanted("a", "images")), strict=True):
        np.testing.assert_array_equal(store.keep(want, make).memmap(), make.values)
    assert cache.entries()[0].note == {"about": "a"}


@pytest.mark.parametrize("damage", ["one byte", "cut short", "gone", "header"])
def test_what_is_damaged_is_made_again_with_a_warning(
    damage: str, store: Store, said: list[str]
) -> None:
    make = Maker()
    path = store.keep(wanted("a"), make).path
    whole = path.read_bytes()
    match damage:
        case "one byte":
            path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        case "cut short":
            path.write_bytes(whole[:-1])
        case "gone":
            path.unlink()
        case "header":
            next(path.parent.glob("array.json")).write_text("{}")
    np.testing.assert_array_equal(store.keep(wanted("a"), make).memmap(), make.values)
    assert make.calls == 2
    (line,) = said
    assert line.startswith("warning: a cached array is damaged and is made again: ")
    assert str(path.parent) in line


def test_what_is_too_large_is_not_made_and_throws_nothing_out(said: list[str]) -> None:
    kept = Store(10_000, said.append).keep(wanted("a"), Maker())
    make = Maker()
    large = Wanted("trunk", "large", (4_000_000, 3), "float32", {})
    assert large.bytes == 48_000_000
    assert Store(10_000, said.append).keep(large, make) is None
    assert make.calls == 0
    assert Store(0, said.append).keep(wanted("b"), make) is None
    assert kept.path.is_file()


def test_nothing_is_left_of_what_was_not_made() -> None:
    assert Store(0, print).keep(wanted("a"), Maker()) is None
    assert cache.entries() == []
    assert cache.unfinished() == []


def test_those_used_longest_ago_make_room_but_never_those_beside(said: list[str]) -> None:
    large = Store(10**6, said.append)
    kept = {}
    for age, key in enumerate(("oldest", "second", "latest")):
        kept[key] = large.keep(wanted(key), Maker())
        os.utime(kept[key].path.parent, (1000 + age, 1000 + age))
    (size,) = {entry.bytes for entry in cache.entries()}
    # Room for all three but no fourth: one has to go.
    full = Store(3 * size + BYTES // 2, said.append)
    assert full.keep(wanted("newest"), Maker(), [kept["oldest"]]) is not None
    there = {key for key, array in kept.items() if array.path.is_file()}
    assert there == {"oldest", "latest"}


def test_the_disk_is_never_filled(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    make = Maker()
    free = SimpleNamespace(free=array_cache.RESERVE + BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert store.keep(wanted("a"), make) is None
    free.free += 1
    assert store.keep(wanted("a"), make) is not None


def test_bfloat16_takes_two_bytes_a_number() -> None:
    assert Wanted("trunk", "a", (10, 4), "bfloat16", {}).bytes == 80
    assert Wanted("images", "a", (10, 4), "uint8", {}).bytes == 40


def test_what_making_raises_passes_and_nothing_is_kept(store: Store) -> None:
    def fail() -> Iterator[Any]:
        yield VALUES_OF["a"][:2]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.keep(wanted("a"), fail)
    assert cache.entries() == []
    assert store.keep(wanted("a"), Maker()) is not None


# Two processes -----------------------------------------------------------------------------------

KEEPING = """
import sys, time
import numpy as np
from pathlib import Path
from fer_bench.storage.array_cache import Store, Wanted

folder, name = Path(sys.argv[1]), sys.argv[2]

def blocks():
    (folder / f"began-{name}").touch()
    yield np.zeros((2, 3), np.float32)
    for _ in range(600):
        if (folder / "go").exists():
            break
        time.sleep(0.05)
    yield np.ones((2, 3), np.float32)

store = Store(10**6, lambda text: (folder / f"said-{name}").write_text(text))
array = store.keep(Wanted("trunk", "a", (4, 3), "float32", {}), blocks)
print(array.memmap().sum())
"""


def keep_in_a_process(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KEEPING, str(folder), name], stdout=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path.name} did not come")


def test_of_two_processes_one_computes_and_both_have_it(tmp_path: Path) -> None:
    first = keep_in_a_process(tmp_path, "first")
    wait_for(tmp_path / "began-first")
    second = keep_in_a_process(tmp_path, "second")
    wait_for(tmp_path / "said-second")
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert answers == ["6.0\n", "6.0\n"]
    assert not (tmp_path / "began-second").exists()
    assert "another process" in (tmp_path / "said-second").read_text()


def test_a_process_killed_while_it_fills_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    killed = keep_in_a_process(tmp_path, "killed")
    wait_for(tmp_path / "began-killed")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=600)
    assert cache.entries() == []
    assert cache.unfinished() != []
    (tmp_path / "go").touch()
    assert keep_in_a_process(tmp_path, "again").communicate(timeout=600)[0] == "6.0\n"
    assert cache.unfinished() == []
    (entry,) = cache.entries()
    assert (entry.path / VALUES).stat().st_size == BYTES
