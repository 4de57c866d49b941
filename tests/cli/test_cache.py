"""`fer cache`: what it prints, what it removes, and how it ends."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from messages import says
from typer.testing import Result

from fer_bench.storage.cache import filling

Fer = Callable[..., Result]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return tmp_path / "cache"


@pytest.fixture
def filled(root: Path) -> list[Path]:
    """Two entries of trunks and one of images, last used longest ago first."""
    kept = [("trunk", "a", 3_000_000), ("images", "b", 1_500_000_000), ("trunk", "c", 500_000)]
    return [put(*entry, used=1000 + 86400 * day) for day, entry in enumerate(kept)]


def put(kind: str, key: str, size: int, used: float) -> Path:
    with filling(kind, key, {"of": key}) as entry:
        assert entry.fresh
        with (entry.fresh / "values").open("wb") as file:
            file.truncate(size)  # takes no room
    os.utime(entry.path, (used, used))
    return entry.path


def document(result: Result) -> Any:
    """The JSON that is all of standard output."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def about(path: Path) -> int:
    return (path / "entry.json").stat().st_size


# stats -----------------------------------------------------------------------------------------


def test_stats_is_a_table(fer: Fer, filled: list[Path], root: Path) -> None:
    result = fer("cache", "stats")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert any(re.match(r"\s*images +1 +1\.5 GB +1970-01-02 00:16\s*$", line) for line in lines)
    assert any(re.match(r"\s*trunk +2 +3\.5 MB +1970-01-03 00:16\s*$", line) for line in lines)
    assert f"cache: {root}" in lines
    assert "total: 1.5 GB" in lines
    assert re.search(r"^free: +\d.* on that disk$", result.stdout, re.MULTILINE)


def test_stats_is_one_document(fer: Fer, filled: list[Path], root: Path) -> None:
    found = document(fer("cache", "stats", "--json"))
    first, second, third = filled
    assert set(found) == {"root", "free_bytes", "kinds", "entries"}
    assert found["root"] == str(root)
    assert found["free_bytes"] > 0
    assert found["kinds"] == [
        {
            "kind": "images",
            "entries": 1,
            "bytes": 1_500_000_000 + about(second),
            "last_used": "1970-01-02T00:16:40+00:00",
        },
        {
            "kind": "trunk",
            "entries": 2,
            "bytes": 3_500_000 + about(first) + about(third),
            "last_used": "1970-01-03T00:16:40+00:00",
        },
    ]
    assert [entry["name"] for entry in found["entries"]] == [path.name for path in filled]
    assert found["entries"][0] == {
        "kind": "trunk",
        "name": first.name,
        "bytes": 3_000_000 + about(first),
        "used": "1970-01-01T00:16:40+00:00",
        "note": {"of": "a"},
    }


def test_stats_of_no_cache(fer: Fer, root: Path) -> None:
    result = fer("cache", "stats")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [f"cache: {root}", "total: 0 B"]
    found = document(fer("cache", "stats", "--json"))
    assert (found["kinds"], found["entries"]) == ([], [])
    assert not root.exists()


def test_a_kind_may_have_brackets_in_its_name(fer: Fer) -> None:
    put("[bold]", "key", 10, used=1)
    assert "[bold]" in fer("cache", "stats").stdout


# clear -----------------------------------------------------------------------------------------


def test_clear_removes_all(fer: Fer, filled: list[Path]) -> None:
    result = fer("cache", "clear")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "removed 3 entries, 1.5 GB freed\n"
    assert not any(path.exists() for path in filled)
    assert fer("cache", "clear").stdout == "removed 0 entries, 0 B freed\n"


def test_clear_removes_one_kind(fer: Fer, filled: list[Path]) -> None:
    result = fer("cache", "clear", "images")
    assert result.stdout == "removed 1 entry, 1.5 GB freed\n"
    assert [path.exists() for path in filled] == [True, False, True]


def test_clear_prints_one_document(fer: Fer, filled: list[Path], root: Path) -> None:
    sizes = [500_000 + about(filled[2]), 3_000_000 + about(filled[0])]
    found = document(fer("cache", "clear", "trunk", "--json"))
    assert sorted(entry["bytes"] for entry in found["removed"]) == sizes
    assert {entry["kind"] for entry in found["removed"]} == {"trunk"}
    assert (found["root"], found["freed_bytes"]) == (str(root), sum(sizes))
    assert found["left_alone"] == []


@pytest.mark.parametrize(
    ("kind", "hint"), [("image", "Did you mean 'images'?"), ("twin", "Did you mean 'twins'?")]
)
def test_clear_of_an_unknown_kind(fer: Fer, filled: list[Path], kind: str, hint: str) -> None:
    put("twins", "key", 10, used=1)
    result = fer("cache", "clear", kind)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"kind {kind}: expected images, trunk, twins. {hint}" in result.stderr
    assert all(path.exists() for path in filled)


def test_clear_of_a_kind_that_is_not_there_yet(fer: Fer) -> None:
    assert fer("cache", "clear", "trunk").stdout == "removed 0 entries, 0 B freed\n"


def test_what_is_being_made_is_left_alone_and_said(fer: Fer, filled: list[Path]) -> None:
    with filling("trunk", "new") as entry:
        assert entry.fresh
        (entry.fresh / "values").write_bytes(b"x")
        result = fer("cache", "clear")
        found = json.loads(fer("cache", "clear", "--json").stdout)
        others = fer("cache", "clear", "images")
        assert found["left_alone"] == [str(entry.fresh)]
    assert result.stdout.startswith("removed 3 entries")
    says(result.stderr, "left alone", "1 entry")
    assert others.stderr == ""
    assert (entry.path / "values").read_bytes() == b"x"
