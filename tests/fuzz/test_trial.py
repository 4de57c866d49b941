"""The judge of the fuzzer finds what it is there to find."""

import random
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fuzz import damage, targets, trial
from fuzz.snapshot import states
from fuzz.world import World

COMPARE = next(target for target in targets.TARGETS if target.name == "metrics/*.json")
INTACT = trial.End(0, "Evaluated.", "accuracy 0.5", "accuracy 0.5")


@pytest.fixture
def world(tmp_path: Path) -> World:
    metrics = tmp_path / "world" / "outputs" / "run" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "test.json").write_text("{}")
    (tmp_path / "world" / "table.txt").write_text("a table")
    shutil.copytree(tmp_path / "world", tmp_path / "intact")
    return World(tmp_path / "world", tmp_path / "intact", "run", "stopped", "other")


def tried(world: World, may_be_valid: bool = False) -> trial.Input:
    place = world.outputs / "run" / "metrics" / "test.json"
    return trial.Input(COMPARE, place, targets.compare, "emptied", may_be_valid)


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (INTACT, None),
        (trial.End(0, "run: metrics/test.json is empty", "", "accuracy 0.5"), None),
        (trial.End(0, "Left out: run", "", ""), None),
        (trial.End(2, "metrics/test.json is empty", "", ""), None),
        (trial.End(2, "Something is wrong.", "", ""), "unnamed"),
        (trial.End(0, "Evaluated.", "accuracy 0.9", "accuracy 0.9"), "taken"),
    ],
)
def test_an_answer_is_judged(world: World, end: trial.End, problem: str | None) -> None:
    found = trial.judge(world, tried(world), INTACT, end)
    assert (found and found.partition(":")[0]) == problem


def test_what_may_be_valid_may_be_taken(world: World) -> None:
    other = trial.End(0, "", "accuracy 0.9", "accuracy 0.9")
    assert trial.judge(world, tried(world, may_be_valid=True), INTACT, other) is None


def test_a_mapping_of_any_version_may_be_shown(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {targets: [true]}")
    assert targets.is_shown_only(targets.compare, config)
    assert not targets.is_shown_only(targets.evaluate, config)
    config.write_text("- 1")
    assert not targets.is_shown_only(targets.compare, config)


def test_a_name_that_is_always_printed_says_nothing(world: World) -> None:
    intact = trial.End(0, "Read test.json.", "", "0.5")
    end = trial.End(0, "Read test.json.", "", "0.9")
    assert (trial.judge(world, tried(world), intact, end) or "").startswith("taken")


def answering(**result: Any) -> Any:
    given = {"exception": None, "exit_code": 0, "output": "", "stderr": "", "stdout": ""}
    return lambda *arguments: SimpleNamespace(**given | result)


def test_tracebacks_exit_codes_and_hangs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    _, problem = trial._call(answering(exception=KeyError("x"), exit_code=1), [])
    assert problem
    assert problem.startswith("traceback: KeyError")
    assert trial._call(answering(exit_code=3), [])[1] == "exit code 3"
    assert trial._call(answering(exit_code=2, exception=SystemExit(2)), [])[1] is None
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    _, problem = trial._call(lambda *arguments: signal.pause(), [])
    assert problem
    assert problem.startswith("hang")


def test_seeds_are_a_range_or_named() -> None:
    assert damage.seeds(["7", "3"]) == ["7-0", "7-1", "7-2"]
    assert damage.seeds(["7-5", "8-0"]) == ["7-5", "8-0"]


def test_lost_and_changed_files_are_found(world: World) -> None:
    before = states(world.root)
    (world.root / "table.txt").unlink()
    (world.root / "new").mkdir()
    (world.outputs / "run" / "metrics" / "test.json").write_text("{}")  # the same content
    (world.root / "cache").write_text("")
    assert trial.changes(world, before, {}) == ["cache", "new", "table.txt"]


def test_the_world_is_restored(world: World) -> None:
    whole = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    metrics = world.outputs / "run" / "metrics" / "test.json"
    metrics.write_text("[]")
    (world.root / "table.txt").unlink()
    (world.root / "table.txt").mkdir()
    (world.root / "new" / "folder").mkdir(parents=True)
    (world.root / "new" / "link").symlink_to(world.root)
    world.forget(metrics)
    world.restore()
    assert {p: p.read_bytes() for p in world.root.rglob("*") if p.is_file()} == whole
    assert {p: p.stat().st_mtime_ns for p in world.root.rglob("*")} == times


@pytest.mark.parametrize("seed", range(20))
def test_what_is_no_file_is_put_in_place_of_a_file(tmp_path: Path, seed: int) -> None:
    place = tmp_path / "file"
    place.write_text("x")
    kind = damage.put_no_file(random.Random(seed), place)
    assert not damage.is_small(place)
    place.rmdir() if kind == "folder" else place.unlink()  # pytest cannot clear a link to itself
