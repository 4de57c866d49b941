"""Files that are written in one step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_bench.storage.files import write_atomically


@pytest.mark.parametrize("content", ["text ä", b"bytes"])
def test_writing_makes_the_folder_and_leaves_one_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, "old")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def ended_process() -> int:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    return int(done.stdout)


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "images [1].groups.csv"
    left = tmp_path / f".{path.name}.{ended_process()}.tmp"
    kept = [
        tmp_path / f".{path.name}.{os.getppid()}.tmp",  # being written
        tmp_path / f".other.csv.{ended_process()}.tmp",
        tmp_path / f".{path.name}.notes.tmp",
    ]
    for other in (left, *kept):
        other.touch()
    write_atomically(path, "new")
    assert set(tmp_path.iterdir()) == {path, *kept}
