"""A run is replaced whole or not at all, whenever the process that does it ends."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from fer_bench.runs import successor
from fer_bench.runs.directory import RunDirectory, find_run, list_runs
from fer_bench.storage.locks import LOCK, created_locked

Tree = dict[str, str]
OLD: Tree = {"run.json": "{}", "model.keras": "old", "predictions/test.csv": "old"}
NEW: Tree = {"run.json": '{"new": 1}', "state/progress.json": "new"}


def write(folder: Path, tree: Tree) -> Path:
    for name, text in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(folder: Path) -> Tree:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run, and its successor beside it."""
    folder = write(tmp_path / "outputs" / "a-s1-0123abcd", OLD)
    write(successor.beside(folder), NEW)
    return folder


def alone(run: Path) -> bool:
    """Whether nothing but the run is in the folder of runs."""
    return [path.name for path in run.parent.iterdir()] == [run.name]


def test_the_successor_takes_the_place_of_the_run(run: Path) -> None:
    assert [found.path for found in list_runs(run.parent)] == [run]
    write(successor.beside(run), NEW)  # `list_runs` took it for one that was killed
    successor.take_place(run)
    assert read(run) == NEW
    assert alone(run)


def test_a_successor_that_is_discarded_leaves_the_run_as_it_was(run: Path) -> None:
    successor.discard(run)
    assert read(run) == OLD
    assert alone(run)


def test_a_link_whose_target_is_gone_is_discarded(run: Path, tmp_path: Path) -> None:
    """A killed process may have removed the files of a run on another disk, and not the link."""
    shutil.rmtree(successor.beside(run))
    successor.beside(run).symlink_to(tmp_path / "gone")
    successor.discard(run)
    assert alone(run)


def test_where_the_runs_are_is_known_beside_another(run: Path) -> None:
    assert RunDirectory(run).outputs == run.parent
    beside = RunDirectory(successor.beside(run))
    assert beside.outputs == run.parent
    assert beside.run_id == run.name


class Killed(BaseException):
    """As a kill: nothing catches it."""


def kill_at(patch: pytest.MonkeyPatch, number: int, error: type[BaseException]) -> list[str]:
    """Let every change of the disk from the one called `number` on fail."""
    done: list[str] = []

    def failing(name: str, act: Any) -> Any:
        def act_or_fail(*arguments: Any, **options: Any) -> Any:
            if len(done) >= number:
                raise error
            done.append(name)
            return act(*arguments, **options)

        return act_or_fail

    patch.setattr(Path, "rename", failing("rename", Path.rename))
    patch.setattr(Path, "unlink", failing("unlink", Path.unlink))
    patch.setattr(Path, "rmdir", failing("rmdir", Path.rmdir))
    patch.setattr(shutil, "rmtree", failing("rmtree", shutil.rmtree))
    return done


CHANGES = ["rename", "rename", "rename", "rmtree", "rmdir"]


def test_taking_the_place_changes_the_disk_so_often(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next tests let every one of the changes fail."""
    done = kill_at(monkeypatch, 99, Killed)
    successor.take_place(run)
    assert done == CHANGES


@pytest.mark.parametrize("number", range(len(CHANGES)))
@pytest.mark.parametrize("look", ["lock", "find", "list"])
def test_after_a_kill_the_next_command_finds_one_of_the_two_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int, look: str
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, number, Killed)
        with pytest.raises(Killed):
            successor.take_place(run)
    match look:
        case "lock":
            with RunDirectory(run).lock():
                pass
            (run / LOCK).unlink()
        case "find":
            assert find_run(run.parent, run.name).path == run
        case "list":
            assert [found.path for found in list_runs(run.parent)] == [run]
    assert read(run) == (OLD if number == 0 else NEW)
    assert alone(run)


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_kill_while_a_kill_is_mended_loses_nothing_either(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, 1, Killed)
        with pytest.raises(Killed):
            successor.take_place(run)
    with monkeypatch.context() as patch:
        kill_at(patch, number, Killed)
        with contextlib.suppress(Killed):
            successor.settle(run)
    successor.settle(run)
    assert read(run) == NEW
    assert alone(run)


@pytest.mark.parametrize("number", range(2))
def test_a_move_that_fails_leaves_the_run_as_it_was(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    move, times = Path.rename, iter(range(99))

    def fail_once(path: Path, target: Path) -> Path:
        if next(times) == number:
            raise OSError(5, "Input/output error")
        return move(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        successor.take_place(run)
    assert read(run) == OLD
    successor.discard(run)
    assert alone(run)


def test_what_a_living_process_trains_is_left_alone(run: Path) -> None:
    beside = successor.beside(run)
    with created_locked(beside / LOCK):
        successor.settle(run)
        assert read(beside) == NEW
        assert list_runs(run.parent)
        assert find_run(run.parent, run.name)
        assert read(beside) == NEW
        assert RunDirectory(run).is_locked()
    assert not RunDirectory(run).is_locked()


def test_between_the_two_renames_of_a_living_process_nobody_else_begins(run: Path) -> None:
    beside = successor.beside(run)
    with created_locked(beside / LOCK) as file:
        file.write(b"process 7 on there")
        file.flush()
        run.rename(beside.with_name("before"))
        with (
            pytest.raises(Exception, match="being trained by process 7 on there"),
            RunDirectory(run).lock(),
        ):
            pytest.fail("locked twice")
        assert not run.exists()
        assert list_runs(run.parent) == []
    successor.settle(run)
    assert read(run) == NEW
    assert alone(run)


def test_a_run_that_lies_elsewhere_is_replaced_through_its_link(run: Path, tmp_path: Path) -> None:
    elsewhere = run.rename(tmp_path / "disk")
    run.symlink_to(elsewhere)
    successor.take_place(run)
    assert read(run) == NEW
    assert not run.is_symlink()
    assert not elsewhere.exists()
    assert alone(run)


def test_runs_that_can_only_be_read_are_listed_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    assert [found.path for found in list_runs(run.parent)] == [run]
    assert find_run(run.parent, run.name).path == run
