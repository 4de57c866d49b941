"""Users without a home, and folders that cannot be written."""

import os
import tempfile
from pathlib import Path

import pytest
from permissions import forbidden

from fer_bench.user_folders import (
    can_write,
    folder_of_our_own,
    has_temporary_folder,
    home,
    xdg_folder,
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def nobody() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_user_may_have_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() is None
    assert xdg_folder("XDG_CACHE_HOME", ".cache") is None


def test_a_folder_that_does_not_exist_can_be_made_where_its_parent_can_be_written(
    tmp_path: Path,
) -> None:
    inside, closed = tmp_path / "inside", tmp_path / "closed"
    inside.mkdir()
    closed.mkdir()
    (tmp_path / "file").write_text("")
    tmp_path.chmod(0o755)
    assert can_write(closed / "new" / "folder")
    assert not can_write(tmp_path / "file" / "folder")
    with forbidden(closed, inside):
        assert not can_write(Path("../closed"))
        assert not can_write(Path("../closed/new"))


def test_our_own_folder_is_for_this_user_alone(temporary: Path) -> None:
    own = folder_of_our_own()
    assert own == temporary / f"fer-bench-{os.geteuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    assert folder_of_our_own() == own


def test_a_name_that_somebody_else_has_taken_is_not_used(temporary: Path) -> None:
    (temporary / "theirs").mkdir()
    (temporary / f"fer-bench-{os.geteuid()}").symlink_to(temporary / "theirs")
    assert folder_of_our_own() is None


def test_there_may_be_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/nowhere")
    assert folder_of_our_own() is None


def test_where_nothing_can_be_written_there_is_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_temporary_folder()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/nowhere"])
    assert not has_temporary_folder()
    assert folder_of_our_own() is None
