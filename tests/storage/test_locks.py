"""Locks: whoever holds one is left alone, and nobody holds one after his end."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from messages import says

from fer_bench.storage import locks
from fer_bench.storage.locks import (
    BusyError,
    Lock,
    created_locked,
    held,
    is_alive,
    is_locked,
    remove_unlocked,
)


def test_a_file_is_locked_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_locked(path)
    with created_locked(path):
        assert is_locked(path)
        remove_unlocked(path)
        assert path.exists()
    assert not is_locked(path)
    remove_unlocked(path)
    assert not path.exists()


def test_what_cannot_be_opened_is_left(tmp_path: Path) -> None:
    remove_unlocked(tmp_path / "missing")
    remove_unlocked(tmp_path)
    assert tmp_path.is_dir()


def test_a_file_that_was_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, times = tmp_path / "file", fcntl.flock, iter(range(9))

    def removed_first(file: int, operation: int) -> None:
        if next(times) == 0:
            path.unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with created_locked(path) as file:
        file.write(b"all")
    assert path.read_bytes() == b"all"
    assert next(times) == 2


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with created_locked(tmp_path / "file") as file:
        file.write(b"all")
    remove_unlocked(tmp_path / "file")  # whether somebody writes it is not known
    assert (tmp_path / "file").read_bytes() == b"all"


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path):
        assert is_locked(path)
        with pytest.raises(BusyError) as raised, held(path):
            pytest.fail("held twice")
        says(raised.value, f"process {os.getpid()} on ")
    assert not is_locked(path)
    assert path.read_text() == ""


def test_what_waits_for_a_lock_gets_it(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", []

    def second() -> None:
        with held(path, wait=True):
            order.append("second")

    with held(path):
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_without_locks_nobody_holds_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "ask", lambda *_, **__: Lock.NONE)
    with pytest.raises(BusyError) as raised, held(tmp_path / "lock"):
        pytest.fail("held")
    says(raised.value, "no locks")


def test_a_process_is_alive_until_it_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(process.pid)
    process.communicate(b"\n")
    assert not is_alive(process.pid)
    assert is_alive(os.getpid())
    assert not is_alive(0)
    assert is_alive(1)  # of another user, where these tests are not of the first one


def test_of_two_that_write_one_file_the_second_waits(tmp_path: Path) -> None:
    path, order = tmp_path / "file", []

    def second() -> None:
        with created_locked(path):
            order.append("second")

    with created_locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
