"""A whole run: what it leaves, and that no interruption changes it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from fer_bench import loop
from fer_bench.rundir import RunDirectory

pytestmark = pytest.mark.slow

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
TIMES = ["images_per_second", "seconds"]


@pytest.fixture(autouse=True)
def float32_outside() -> Any:
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def run_in(outputs: Path) -> Path:
    (run,) = (path.parent for path in outputs.glob("*/run.json"))
    return run


def record(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "run.json").read_text())
    return document


def assert_same_run(first: Path, second: Path) -> None:
    """Weights bit for bit, and history but for the clock."""
    one, other = (pd.read_csv(run / "history.csv").drop(columns=TIMES) for run in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    models = [
        keras.models.load_model(run / "model.keras", compile=False) for run in (first, second)
    ]
    for weights in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(*weights)
    for part in ("best", "model", "dataset", "stages"):
        assert record(first)[part] == record(second)[part]


def send_at_step(monkeypatch: pytest.MonkeyPatch, number: int, which: signal.Signals) -> None:
    """Let the process send itself a signal after `number` steps, counted over all stages."""
    build, count = loop.build_train_step, iter(range(1, 1000))

    def build_counting(*arguments: Any) -> Any:
        step = build(*arguments)

        def counting(*batch: Any) -> None:
            step(*batch)
            if next(count) == number:
                os.kill(os.getpid(), which)

        return counting

    monkeypatch.setattr(loop, "build_train_step", build_counting)


@pytest.mark.parametrize(
    ("number", "which"),
    [(3, signal.SIGINT), (4, signal.SIGTERM), (7, signal.SIGINT)],
    ids=["inside the first stage", "on the boundary of stages", "inside the second stage"],
)
def test_a_signal_saves_and_the_next_call_ends_with_the_same_run(
    number: int,
    which: signal.Signals,
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_config(tiny)
    with monkeypatch.context() as patch:
        send_at_step(patch, number, which)
        stopped = fer("train", config, "--outputs", outputs)
    assert stopped.exit_code == 130
    assert "stopped" in stopped.stderr
    assert record(run_in(outputs))["status"] == "interrupted"
    resumed = fer("train", config, "--outputs", outputs)
    assert resumed.exit_code == 0, resumed.output
    assert "going on" in resumed.stderr
    assert_same_run(run_in(outputs), trained_run)


def test_an_interrupted_run_does_not_go_on_with_other_data(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    copied_root: Path,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_config(tiny | {"dataset": tiny["dataset"] | {"root": str(copied_root)}})
    with monkeypatch.context() as patch:
        send_at_step(patch, 3, signal.SIGINT)
        assert fer("train", config, "--outputs", outputs).exit_code == 130
    image = next(copied_root.glob("train/*/*.png"))
    image.write_bytes(image.read_bytes() + b"more")
    refused = fer("train", config, "--outputs", outputs)
    assert refused.exit_code == 2
    assert "not the one" in refused.stderr
    assert "--fresh" in refused.stderr


KILLED_AFTER = """
import os, signal, sys
from fer_bench import cli, loop

build, left = loop.build_train_step, int(sys.argv.pop(1))

def build_counting(*arguments):
    step = build(*arguments)

    def counting(*batch):
        global left
        step(*batch)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return counting

