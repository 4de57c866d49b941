"""The search: valid spaces, the trials, and that no trial is lost or repeated."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from messages import says
from PIL import Image
from typer.testing import Result as CommandResult

import fer_bench.sweep.search.search
from fer_bench.config.loading import load_experiment
from fer_bench.errors import ConfigError, FerError, Interrupted, RunError
from fer_bench.report.figures.search import draw_study
from fer_bench.report.terminal.search import short_names, shown, trial_line
from fer_bench.sweep.job import Job, Outcome, run_job
from fer_bench.sweep.search.rounds import Run
from fer_bench.sweep.search.search import (
    Plan,
    Result,
    Slots,
    Trial,
    plan_search,
    search,
    trials_so_far,
)
from fer_bench.sweep.search.space import Parameter

Fer = Callable[..., CommandResult]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EPOCHS = 4
BASE: dict[str, Any] = {
    "dataset": {"name": "drawn", "validation": 0.25},
    "image": {"size": 24},
    "model": {"backbone": "cnn_compact"},
    "stages": [{"name": "all", "epochs": EPOCHS, "learning_rate": 1e-3}],
}
# Two keys that `make_up` depends on, and one that it does not.
SPACE: dict[str, Any] = {
    "stages.0.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.head.dense": {"choices": [[], [128], [256, 128]]},
    "image.augment.rotation": {"low": 0, "high": 0.2},
}
Search = Callable[..., Result]
SLOW = pytest.mark.slow


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """The plan of a space that varies `BASE` or another experiment."""

    def plan(space: Any = SPACE, base: dict[str, Any] = BASE, **others: Any) -> Plan:
        files = tmp_path / "base.yaml", tmp_path / "space.yaml"
        for path, document in zip(files, (base, {"space": space, **others}), strict=True):
            path.write_text(yaml.safe_dump(document, sort_keys=False))
        return plan_search(*files)

    return plan


@pytest.fixture
def refusal(planned: Callable[..., Plan]) -> Callable[..., list[str]]:
    """The errors of an invalid space, without the first and the last line."""

    def lines(space: Any, base: dict[str, Any] = BASE, **others: Any) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            planned(space, base, **others)
        first, *errors, last = str(raised.value).splitlines()
        assert "space.yaml" in first
        assert "docs/search.md" in last
        return [error.strip() for error in errors]

    return lines


def make_up(job: Job, stopped: Callable[[], bool]) -> Outcome:
    """A run without training, whose history depends on its configuration only."""
    config = yaml.safe_load(job.config)
    away = abs(math.log10(config["stages"][0]["learning_rate"]) + 3)
    layers = len(config["model"]["head"]["dense"]) if config["model"]["head"] else 0
    best = 0.8 - 0.2 * away - 0.05 * layers
    write_history(job, [best * (1 - 0.5**epoch) for epoch in range(1, EPOCHS + 1)])
    return Outcome("finished", "", 0.0)


def write_history(job: Job, values: list[float], metric: str = "val_macro_f1") -> None:
    job.run.path.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{value!r}" for epoch, value in enumerate(values, start=1)]
    aside = job.run.path / "aside.csv"
    aside.write_text("\n".join([f"epoch,{metric}", *rows]))
    aside.replace(job.run.history)


def essence(trials: Any) -> list[tuple[Any, ...]]:
    """The part of the trials that must not depend on interruptions."""
    return [
        (one.number, one.state, one.value, one.epochs, one.parameters, one.run_id) for one in trials
    ]


# The space -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "part"),
    [
        ({}, "low and high, or choices"),
        ({"low": 0.1}, "low and high, or choices"),
        ({"low": 0.2, "high": 0.1}, "got 0.2 and 0.1"),
        ({"low": 0, "high": 0.1, "log": True}, "log: true"),
        ({"low": 0, "high": 0.5, "integer": True}, "integer: true"),
        ({"low": 0, "high": 0.1, "choices": [0]}, "either choices, or low and high"),
        ({"choices": []}, "at least 1 entry"),
        ({"choices": [0.1, 0.1]}, "duplicate choice: 0.1"),
        ({"choices": [2.5, "x", 0.1]}, "must be a number"),
        ({"low": True, "high": 2}, "must not be a boolean"),
        ({"low": 0, "high": 0.2, "intger": True}, "'integer'"),
        ({"low": 0, "high": 1.5}, "got 1.5"),
    ],
)
def test_an_invalid_parameter_is_refused(
    refusal: Callable[..., list[str]], parameter: dict[str, Any], part: str
) -> None:
    errors = refusal({"model.head.dropout": parameter})
    assert any(part in error for error in errors), errors
    assert all(error.startswith("space.model.head.dropout") for error in errors)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("training.batchsize", "'batch_size'"),
        ("stages.3.learning_rate", "'3'"),
        ("image.size.height", "24"),
        ("seed", "luckiest"),
        ("selection", "test split"),
        ("dataset.split_seed", "other images"),
        ("dataset.split.train", "other images"),
        ("training", "training.select"),
        ("", "is empty"),
    ],
)
def test_a_key_that_cannot_be_varied_is_refused(
    refusal: Callable[..., list[str]], key: str, part: str
) -> None:
    errors = refusal({key: {"choices": [1]}})
    assert any(error.startswith(f"space.{key}: ") and part in error for error in errors), errors


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ({"trials": 3}, ["space: missing"]),
        ({"spaec": SPACE}, ["spaec", "'space'", "space: missing"]),
        ({"space": {}}, ["space:", "at least 1"]),
        ({"space": None}, ["space:"]),
        ({"space": SPACE, "seeds": 3}, ["seeds", "'seed'"]),
        ({"space": SPACE, "seed": True}, ["seed:", "true"]),
        ({"space": {"model.head.dropout": [0, 0.3]}}, ["space.model.head.dropout:"]),
        ({"space": {3: {"choices": [1]}}}, ["space.3"]),
    ],
)
def test_a_space_with_unknown_or_missing_keys_is_refused(
    tmp_path: Path, document: dict[str, Any], parts: list[str]
) -> None:
    files = tmp_path / "base.yaml", tmp_path / "space.yaml"
    for path, content in zip(files, (BASE, document), strict=True):
        path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        plan_search(*files)
    says(caught.value, files[1], *parts)


def test_all_errors_are_listed(refusal: Callable[..., list[str]]) -> None:
    errors = refusal(
        {
            "training.batch_size": {"low": 0, "high": 64, "integer": True},
            "model.backbone": {"choices": ["cnn_compact", "cnn_compcat"]},
            "stages": {"choices": [BASE["stages"], [{"name": "all", "epochs": 0}]]},
            "stages.0.epochs": {"choices": [1, 2]},
        }
    )
    assert len(errors) == 5
    for key, part in (
        ("training.batch_size", "got 0"),
        ("model.backbone", "'cnn_compcat'"),
        ("stages.0.epochs", "got 0"),
        ("stages.0.learning_rate", "missing"),
        ("stages.0.epochs", "stages is varied as a whole"),
    ):
        assert any(key in error and part in error for error in errors), (key, part, errors)
    assert len(refusal(SPACE, trials=0, sede=1, pruning={"startup": 1})) == 3


def test_values_that_are_only_invalid_together_are_not_an_error_of_the_space(
    planned: Callable[..., Plan],
) -> None:
    # vgg16 needs 32 pixels; the experiment has 24.
    keys = {
        "model.backbone": {"choices": ["cnn_compact", "vgg16"]},
        "image.size": {"choices": [24, 96]},
    }
    assert list(planned(keys).space.space) == list(keys)


def test_parts_of_val_loss_are_not_varied_if_it_is_minimized(
    refusal: Callable[..., list[str]], planned: Callable[..., Plan]
) -> None:
    keys = {"training.valence_arousal_weight": {"low": 0.1, "high": 2}}
    assert planned(keys).direction == "up"
    lower = BASE | {"training": {"select": "val_loss"}}
    says(refusal(keys, lower)[0], "training.valence_arousal_weight", "val_loss")


def test_a_search_by_the_test_split_is_refused(planned: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(SPACE, BASE | {"selection": "test_split"})
    says(caught.value, "base.yaml", "test_split", "--set selection=validation")


def test_a_file_name_that_cannot_be_part_of_a_run_name_is_refused(tmp_path: Path) -> None:
    config, space = tmp_path / "base.yaml", tmp_path / "my space.yaml"
    config.write_text(yaml.safe_dump(BASE))
    space.write_text(yaml.safe_dump({"space": SPACE}))
    with pytest.raises(ConfigError) as caught:
        plan_search(config, space)
    says(caught.value, space, "name: ")


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "spaces").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_shipped_space_fits_the_experiment_that_it_names(path: Path, fer: Fer) -> None:
    command = next(line for line in path.read_text().splitlines() if line.startswith("#   fer "))
    words = command.removeprefix("#   fer ").split()
    files = [CONFIGS.parent / word if word.startswith("configs/") else word for word in words]
    result = fer(*files, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["left"] == yaml.safe_load(path.read_text())["trials"]


@given(st.sets(st.from_regex(r"[ab0-2](\.[ab0-2]){0,3}", fullmatch=True), min_size=1))
def test_short_names_are_ends_of_keys_and_differ(keys: set[str]) -> None:
    names = short_names(sorted(keys))
    assert len(set(names.values())) == len(keys)
    assert all(f".{key}".endswith(f".{name}") for key, name in names.items())


def test_values_are_shown_shortly() -> None:
    stages = [[{"name": "all", "epochs": epochs, "learning_rate": 0.1}] for epochs in (1, 2)]
    choices = Parameter(choices=(*stages, [128], "adam", None))
    assert [shown(choices, value) for value in choices.choices or ()] == [
        *("choice 1", "choice 2", "[128]", "adam", "null")
    ]
    numbers = Parameter(low=0, high=1)
    assert shown(numbers, 0.123456) == "0.123"
    assert short_names(["stages.0.epochs", "stages.1.epochs", "training.batch_size"]) == {
        "stages.0.epochs": "stages.0.epochs",
        "stages.1.epochs": "stages.1.epochs",
        "training.batch_size": "batch_size",
    }


def test_a_line_about_a_trial() -> None:
    parameters = {"model.head.dropout": Parameter(low=0, high=0.5)}
    trial = Trial(3, "running", 0.51239, 2, {"model.head.dropout": 0.25}, "a-s1-b", "")
    assert trial_line(trial, parameters) == "trial 3: 0.5124 resumes after epoch 2  dropout=0.25"
    begun = replace(trial, value=None, epochs=0)
    assert trial_line(begun, parameters) == "trial 3: restarts  dropout=0.25"
    failed = replace(begun, state="failed", message="no room\nfree some")
    assert trial_line(failed, parameters).splitlines() == [
        *("trial 3: failed  dropout=0.25", "no room", "free some")
    ]


# Trials ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_search_finds_what_is_best_and_writes_it_as_an_experiment(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(trials=16, seed=1)
    ended: list[Trial] = []
    result = search(plan, tmp_path / "outputs", run=make_up, on_trial=ended.append)
    assert [trial.number for trial in ended] == list(range(16))
    assert ended == list(result.trials)
    assert result.best == max(result.trials, key=lambda trial: trial.value or 0)
    assert 0.6 < (result.best.value or 0) < 0.8
    assert result.best.parameters["model.head.dense"] == []
    assert next(iter(result.importance)) == "stages.0.learning_rate"
    assert sum(result.importance.values()) == pytest.approx(1)

    experiment = load_experiment(result.best_config)
    assert experiment.run_id == result.best.run_id
    assert experiment.name == plan.study == "base_space"
    assert experiment.published == ()
    assert str(result.best.number) in result.best_config.read_text().splitlines()[0]


@pytest.mark.slow
def test_a_loss_is_minimized(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned(trials=4, base=BASE | {"training": {"select": "val_loss"}})

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        rate = yaml.safe_load(job.config)["stages"][0]["learning_rate"]
        write_history(job, [rate + 1, rate, rate + 2], "val_loss")
        return Outcome("finished", "", 0.0)

    result = search(plan, tmp_path, run=run)
    rates = [trial.parameters["stages.0.learning_rate"] for trial in result.trials]
    assert [trial.value for trial in result.trials] == pytest.approx(rates)
    assert result.best is not None
    assert result.best.value == pytest.approx(min(rates))


@pytest.mark.slow
def test_equal_parameters_are_one_run(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned({"model.head.dense": SPACE["model.head.dense"]}, trials=8)
    result = search(plan, tmp_path, run=make_up)
    runs = {json.dumps(trial.parameters): trial.run_id for trial in result.trials}
    assert len(set(runs.values())) == len(runs) <= 3
    assert all(trial.run_id == runs[json.dumps(trial.parameters)] for trial in result.trials)


@pytest.mark.slow
def test_several_trials_at_a_time(planned: Callable[..., Plan], tmp_path: Path) -> None:
    devices: set[tuple[str, int | None]] = set()
    busy: set[str] = set()
    two_at_once = threading.Event()

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        devices.add((job.device, job.threads))
        busy.add(job.run_id)
        if len(busy) == 2:
            two_at_once.set()
        assert two_at_once.wait(timeout=300)  # the first job waits for the second
        busy.discard(job.run_id)
        return make_up(job, stopped)

    result = search(planned(trials=5), tmp_path, Slots(2, ("gpu:0", "gpu:1"), 3), run=run)
    assert Counter(trial.state for trial in result.trials) == {"finished": 5}
    assert devices == {("gpu:0", 3), ("gpu:1", 3)}
    for slots, parts in (
        ((0,), ["--workers 0", "1"]),
        ((1, ("",)), ["--device ''", "gpu:<index>"]),
    ):
        with pytest.raises(FerError) as caught:
            Slots(*slots)
        says(caught.value, *parts)


def test_a_failed_trial_is_named_and_the_next_start_makes_another(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    started: list[str] = []

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        started.append(job.run_id)
        if len(started) in (1, 3):
            return Outcome("failed", "the loss is no number", 0.0)
        return make_up(job, stopped)

    plan = planned(trials=4)
    result = search(plan, tmp_path, run=run)
    assert [trial.number for trial in result.failed] == [0, 2]
    assert {trial.message for trial in result.failed} == {"the loss is no number"}
    assert (len(result.trials), result.left) == (4, 2)
    again = search(plan, tmp_path, run=run)
    assert (len(again.trials), again.left, len(again.failed)) == (6, 0, 2)
    assert essence(again.trials[:4]) == essence(result.trials)


@pytest.mark.slow
def test_values_that_are_invalid_together_fail_with_the_reason(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    keys = {
        "model.backbone": {"choices": ["cnn_compact", "vgg16"]},
        "image.size": {"choices": [24, 96]},
    }
    result = search(planned(keys, trials=12), tmp_path, run=make_up)
    states = {tuple(trial.parameters.values()): trial.state for trial in result.trials}
    assert states.pop(("vgg16", 24)) == "failed"
    assert set(states.values()) == {"finished"}
    for trial in result.failed:
        says(trial.message, "image.size", "vgg16", 32, 24)
    assert all(trial.run_id is None for trial in result.failed)


def test_an_epoch_without_a_value_does_not_count(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        write_history(job, [math.nan, 0.5] if len(done) == 0 else [math.nan, math.nan])
        done.append(job)
        return Outcome("finished", "", 0.0)

    done: list[Job] = []
    one, other = search(planned(trials=2), tmp_path, run=run).trials
    assert (one.state, one.value) == ("finished", 0.5)
    assert (other.state, other.value) == ("failed", None)
    says(other.message, "no value", "epoch")


def test_a_poor_trial_is_pruned_and_a_good_one_is_not(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    """The third and fourth are worse and better than the median of the first two."""
    values = iter((0.5, 0.6, 0.4, 0.7))

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        value = next(values)
        deadline = time.monotonic() + 300
        for epoch in range(1, EPOCHS):
            write_history(job, [value] * epoch)
        while value == 0.4 and time.monotonic() < deadline:
            if stopped():
                return Outcome("interrupted", "stopped", 0.0)
            time.sleep(0.01)
        write_history(job, [value] * EPOCHS)
        return Outcome("finished", "", 0.0)

    plan = planned(trials=4, pruning={"startup_trials": 2, "warmup_epochs": 2})
    result = search(plan, tmp_path, run=run)
    assert [trial.state for trial in result.trials] == [
        *("finished", "finished", "pruned", "finished")
    ]
    assert result.trials[2].value == 0.4
    assert result.trials[2].epochs < EPOCHS
    assert result.best == result.trials[3]
    # A pruned trial counts and is not repeated.
    assert essence(search(plan, tmp_path, run=run).trials) == essence(result.trials)


@pytest.mark.slow
def test_without_pruning_every_trial_is_trained_completely(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        write_history(job, [1 / (1 + len(list(tmp_path.iterdir())))] * (EPOCHS - 1))
        time.sleep(0.1)
        assert not stopped()
        return make_up(job, stopped)

    result = search(planned(trials=4), tmp_path, run=run)
    assert {trial.state for trial in result.trials} == {"finished"}


# Interruptions ---------------------------------------------------------------------------------

# A search in its own process that is killed in the middle of the given trial.
KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from fer_bench.sweep.search.search import plan_search, search
    from test_search import make_up, write_history

    def run(job, stopped):
        global left
        left -= 1
        if left < 0:
            write_history(job, [0.1, 0.2])
            os.kill(os.getpid(), signal.SIGKILL)
        return make_up(job, stopped)

    folder, left = Path(sys.argv[1]), int(sys.argv[2])
    search(plan_search(folder / "base.yaml", folder / "space.yaml"), folder / "cut", run=run)
    """
)


