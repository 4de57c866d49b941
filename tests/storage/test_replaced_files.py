"""Files that change together, however the replacement ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from fer_bench.storage.replacement import abandoned, replaced_files, settle_files, working_folder

OLD = {"predictions/test.csv": "old", "metrics/test.json": "old", "model.keras": "kept"}
NEW = {"predictions/test.csv": "new", "metrics/test.json": "new", "corruptions/test.json": "new"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, OLD)
    return tmp_path


def replace(folder: Path) -> None:
    with replaced_files(folder) as fresh:
        write(fresh, NEW)


def test_all_take_their_places_at_the_end(folder: Path) -> None:
    with replaced_files(folder) as fresh:
        write(fresh, NEW)
        assert {name: text for name, text in read(folder).items() if name in OLD} == OLD
    assert read(folder) == OLD | NEW


def test_a_failure_while_writing_changes_nothing(folder: Path) -> None:
    def fail() -> None:
        with replaced_files(folder) as fresh:
            write(fresh, NEW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read(folder) == OLD


@pytest.mark.parametrize("failing", range(len(NEW)))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_replacing_changes_nothing(
    folder: Path, failing: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    real = Path.replace

    def fail_once(path: Path, target: Path) -> Path:
        if next(calls) == failing:
            raise error
        return real(path, target)

    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(type(error)):
        replace(folder)
    assert read(folder) == OLD


KILLED = """
import os, sys
from pathlib import Path
from fer_bench.storage.replacement import settle_files, replaced_files

OLD, NEW = {old}, {new}

def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

def read(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {{path.relative_to(folder).as_posix(): path.read_text() for path in paths}}

def killed_at(step, folder):
    calls = iter(range(1000))
    def die(real):
        def call(*arguments, **named):
            if next(calls) == step:
                os._exit(9)
            return real(*arguments, **named)
        return call
    for name in ("replace", "rename", "mkdir", "open"):
        setattr(Path, name, die(getattr(Path, name)))
    with replaced_files(folder) as fresh:
        write(fresh, NEW)

outcomes = []
for step in range(1000):
    folder = Path(sys.argv[1]) / str(step)
    write(folder, OLD)
    child = os.fork()
    if not child:
        killed_at(step, folder)
        os._exit(0)
    ended = os.waitpid(child, 0)[1] == 0
    settle_files(folder)
    found = {{name: text for name, text in read(folder).items() if not name.startswith(".")}}
    assert found in (OLD, OLD | NEW), (step, found)
    outcomes.append("old" if found == OLD else "new")
    if ended:
        break
print(*outcomes)
"""


def test_after_a_kill_at_any_step_all_are_old_or_all_are_new(tmp_path: Path) -> None:
    script = KILLED.format(old=OLD, new=NEW)
    outcomes = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    assert outcomes == sorted(outcomes, reverse=True)
    assert {"old", "new"} == set(outcomes)


def test_what_a_living_process_writes_is_left_alone(folder: Path) -> None:
    with replaced_files(folder) as fresh:
        write(fresh, NEW)
        settle_files(folder)
        assert read(fresh) == NEW


def test_a_folder_is_abandoned_when_nobody_holds_it(tmp_path: Path) -> None:
    with working_folder(tmp_path, ".some-") as held:
        assert abandoned(tmp_path, ".some-") == []
        (held / "lock").rename(held / "kept")
        left = tmp_path / ".some-left"
        left.mkdir()
        assert abandoned(tmp_path, ".some-") == []  # it may be about to be held
        (left / "lock").touch()
        assert abandoned(tmp_path, ".some-") == [left]
    assert not held.exists()


def test_a_kill_while_a_folder_is_removed_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock went first, and what was left of the folder stayed for ever."""

    def killed(path: Path, **_: object) -> None:
        (path / "lock").unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fer_bench.storage.replacement.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt), replaced_files(folder) as new:
            (new / "a").write_text("new")
    settle_files(folder)
    assert (folder / "a").read_text() == "new"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
