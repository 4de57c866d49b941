"""The display of a sweep: the progress of each run and the time left, in any width."""

import fcntl
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from messages import says
from rich.console import Console

from fer_bench.report.terminal.sweep import (
    Lines,
    LiveTable,
    open_sweep_display,
    sweep_heading,
    sweep_table,
)
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep.job import Outcome
from fer_bench.sweep.progress import Follower, Progress, State, read_progress, time_left
from fer_bench.sweep.suite import Planned, load_suite

HEADER = "epoch,stage,learning_rate,loss,val_loss,val_macro_f1,images_per_second,seconds\n"
EXPERIMENT: dict[str, Any] = {
    "dataset": {"name": "drawn", "validation": 0.25},
    "image": {"size": 24},
    "model": {"backbone": "cnn_compact"},
    "stages": [
        {"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-3},
        {"name": "all", "epochs": 4, "learning_rate": 1e-3},
    ],
}


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., tuple[Planned, ...]]:
    """The runs of a suite of one experiment with these seeds."""

    def plan(*seeds: int, **changes: Any) -> tuple[Planned, ...]:
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(EXPERIMENT | changes))
        suite = {"description": "x.", "seeds": list(seeds), "runs": ["x.yaml"]}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
        return load_suite(tmp_path / "suite.yaml").runs

    return plan


