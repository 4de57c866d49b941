"""`fer train --fresh`: a run is replaced once its successor has a checkpoint, and not before."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest
from messages import says
from typer.testing import Result

from fer_bench.runs import successor
from fer_bench.runs.directory import RunDirectory
from fer_bench.training import checkpoint, session
from fer_bench.training import steps as steps_module

pytestmark = pytest.mark.slow

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
Tree = dict[str, str]


def tree(folder: Path) -> Tree:
    """The digest of every file in a folder, hidden ones and the lock too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@dataclass(frozen=True)
class Trained:
    """A finished run, what it was trained on, and the weights that it started from."""

    config: Path
    outputs: Path
    root: Path
    weights: Path

    @property
    def run(self) -> Path:
        (run,) = (path.parent for path in self.outputs.glob("*/run.json"))
        return run


@pytest.fixture(scope="module")
def first(
    tiny: dict[str, Any],
    fer: Fer,
    write_config: WriteConfig,
    trained_run: Path,
    drawn_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    """Trained once. Read only."""
    folder = tmp_path_factory.mktemp("fresh")
    root = Path(shutil.copytree(drawn_root, folder / "faces"))
    weights = Path(shutil.copyfile(trained_run / "model.keras", folder / "first.keras"))
    config = write_config(
        tiny
        | {
            "dataset": tiny["dataset"] | {"root": str(root)},
            "model": tiny["model"] | {"weights": str(weights)},
            "stages": tiny["stages"][:1],
        }
    )
    trained = Trained(config, folder / "outputs", root, weights)
    result = fer("train", config, "--outputs", trained.outputs)
    assert result.exit_code == 0, result.output
    evaluated = fer("evaluate", trained.run.name, "--outputs", trained.outputs)
    assert evaluated.exit_code == 0, evaluated.output
    return trained


@pytest.fixture
def trained(first: Trained, tmp_path: Path) -> Iterator[Trained]:
    """A copy of the run that a test may lose; its dataset and weights come back after the test."""
    outputs = Path(shutil.copytree(first.outputs, tmp_path / "outputs"))
    kept = shutil.copytree(first.root, tmp_path / "kept"), shutil.copy(first.weights, tmp_path)
    yield Trained(first.config, outputs, first.root, first.weights)
    shutil.rmtree(first.root, ignore_errors=True)
    shutil.copytree(kept[0], first.root)
    shutil.copy(kept[1], first.weights)
    keras.mixed_precision.set_global_policy("float32")


def fresh(fer: Fer, trained: Trained) -> Result:
    return fer("train", trained.config, "--outputs", trained.outputs, "--fresh")


def assert_refused(result: Result, trained: Trained, before: Tree) -> None:
    assert result.exit_code == 2, result.output
    assert tree(trained.outputs) == before


def damage(name: str, trained: Trained) -> None:
    match name:
        case "no dataset":
            shutil.rmtree(trained.root)
            trained.root.mkdir()
            (trained.root / "notes.txt").touch()
        case "a broken image":
            image = next(trained.root.glob("train/*/*.png"))
            image.write_bytes(image.read_bytes()[:50])
        case "no weights":
            trained.weights.unlink()
        case "weights of something else":
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            model.save(trained.weights)


DAMAGES = ["no dataset", "a broken image", "no weights", "weights of something else"]


@pytest.mark.parametrize("name", DAMAGES)
def test_what_cannot_begin_leaves_a_finished_run_byte_for_byte(
    name: str, fer: Fer, trained: Trained
) -> None:
    before = tree(trained.outputs)
    assert f"{trained.run.name}/predictions/test.csv" in before
    damage(name, trained)
    assert_refused(fresh(fer, trained), trained, before)


def interrupted(fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Let the run be one that was stopped inside its epoch."""
    shutil.rmtree(trained.run)
    with monkeypatch.context() as patch:
        fail_at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert fer("train", trained.config, "--outputs", trained.outputs).exit_code == 130
    assert (trained.run / "state" / "progress.json").exists()
    return tree(trained.outputs)


def fail_at_step(patch: pytest.MonkeyPatch, number: int, fail: Callable[[], None]) -> None:
    """Make one step in each call, and let something happen before the one called `number`."""
    build, count = steps_module.build_train_steps, iter(range(1, 1000))

    def build_failing(*arguments: Any) -> Any:
        steps = build(*arguments)

        def failing(*batch: Any) -> None:
            if next(count) == number:
                fail()
            steps(*batch)

        return failing

    patch.setattr(steps_module, "build_train_steps", build_failing)
    patch.setattr(session, "SECONDS_PER_CALL", 0)


@pytest.mark.parametrize("name", ["a broken image", "no weights"])
def test_what_cannot_begin_leaves_an_interrupted_run_byte_for_byte(
    name: str, fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = interrupted(fer, trained, monkeypatch)
    damage(name, trained)
    assert_refused(fresh(fer, trained), trained, before)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "disk")


@pytest.mark.parametrize(
    ("fail", "code"),
    [(raising(ZeroDivisionError()), 1), (no_space, 2), (raising(KeyboardInterrupt()), 130)],
    ids=["bug", "no space", "interrupt"],
)
def test_what_fails_before_the_first_save_point_leaves_the_run_as_it_was(
    fail: Callable[..., Any],
    code: int,
    fer: Fer,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tree(trained.outputs)
    fail_at_step(monkeypatch, 2, fail)
    result = fresh(fer, trained)
    assert result.exit_code == code
    says(result.stderr, "is unchanged")
    assert tree(trained.outputs) == before


@pytest.mark.parametrize("number", range(4), ids=["weights", "optimizer", "rest", "progress"])
def test_a_full_disk_at_any_file_of_the_save_point_leaves_the_run_as_it_was(
    number: int, fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, replace, times = tree(trained.outputs), Path.replace, iter(range(99))

    def full(path: Path, target: Path) -> Path:
        if target.parent.name == "state" and next(times) == number:
            no_space()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    assert_refused(fresh(fer, trained), trained, before)


def test_the_old_run_is_seen_until_the_first_save_point_of_the_new_one(
    fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = tree(trained.run), []

    def look() -> None:
        now = tree(trained.run)
        seen.append({name: now[name] for name in now if name != "lock"})
        assert RunDirectory(trained.run).is_locked()
        assert fer("compare", trained.outputs).exit_code == 0

    before.pop("lock", None)
    fail_at_step(monkeypatch, 2, look)  # a checkpoint is saved after two steps
    result = fresh(fer, trained)
    assert result.exit_code == 0, result.output
    assert seen == [before]
    assert not (trained.run / "predictions").exists()
    assert (trained.run / "model.keras").exists()
    assert [path.name for path in trained.outputs.iterdir()] == [trained.run.name]


def test_after_the_first_checkpoint_the_new_run_is_in_place_and_resumes(
    fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at_step(patch, 3, no_space)
        failed = fresh(fer, trained)
    assert failed.exit_code == 2
    assert "leave out --fresh" in failed.stderr
    assert not (trained.run / "predictions").exists()
    assert (trained.run / "state" / "progress.json").exists()
    assert [path.name for path in trained.outputs.iterdir()] == [trained.run.name]
    resumed = fer("train", trained.config, "--outputs", trained.outputs)
    assert resumed.exit_code == 0, resumed.output
    assert "resuming at epoch 1, step 2" in resumed.stderr


def test_a_move_that_fails_leaves_the_run_as_it_was(
    fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(trained.outputs)
    monkeypatch.setattr(Path, "rename", no_space)
    assert_refused(fresh(fer, trained), trained, before)


def test_a_run_without_predecessor_is_trained_in_its_place(
    fer: Fer, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained.run
    shutil.rmtree(run)
    monkeypatch.setattr(successor, "take_place", raising(AssertionError()))
    assert fresh(fer, trained).exit_code == 0
    assert (run / "model.keras").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from fer_bench import cli
from fer_bench.models import inference
from fer_bench.training import session, steps as training_steps

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv.pop(1)
if where == "before":
    training_steps.build_train_steps = lambda *_: kill
else:
    move = Path.rename
    def move_and_die(path, target):
        move(path, target)
        kill()
    Path.rename = move_and_die
cli.main()
"""


@pytest.mark.scale
@pytest.mark.parametrize("where", ["before", "between"])
def test_a_killed_process_leaves_the_old_run_or_the_new_one(
    where: str, fer: Fer, trained: Trained
) -> None:
    before, run = tree(trained.run), trained.run
    arguments = ["train", str(trained.config), "--outputs", str(trained.outputs), "--fresh"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, *arguments],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before.pop("lock", None)
    if where == "before":
        now = tree(run)
        now.pop("lock", None)
        assert now == before
    assert fer("compare", trained.outputs).exit_code in (0, 2)  # the new one has no metrics yet
    found = checkpoint.find(RunDirectory(run))
    assert found is not None
    reached = found.progress
    assert [path.name for path in trained.outputs.iterdir()] == [run.name]
    if where == "before":
        now = tree(run)
        now.pop("lock", None)
        assert now == before
    else:
        assert (reached.epoch, reached.step) == (0, 2)
        resumed = fer("train", trained.config, "--outputs", trained.outputs)
        assert resumed.exit_code == 0, resumed.output
        assert "resuming at epoch 1, step 2" in resumed.stderr