@pytest.mark.scale
def test_a_killed_search_resumes_with_the_same_trials(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(trials=13, seed=3)
    whole = search(plan, tmp_path / "whole", run=make_up)
    for trials in (2, 9):  # the second kill comes after the first trials, which are drawn at random
        here = Path(__file__).parent
        path = os.pathsep.join([str(here), str(here.parent), *sys.path])
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(trials)],
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert killed.returncode == -signal.SIGKILL
    before = trials_so_far(plan, tmp_path / "cut")
    assert [trial.state for trial in before] == [*["finished"] * 11, "running"]
    ended: list[Trial] = []
    result = search(plan, tmp_path / "cut", run=make_up, on_trial=ended.append)
    assert essence(result.trials) == essence(whole.trials)
    # First the trial is resumed, then it is finished.
    assert [(trial.number, trial.state) for trial in ended[:2]] == [
        *((11, "running"), (11, "finished"))
    ]


def test_a_signal_stops_the_runs_and_the_next_start_resumes(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    started: list[str] = []

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        started.append(job.run_id)
        if len(started) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            while not stopped():
                time.sleep(0.01)
            return Outcome("interrupted", "stopped", 0.0)
        return make_up(job, stopped)

    plan = planned(trials=5)
    with pytest.raises(Interrupted) as caught:
        search(plan, tmp_path, run=run)
    says(caught.value, "base_space", "2 of 5 trials", "same command")
    result = search(plan, tmp_path, run=run)
    assert [trial.state for trial in result.trials] == ["finished"] * 5
    assert started[3] == started[2]
    assert len(started) == 6


@pytest.mark.slow
def test_a_run_stopped_from_outside_ends_the_search_and_is_not_lost(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    outcomes = iter([Outcome("interrupted", "stopped at epoch 2", 0.0)])

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        return next(outcomes, None) or make_up(job, stopped)

    plan = planned(trials=2)
    with pytest.raises(Interrupted, match="0 of 2"):
        search(plan, tmp_path, run=run)
    assert [trial.state for trial in search(plan, tmp_path, run=run).trials] == ["finished"] * 2


def test_a_bug_in_one_run_stops_the_others(planned: Callable[..., Plan], tmp_path: Path) -> None:
    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        numbers.append(len(numbers))
        if numbers[-1] == 0:
            raise ZeroDivisionError
        deadline = time.monotonic() + 300
        while not stopped():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return Outcome("interrupted", "stopped", 0.0)

    numbers: list[int] = []
    with pytest.raises(ZeroDivisionError):
        search(planned(trials=2), tmp_path, Slots(2), run=run)


@pytest.mark.slow
def test_the_number_of_trials_counts_all_starts(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    assert len(search(planned(trials=2), tmp_path, run=make_up).trials) == 2
    more = search(planned(trials=5), tmp_path, run=make_up)
    assert len(more.trials) == 5
    assert essence(search(planned(trials=3), tmp_path, run=make_up).trials) == essence(more.trials)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": BASE | {"seed": 1, "image": {"size": 48}}}, "seed, image.size"),
        *(
            pytest.param({"space": SPACE | {key: {"choices": choices}}}, "the space", marks=SLOW)
            for key, choices in (("model.head.dropout", [0, 0.5]), ("model.head.dense", [[]]))
        ),
    ],
)
def test_a_study_is_not_continued_with_another_plan(
    planned: Callable[..., Plan], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    search(planned(trials=1), tmp_path, run=make_up)
    changed = planned(**{"trials": 2} | changes)
    for act in (
        lambda: search(changed, tmp_path, run=make_up),
        lambda: trials_so_far(changed, tmp_path),
    ):
        with pytest.raises(ConfigError) as caught:
            act()
        says(caught.value, changed.folder(tmp_path), f"other values of {words};")


def test_only_one_process_at_a_time_searches_a_study(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(trials=1)

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        with pytest.raises(RunError) as caught:
            search(plan, tmp_path, run=make_up)
        says(caught.value, plan.folder(tmp_path), f"process {os.getpid()} on ", "--workers")
        return make_up(job, stopped)

    assert search(plan, tmp_path, run=run).best is not None


def test_a_damaged_study_is_named(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned(trials=1)
    plan.folder(tmp_path).mkdir(parents=True)
    (plan.folder(tmp_path) / "study.db").write_text("this is not a database" * 99)
    with pytest.raises(RunError) as caught:
        search(plan, tmp_path, run=make_up)
    says(caught.value, plan.folder(tmp_path) / "study.db")


@pytest.mark.slow
def test_a_folder_with_special_characters_of_urls(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    outputs = tmp_path / "50% {new} #1?"
    assert search(planned(trials=1), outputs, run=make_up).best is not None
    assert list(outputs.rglob("study.db"))


# The command -----------------------------------------------------------------------------------


@pytest.fixture
def command(fer: Fer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call `fer sweep base.yaml --search space.yaml` with runs that do not train."""

    def call(*more: object, run: Run = make_up) -> CommandResult:
        monkeypatch.setitem(fer_bench.sweep.search.search.search.__kwdefaults__ or {}, "run", run)
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
        space = yaml.safe_dump({"space": SPACE, "trials": 9}, sort_keys=False)
        (tmp_path / "space.yaml").write_text(space)
        files = tmp_path / "base.yaml", "--search", tmp_path / "space.yaml"
        return fer("sweep", *files, "--outputs", tmp_path / "outputs", *more)

    return call


@pytest.mark.slow
def test_the_command_shows_each_trial_and_the_result(
    command: Callable[..., CommandResult], tmp_path: Path
) -> None:
    result = command()
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("trial ")]
    assert [line.split(":")[0] for line in lines] == [f"trial {number}" for number in range(9)]
    assert "finished  learning_rate=0." in lines[0]
    assert "optuna" not in result.stderr.lower()
    assert "9 trials, 9 finished" in result.stdout
    assert "importance" in result.stdout
    folder = tmp_path / "outputs" / "sweeps" / "base_space"
    best = load_experiment(folder / "best.yaml")
    assert f"fer evaluate {best.run_id} --outputs" in result.stderr
    assert f"fer train {folder / 'best.yaml'}" in result.stderr
    with Image.open(folder / "study.png") as picture:
        assert picture.width > 1000


def test_the_command_prints_one_document(command: Callable[..., CommandResult]) -> None:
    planned = json.loads(command("--dry-run", "--json").stdout)
    assert (planned["trials"], planned["left"], planned["finished"]) == (9, 9, 0)
    result = command("--json", "--trials", 2, "--set", "training.batch_size=7")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [run["number"] for run in document["runs"]] == [0, 1]
    assert document["best"] in document["runs"]
    assert load_experiment(Path(document["best_config"])).training.batch_size == 7
    assert document["importance"] == {}
    again = command("--dry-run", "--trials", 3, "--set", "training.batch_size=7")
    assert "3 trials: 2 finished, 0 pruned, 0 failed, 1 left" in again.stdout
    assert "stages.0.learning_rate: 0.0001 to 0.01, on a logarithmic scale" in again.stdout


@pytest.mark.slow
def test_the_command_ends_with_1_and_names_failed_trials(
    command: Callable[..., CommandResult], tmp_path: Path
) -> None:
    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        numbers.append(len(numbers))
        failed = Outcome("failed", "data/drawn: no such folder.\nDraw it.", 0.0)
        return failed if numbers[-1] < 3 else make_up(job, stopped)

    numbers: list[int] = []
    result = command("--trials", 2, run=run)
    assert result.exit_code == 1
    assert "failed: trial 1: data/drawn: no such folder.\nDraw it.\n  log: " in result.stderr
    says(result.stderr, "2 trials are missing")
    assert (tmp_path / "outputs" / "sweeps" / "base_space" / "study.png").is_file()
    assert command("--trials", 2, run=run).exit_code == 1  # one of them failed
    assert command("--trials", 2, run=run).exit_code == 0


@pytest.mark.parametrize(
    "more",
    [("--trials", 0), ("--workers", 0), ("--workers", -1), ("--device", ""), ("--set", "seed=x")],
)
def test_the_command_refuses_invalid_options(
    command: Callable[..., CommandResult], more: tuple[object, ...]
) -> None:
    result = command(*more)
    assert result.exit_code == 2
    says(result.stderr, "seed" if more[0] == "--set" else f"{more[0]} {more[1] or repr(more[1])}")


def test_without_optuna_the_command_names_the_package_to_install(
    command: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = command()
    assert result.exit_code == 2
    assert "pip install 'fer-bench[search]'" in result.stderr


@pytest.mark.slow
def test_a_plot_of_failed_trials(planned: Callable[..., Plan], tmp_path: Path) -> None:
    result = search(planned(trials=1), tmp_path, run=lambda *_: Outcome("failed", "no", 0.0))
    assert result.best is None
    assert not result.best_config.exists()
    draw_study(result, tmp_path / "study.png")
    with Image.open(tmp_path / "study.png") as picture:
        assert picture.format == "PNG"


# Real trainings --------------------------------------------------------------------------------


@pytest.fixture
def files(tiny: dict[str, Any], tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write an experiment that really trains, and a space."""

    def write(epochs: int, **space: Any) -> tuple[Path, Path]:
        stages = [{"name": "all", "epochs": epochs, "learning_rate": 1e-3}]
        paths = tmp_path / "tiny.yaml", tmp_path / "few.yaml"
        for path, document in zip(paths, (tiny | {"stages": stages}, space), strict=True):
            path.write_text(yaml.safe_dump(document, sort_keys=False))
        return paths

    return write


@pytest.mark.slow
@pytest.mark.scale
def test_a_pruned_run_says_that_it_was_interrupted(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """The first trial is made up and perfect; the second one is a training of 500 epochs."""
    rotation = {"image.augment.rotation": {"low": 0, "high": 0.1}}
    pruning = {"startup_trials": 1, "warmup_epochs": 1}
    plan = plan_search(*files(500, space=rotation, trials=2, pruning=pruning))

    def run(job: Job, stopped: Callable[[], bool]) -> Outcome:
        if any(tmp_path.glob("outputs/*/history.csv")):
            return run_job(job, stopped)
        write_history(job, [1.0] * 500)
        return Outcome("finished", "", 0.0)

    result = search(plan, tmp_path / "outputs", run=run)
    trial = result.trials[1]
    assert (trial.state, trial.message) == ("pruned", "")
    assert 2 <= trial.epochs < 500
    record = json.loads((tmp_path / "outputs" / str(trial.run_id) / "run.json").read_text())
    assert record["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.scale
def test_a_search_killed_in_a_training_ends_as_one_that_was_not(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    smoothing = {"training.label_smoothing": {"choices": [0, 0.1]}}
    config, space = files(3, space=smoothing, trials=3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, "-m", "fer_bench", "sweep", str(config), "--search", str(space)]
    subprocess.run([*command, "--outputs", str(whole)], check=True, capture_output=True)

    process = subprocess.Popen([*command, "--outputs", str(cut)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    try:
        while not list(cut.glob("*/history.csv")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    ended = subprocess.run(
        [*command, "--outputs", str(cut), "--json"], check=True, capture_output=True, text=True
    )
    assert "trial 0: resumes after epoch" in ended.stderr or "trial 0: restarts" in ended.stderr

    plan = plan_search(config, space)
    trials = trials_so_far(plan, cut)
    assert essence(trials) == essence(trials_so_far(plan, whole))
    assert json.loads(ended.stdout)["runs"] == [trial.to_json() for trial in trials]
    assert {trial.state for trial in trials} == {"finished"}
    # Of three trials with one of two values at least two are one run, which is trained once.
    runs = {trial.run_id for trial in trials}
    assert len(runs) < 3
    logs = [path.read_text() for path in whole.glob("sweeps/tiny_few/logs/*.log")]
    assert sum(log.count("$ fer train") for log in logs) == len(runs)
    assert not list(whole.rglob("predictions")), "nothing is evaluated in a search"