loop.build_train_step = build_counting
cli.main()
"""


def train_in_a_process(kill_after: int, config: Path, outputs: Path) -> int:
    """Train in a new process, killed after that many steps (0: never); its return code."""
    arguments = [str(kill_after), "train", str(config), "--outputs", str(outputs)]
    return subprocess.run(
        [sys.executable, "-c", KILLED_AFTER, *arguments], capture_output=True, check=False
    ).returncode


def test_a_run_killed_five_times_ends_bit_identical(
    write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    # In the arithmetic that users get by default here.
    config = write_config(tiny | {"training": tiny["training"] | {"precision": "auto"}})
    steps = 4  # of an epoch: 72 training images in batches of 16
    assert train_in_a_process(0, config, tmp_path / "whole") == 0
    seed = random.randrange(2**32)
    # In the first stage, inside its only epoch; then anywhere in the second, over its boundary.
    kills = [
        random.Random(seed).randint(1, 3),
        *sorted(random.Random(seed).sample(range(5, 12), 4)),
    ]
    for kill in kills:
        progress = next(iter((tmp_path / "cut").glob("*/state/progress.json")), None)
        reached = json.loads(progress.read_text()) if progress else {"epoch": 0, "step": 0}
        done = reached["epoch"] * steps + reached["step"]
        code = train_in_a_process(kill - done, config, tmp_path / "cut")
        assert code == -signal.SIGKILL, f"killed at {kills}, seed {seed}"
    assert train_in_a_process(0, config, tmp_path / "cut") == 0
    assert_same_run(run_in(tmp_path / "whole"), run_in(tmp_path / "cut"))


def test_a_finished_run_is_left_alone_and_fresh_begins_again(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    short = tiny | {"stages": tiny["stages"][:1]}
    config = write_config(short)
    first = fer("train", config, "--outputs", outputs)
    started = (run_in(outputs) / "model.keras").stat().st_mtime_ns
    again = fer("train", config, "--outputs", outputs)
    assert again.exit_code == 0
    assert "finished" in again.stderr
    assert first.stdout == again.stdout == f"{run_in(outputs).name}\n"
    assert (run_in(outputs) / "model.keras").stat().st_mtime_ns == started
    assert fer("train", config, "--outputs", outputs, "--fresh").exit_code == 0
    assert (run_in(outputs) / "model.keras").stat().st_mtime_ns > started


def test_a_second_process_on_one_run_is_refused_by_name(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], trained_run: Path
) -> None:
    with RunDirectory(trained_run).lock():
        refused = fer("train", write_config(tiny), "--outputs", trained_run.parent, "--fresh")
    assert refused.exit_code == 2
    assert f"process {os.getpid()} on" in refused.stderr
    assert (trained_run / "model.keras").exists()


@pytest.mark.parametrize(
    ("penalty", "where"),
    [(10.0, "epoch 2, validation"), (1e6, "epoch 1, step")],
    ids=["in validation", "in a step"],
)
def test_numbers_that_explode_stop_the_run_and_it_says_where(
    penalty: float,
    where: str,
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    outputs: Path,
) -> None:
    # Each step multiplies the penalised kernel by 1 - 10 * 2 * penalty.
    stage = {
        "name": "wild",
        "train": "head",
        "epochs": 9,
        "learning_rate": 10.0,
        "optimizer": "sgd",
    }
    document = tiny | {
        "model": {"backbone": "cnn_compact", "head": {"dense": [8], "l2": penalty}},
        "stages": [stage],
    }
    failed = fer("train", write_config(document), "--outputs", outputs)
    assert failed.exit_code == 2, failed.output
    assert "no longer" in failed.stderr
    assert where in failed.stderr
    assert "learning rate 10" in failed.stderr
    assert record(run_in(outputs))["status"] == "failed"


@pytest.mark.parametrize(
    "balance",
    [
        {"balance": "undersample", "per_class": 5},
        {"balance": "class_weights", "expand": 90},
        {"balance": ["oversample", "class_weights"], "allow_double_balance": True, "per_class": 7},
    ],
)
def test_every_balance_trains(
    balance: dict[str, Any],
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    outputs: Path,
) -> None:
    document = tiny | {
        "dataset": tiny["dataset"] | balance,
        "stages": tiny["stages"][:1],
    }
    result = fer("train", write_config(document), "--outputs", outputs)
    assert result.exit_code == 0, result.output


def test_training_says_what_reading_the_data_found(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path, drawn_root: Path
) -> None:
    labels = pd.read_csv(drawn_root / "labels.csv")
    fear = labels[labels["label"] == "fear"]
    fear[["sample_id"]].to_csv(outputs.parent / "fear.csv", index=False)
    document = tiny | {
        "dataset": tiny["dataset"] | {"exclude": str(outputs.parent / "fear.csv")},
        "stages": tiny["stages"][:1],
    }
    result = fer("train", write_config(document), "--outputs", outputs)
    assert result.exit_code == 0, result.output
    assert "classes of this dataset have no image here and are left out: fear" in result.stderr
    assert record(run_in(outputs))["dataset"]["classes"].count("fear") == 0


def test_early_stopping_ends_a_stage_and_the_next_one_follows(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    # A learning rate of next to nothing changes no validation loss for the better for long.
    stopping = {
        "name": "still",
        "train": "head",
        "epochs": 30,
        "learning_rate": 1e-30,
        "patience": 2,
    }
    document = tiny | {"stages": [stopping, tiny["stages"][0]]}
    result = fer("train", write_config(document), "--outputs", outputs)
    assert result.exit_code == 0, result.output
    history = pd.read_csv(run_in(outputs) / "history.csv")
    assert list(history["stage"]) == ["still"] * 3 + ["head"]
    assert record(run_in(outputs))["stages"] == [
        {"name": "still", "epochs": 3},
        {"name": "head", "epochs": 1},
    ]


def test_plateau_reduces_the_learning_rate(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    stage = {
        "name": "flat",
        "train": "head",
        "epochs": 4,
        "learning_rate": 1e-30,
        "schedule": "plateau",
        "plateau_patience": 1,
        "plateau_factor": 0.5,
    }
    assert (
        fer("train", write_config(tiny | {"stages": [stage]}), "--outputs", outputs).exit_code == 0
    )
    rates = pd.read_csv(run_in(outputs) / "history.csv")["learning_rate"]
    np.testing.assert_allclose(rates / 1e-30, [1, 1, 0.5, 0.25], rtol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_its_model_evaluates(
    precision: str, fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    document = tiny | {
        "training": tiny["training"] | {"precision": precision},
        "stages": tiny["stages"][:1],
    }
    trained = fer("train", write_config(document), "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    run = run_in(outputs)
    assert record(run)["precision"] == precision
    evaluated = fer("evaluate", run.name, "--outputs", outputs, "--split", "validation")
    assert evaluated.exit_code == 0, evaluated.output
    metrics = json.loads((run / "metrics" / "validation.json").read_text())
    best = pd.read_csv(run / "history.csv")["val_accuracy"].iloc[-1]
    assert metrics["accuracy"]["value"] == pytest.approx(best, abs=1e-9)


def test_history_says_what_the_selected_model_does(
    fer: Fer, trained_run: Path, outputs: Path
) -> None:
    shutil.copytree(trained_run, outputs / trained_run.name)
    done = fer("evaluate", trained_run.name, "--outputs", outputs, "--split", "validation")
    assert done.exit_code == 0, done.output
    metrics = json.loads((outputs / trained_run.name / "metrics" / "validation.json").read_text())
    best = record(trained_run)["best"]
    row = pd.read_csv(trained_run / "history.csv").set_index("epoch").loc[best["epoch"]]
    assert metrics["accuracy"]["value"] == pytest.approx(row["val_accuracy"], abs=1e-9)
    assert metrics["macro_f1"]["value"] == pytest.approx(row["val_macro_f1"], abs=1e-9)
    assert metrics["nll"]["value"] == pytest.approx(row["val_loss"], rel=1e-5)
    assert best["value"] == row["val_macro_f1"]


def test_a_model_chosen_on_the_test_split_says_so(
    tiny: dict[str, Any], fer: Fer, write_config: WriteConfig, outputs: Path
) -> None:
    chosen = tiny | {"selection": "test_split"}
    chosen["dataset"] = tiny["dataset"] | {"validation": None}
    trained = fer("train", write_config(chosen), "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    assert "the test images choose the model" in trained.stderr
    run = run_in(outputs)
    assert record(run)["selection"] == "test_split"
    assert "validation" not in record(run)["dataset"]["counts"]
    evaluated = fer("evaluate", run.name, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    assert "chosen on the test split" in evaluated.stderr
    metrics = json.loads((run / "metrics" / "test.json").read_text())
    assert metrics["protocol"]["selection"] == "test_split"
    assert any("chosen on the test split" in warning for warning in metrics["warnings"])
    assert "temperature" not in metrics  # nothing is left to fit it on
    history = pd.read_csv(run / "history.csv")
    best = history.loc[history["epoch"] == record(run)["best"]["epoch"]].iloc[0]
    assert best["val_accuracy"] == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)