def write_run(run: RunDirectory, status: str, rows: Sequence[tuple[str, float, float]]) -> None:
    """A run with one finished epoch per row: stage, validation value, seconds."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.run_json.write_text(json.dumps({"status": status}))
    lines = [
        f"{number},{stage},0.001,1.5,{value},{value},120.5,{seconds}"
        for number, (stage, value, seconds) in enumerate(rows, start=1)
    ]
    if lines:
        run.history.write_text(HEADER + "\n".join(lines) + "\n")


@contextmanager
def claimed(run: RunDirectory) -> Iterator[None]:
    """The run is locked, as while a job works on it."""
    path = run.outputs / "sweeps" / ".claims" / run.run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Progress --------------------------------------------------------------------------------------


def test_a_run_goes_through_its_states(plan: Any, tmp_path: Path) -> None:
    runs = plan(1, 2, 3)
    first = RunDirectory(tmp_path / runs[0].run_id)
    follower = Follower(runs, tmp_path, skipped=[runs[2].run_id])

    def states(**outcomes: Outcome) -> list[str]:
        ended = {runs[0].run_id: outcomes["first"]} if outcomes else {}
        return [run.state for run in follower.look(ended)]

    assert states() == ["waiting", "waiting", "skipped"]
    with claimed(first):
        assert states()[0] == "starting"
        write_run(first, "running", [])
        assert states()[0] == "training"
        write_run(first, "finished", [("head", 0.3, 10)])
        assert states()[0] == "evaluating"
    assert states(first=Outcome("failed", "no room", 12.0)) == ["failed", "waiting", "skipped"]


def test_progress_is_read_from_the_history(plan: Any, tmp_path: Path) -> None:
    (planned,) = plan(1)
    run = RunDirectory(tmp_path / planned.run_id)
    assert read_progress(run, planned) == Progress("x-s1", "waiting", epochs=5)
    write_run(run, "running", [("head", 0.3, 10), ("all", 0.5, 30), ("all", 0.4, 32)])
    assert read_progress(run, planned) == Progress(
        "x-s1", "waiting", "all", 3, 5, 0.5, 120.5, trained=72.0
    )


def test_the_best_loss_is_the_lowest(plan: Any, tmp_path: Path) -> None:
    (planned,) = plan(1, training={"select": "val_loss"})
    run = RunDirectory(tmp_path / planned.run_id)
    write_run(run, "running", [("head", 0.3, 10), ("all", 0.2, 30), ("all", 0.4, 32)])
    assert read_progress(run, planned).best == 0.2


# Time left -------------------------------------------------------------------------------------


def progress(name: str, state: State, epoch: int = 0, seconds: float = 0.0) -> Progress:
    return Progress(name, state, "all", epoch, 10, 0.5, 100.0, seconds)


def test_no_time_is_shown_before_an_epoch_is_done() -> None:
    assert time_left([progress("a-s1", "training"), progress("a-s2", "waiting")]) is None


def test_a_run_is_estimated_from_itself_then_its_experiment_then_all_runs() -> None:
    fast, slow = progress("fast-s1", "finished", 10, 100), progress("slow-s1", "training", 5, 500)
    assert time_left([fast, slow]) == 5 * 100
    assert time_left([fast, slow, progress("fast-s2", "waiting")]) == 500 + 10 * 10
    assert time_left([fast, slow, progress("new-s1", "waiting")]) == 500 + 10 * 600 / 15


def test_parallel_runs_divide_the_time() -> None:
    two = [progress(f"a-s{seed}", "training", 5, 50) for seed in (1, 2)]
    assert time_left(two) == 50


def test_failed_runs_take_no_time() -> None:
    assert time_left([progress("a-s1", "failed", 5, 50), progress("a-s2", "skipped", 10, 9)]) == 0


# The table -------------------------------------------------------------------------------------

MANY = [
    *[progress(f"opencv_emotion_slides_resnet50-s{seed}", "skipped", 10, 9) for seed in range(30)],
    *[progress(f"rafdb4_inceptionresnetv2-s{seed}", "finished", 10, 90) for seed in range(10)],
    *[progress(f"rafdb_effv2l_unfreeze45-s{seed}", "training", 2, 20) for seed in range(2)],
    progress("pisa_t3-s1", "failed", 1, 9),
    *[progress(f"a_network_with_a_name_of_fifty_characters_in_all-s{seed}", "waiting")
      for seed in range(26)],
]  # fmt: skip


def drawn(runs: Sequence[Progress], width: int, rows: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(sweep_table(runs, width, rows))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_69_runs_fit_on_a_terminal(width: int) -> None:
    heading, columns, *rows, rest = drawn(MANY, width, 20)
    assert heading.startswith("40/69 finished, 1 failed, about ")
    assert columns.split() == ["run", "state", "stage", "epoch", "best", "images/s", "time"]
    assert len(rows) == 20
    assert max(map(len, drawn(MANY, width, 69))) <= width
    text = "\n".join(rows)
    for name in ("rafdb_effv2l_unfreeze45-s0", "rafdb_effv2l_unfreeze45-s1", "pisa_t3-s1"):
        assert name in text
    assert text.count("finished") == 10
    assert rest == "and 30 skipped, 19 waiting"


def test_a_shortened_name_keeps_its_seed() -> None:
    (row,) = [line for line in drawn(MANY, 80, 69) if "-s25" in line and "waiting" in line]
    assert "…" in row
    assert row.startswith("a_network_with")


def test_a_few_runs_are_all_shown_in_their_order() -> None:
    runs = [MANY[-1], MANY[30], MANY[40]]
    lines = drawn(runs, 120, 20)
    assert [line.split()[1] for line in lines[2:]] == ["waiting", "finished", "training"]


def test_the_heading_counts(plan: Any) -> None:
    runs = [progress("a-s1", "finished", 10, 100), progress("a-s2", "interrupted", 5, 50)]
    assert sweep_heading(runs) == "1/2 finished, 1 interrupted"


# On a terminal, and elsewhere ------------------------------------------------------------------


def test_without_a_terminal_every_change_is_a_line(plan: Any, tmp_path: Path) -> None:
    runs = plan(1, 2)
    first, second = (RunDirectory(tmp_path / run.run_id) for run in runs)
    console = Console(file=io.StringIO(), width=80)
    follower = Follower(runs, tmp_path, skipped=[second.run_id])
    display = open_sweep_display(follower, console)
    with claimed(first):
        display.look({})
        write_run(first, "running", [("head", 0.3, 10)])
        display.show(follower.look({}))
        display.show(follower.look({}))
    display.close({first.run_id: Outcome("finished", "", 75.0)})
    heading, *changes = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    says(heading, "2 runs", "1 of them")
    for line, parts in zip(
        changes,
        (
            ("[1/2] x-s1: starting",),
            ("[1/2] x-s1: training", "1/5 epochs"),
            ("[2/2] x-s1: finished", "1 min 15 s", "best 0.3000"),
        ),
        strict=True,
    ):
        says(line, *parts)


def test_a_failure_is_one_line(plan: Any, tmp_path: Path) -> None:
    runs = plan(1)
    console = Console(file=io.StringIO(), width=80)
    display = open_sweep_display(Follower(runs, tmp_path, []), console)
    display.close({runs[0].run_id: Outcome("failed", "no such folder.\nUnpack it.", 1.0)})
    last = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert last == "[0/1] x-s1: failed: no such folder."


def test_a_dumb_terminal_gets_lines(plan: Any, tmp_path: Path) -> None:
    """It cannot move its cursor, so a live table would stay empty until the end."""
    environment = {"TERM": "dumb"}
    console = Console(file=io.StringIO(), force_terminal=True, _environ=environment)
    assert isinstance(open_sweep_display(Follower(plan(1), tmp_path, []), console), Lines)


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_shows_names_and_states(width: int) -> None:
    lines = drawn(MANY[-2:], width, 20)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert text.count("waiting") == 2
    assert text.count("a_") == 2


def test_on_a_terminal_the_table_is_drawn_and_kept(plan: Any, tmp_path: Path) -> None:
    runs = plan(1, 2)
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    display = open_sweep_display(Follower(runs, tmp_path, []), console)
    assert isinstance(display, LiveTable)
    display.look({})
    display.close({run.run_id: Outcome("finished", "", 1.0) for run in runs})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0/2 finished" in text
    assert "2/2 finished" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back
