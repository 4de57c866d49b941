import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from messages import says

from fer_bench.errors import DataError
from fer_bench.storage import locks, replacement
from fer_bench.storage.replacement import check_place, check_vacant, replaced_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "faces"
    folder.mkdir(parents=True)
    (folder / "old.jpg").write_bytes(b"old")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace(root: Path) -> None:
    with replaced_folder(root) as fresh:
        (fresh / "new.jpg").write_bytes(b"new")


def no_exchange(*_: object) -> None:
    raise OSError(errno.EINVAL, "this file system cannot")


@pytest.fixture(params=["at once", "in two steps"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in two steps":
        monkeypatch.setattr(replacement, "_exchange", no_exchange)


@pytest.mark.usefixtures("_either_way")
def test_the_new_folder_takes_the_place_of_the_old(root: Path) -> None:
    replace(root)
    assert names(root) == ["new.jpg"]
    assert names(root.parent) == ["faces"]


def test_a_new_place_is_made_with_its_parents(tmp_path: Path) -> None:
    replace(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, DataError, ZeroDivisionError])
def test_an_error_leaves_the_old_folder(root: Path, error: type[BaseException]) -> None:
    def fail(fresh: Path) -> None:
        (fresh / "half.jpg").touch()
        raise error

    with pytest.raises(error), replaced_folder(root) as fresh:
        fail(fresh)
    assert (root / "old.jpg").read_bytes() == b"old"
    assert names(root.parent) == ["faces"]


@pytest.mark.usefixtures("_either_way")
def test_a_swap_that_fails_leaves_the_old_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    rename = Path.rename
    monkeypatch.setattr(
        Path,
        "rename",
        lambda self, target: refuse() if "unpacking" in self.name else rename(self, target),
    )
    if replacement._exchange is not no_exchange:
        monkeypatch.setattr(replacement, "_exchange", refuse)
    with pytest.raises(PermissionError):
        replace(root)
    assert names(root) == ["old.jpg"]
    assert names(root.parent) == ["faces"]


def test_what_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    source = tmp_path.parent / f"{tmp_path.name}-source"
    source.mkdir()
    (source / "somebody's.jpg").touch()
    # Which error it is depends on the system.
    with pytest.raises(OSError), replaced_folder(root):  # noqa: PT011
        source.rename(root)
    assert names(root) == ["somebody's.jpg"]
    assert names(tmp_path) == ["faces"]


def test_a_link_stays_a_link(tmp_path: Path, root: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    replace(link)
    assert link.is_symlink()
    assert names(root) == ["new.jpg"]


# The process kills itself after so many steps: renamings, or exchanges where that works.
KILLED = """
import errno, os, signal, sys
from pathlib import Path
from fer_bench.storage import locks, replacement
root, way, moment = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = 0
def killing(function):
    def call(*arguments):
        global steps
        function(*arguments)
        steps += 1
        if steps == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    return call
def no_exchange(*_):
    raise OSError(errno.EINVAL, "")
Path.rename = killing(Path.rename)
replacement._exchange = no_exchange if way == "two steps" else killing(replacement._exchange)
with replacement.replaced_folder(root) as fresh:
    (fresh / "new.jpg").write_bytes(b"new")
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("way", "moment", "at_once", "later"),
    [
        ("at once", 0, ["old.jpg"], ["old.jpg"]),
        ("at once", 1, ["new.jpg"], ["new.jpg"]),
        ("two steps", 0, ["old.jpg"], ["old.jpg"]),
        ("two steps", 1, None, ["old.jpg"]),
        ("two steps", 2, ["new.jpg"], ["new.jpg"]),
    ],
)
def test_a_kill_leaves_one_whole_folder(
    root: Path, way: str, moment: int, at_once: list[str] | None, later: list[str]
) -> None:
    command = [sys.executable, "-c", KILLED, str(root), way, str(moment)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(command, check=False, env=environment)
    if killed.returncode == 0 and way == "at once":
        pytest.skip("this file system cannot exchange two folders at once")
    assert killed.returncode == -signal.SIGKILL
    assert (names(root) if root.exists() else None) == at_once

    # The next call puts right what is left before it does anything else, here: fail.
    with pytest.raises(DataError), replaced_folder(root):
        check_vacant(root, force=False)
    assert names(root) == later
    assert names(root.parent) == ["faces"]


def test_two_processes_do_not_make_one_folder(root: Path) -> None:
    with replaced_folder(root) as fresh:
        with pytest.raises(DataError) as raised:
            replace(root)
        says(raised.value, root, "another process")
        (fresh / "first.jpg").touch()
    assert names(root) == ["first.jpg"]
    assert names(root.parent) == ["faces"]


def test_a_lock_that_its_owner_removed_meanwhile_is_taken_anew(root: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from fer_bench.storage.replacement import replaced_folder\n"
        "with replaced_folder(Path(sys.argv[1]), wait=True) as fresh:\n"
        "    print(sorted(path.name for path in Path(sys.argv[1]).iterdir()))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with replaced_folder(root) as fresh:
        (fresh / "first.jpg").touch()
        waiting = subprocess.Popen(
            [sys.executable, "-c", script, str(root)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
    output, _ = waiting.communicate()
    assert output == "['first.jpg']\n"
    assert names(root) == []
    assert names(root.parent) == ["faces"]


def refused(check: Callable[..., None], *arguments: object, **options: bool) -> str:
    with pytest.raises(DataError) as raised:
        check(*arguments, **options)
    return str(raised.value)


def test_what_must_not_be_replaced(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in (root / "old.jpg", root):
        says(refused(check_place, root, source), f"{root}: ", source, "--root")
    check_place(root, tmp_path / "download.zip")
    monkeypatch.chdir(root)
    says(refused(check_place, root), f"{root}: ", root, "--root")


def test_what_is_vacant(tmp_path: Path, root: Path) -> None:
    check_vacant(tmp_path / "none", force=False)
    check_vacant(root, force=True)
    says(refused(check_vacant, root, force=False), root, "not empty", "--force", "--root")
    says(refused(check_vacant, root / "old.jpg", force=True), root / "old.jpg", "file", "--root")


def test_a_file_system_without_locks_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, two processes could make one folder."""
    monkeypatch.setattr(locks, "ask", lambda *_, **__: locks.Lock.NONE)
    with pytest.raises(DataError) as raised:
        replace(root)
    says(raised.value, root, "locks", "--root")
    assert names(root) == ["old.jpg"]
