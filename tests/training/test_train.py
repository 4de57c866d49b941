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
from messages import says
from same_run import assert_same_run, record
from typer.testing import Result

from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.cache import entries
from fer_bench.training import session
from fer_bench.training import steps as steps_module

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def run_in(outputs: Path) -> Path:
    (run,) = (path.parent for path in outputs.glob("*/run.json"))
    return run


def send_at_step(monkeypatch: pytest.MonkeyPatch, number: int, which: signal.Signals) -> None:
    """Let the process send itself a signal after `number` steps, counted over all stages."""
    build, count = steps_module.build_train_steps, iter(range(1, 1000))

    def build_counting(*arguments: Any) -> Any:
        step = build(*arguments)

        def counting(batches: Any, rates: Any, first_step: int) -> None:
            assert len(rates) == 1
            step(batches, rates, first_step)
            if next(count) == number:
                os.kill(os.getpid(), which)

        return counting

    monkeypatch.setattr(steps_module, "build_train_steps", build_counting)
    monkeypatch.setattr(session, "SECONDS_PER_CALL", 0)  # one step in each call


@pytest.mark.budget(15)
@pytest.mark.parametrize(
    ("number", "which"),
    [
        (3, signal.SIGINT),
        pytest.param(4, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(7, signal.SIGINT, marks=pytest.mark.slow),
    ],
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
    assert "resuming at epoch" in resumed.stderr
    assert_same_run(run_in(outputs), trained_run)


@pytest.mark.slow
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
from fer_bench import cli
from fer_bench.models import inference
from fer_bench.training import session, steps as training_steps

left = {"steps": int(sys.argv.pop(1)), "answers": int(sys.argv.pop(1))}

def count(what):
    left[what] -= 1
    if left[what] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def build_counting(*arguments):
    step = build(*arguments)

    def counting(*batch):
        step(*batch)
        count("steps")

    return counting

def answers_counting(*arguments):
    for answer in answers(*arguments):
        yield answer
        count("answers")

build, answers = training_steps.build_train_steps, inference.answers
training_steps.build_train_steps, inference.answers = build_counting, answers_counting
inference.prediction_batch = lambda *_: 16
session.SECONDS_PER_CALL = 0
cli.main()
"""


def train_in_a_process(
    config: Path, outputs: Path, *, steps: int = 0, answers: int = 0, cache: Path | None = None
) -> int:
    """Train in a new process; its return code.

    Args:
        config: what to train.
        outputs: where to.
        steps: it is killed after so many steps; 0: not.
        answers: it is killed after so many batches of images are answered; 0: not.
        cache: its cache; None: that of the tests.
    """
    arguments = [str(steps), str(answers), "train", str(config), "--outputs", str(outputs)]
    environment = os.environ | ({"FER_BENCH_CACHE": str(cache)} if cache else {})
    return subprocess.run(
        [sys.executable, "-c", KILLED_AFTER, *arguments],
        capture_output=True,
        check=False,
        env=environment,
    ).returncode


def steps_done(outputs: Path, steps: int) -> int:
    """How many steps are in the checkpoint of the only run, given the steps per epoch."""
    progress = next(iter(outputs.glob("*/state/progress.json")), None)
    reached = json.loads(progress.read_text()) if progress else {"epoch": 0, "step": 0}
    return int(reached["epoch"] * steps + reached["step"])


@pytest.mark.scale
def test_a_run_killed_five_times_ends_bit_identical(
    write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    # In the arithmetic that users get by default here.
    config = write_config(tiny | {"training": tiny["training"] | {"precision": "auto"}})
    steps = 4  # of an epoch: 72 training images in batches of 16
    assert train_in_a_process(config, tmp_path / "whole") == 0
    seed = random.randrange(2**32)
    # In the first stage, inside its only epoch; then anywhere in the second, over its boundary.
    kills = [
        random.Random(seed).randint(1, 3),
        *sorted(random.Random(seed).sample(range(5, 12), 4)),
    ]
    for kill in kills:
        left = kill - steps_done(tmp_path / "cut", steps)
        code = train_in_a_process(config, tmp_path / "cut", steps=left)
        assert code == -signal.SIGKILL, f"killed at {kills}, seed {seed}"
    assert train_in_a_process(config, tmp_path / "cut") == 0
    assert_same_run(run_in(tmp_path / "whole"), run_in(tmp_path / "cut"))


@pytest.mark.large
def test_a_run_killed_with_its_frozen_layers_half_kept_ends_bit_identical(
    write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = write_config(ladder(tiny))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train_in_a_process(config, whole, cache=tmp_path / "cache of whole") == 0
    cache, steps = tmp_path / "cache", 4
    # 72 images in batches of 16 go up to re_lu_8, then from there to head_pool.
    assert train_in_a_process(config, cut, answers=3, cache=cache) == -signal.SIGKILL
    assert list((cache / "trunk").glob(".making-*"))
    seed = random.randrange(2**32)
    kills = [steps * stage + random.Random(seed + stage).randint(1, 3) for stage in (0, 1)]
    for kill in kills:
        left = kill - steps_done(cut, steps)
        code = train_in_a_process(config, cut, steps=left, cache=cache)
        assert code == -signal.SIGKILL, f"killed at {kills}, seed {seed}"
    assert train_in_a_process(config, cut, cache=cache) == 0
    assert_same_run(run_in(whole), run_in(cut))
    assert not list((cache / "trunk").glob(".making-*"))


@pytest.mark.slow
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


@pytest.mark.slow
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
    says(failed.stderr, "finite", where, "stage 'wild'", "learning rate 10", "gradient_clip")
    assert record(run_in(outputs))["status"] == "failed"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_statistics_that_cannot_follow_are_warned_of(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    document = tiny | {
        "model": tiny["model"] | {"batch_norm_momentum": 0.99},
        "stages": [tiny["stages"][0] | {"train": "all"}],
    }
    _, log = trained(fer, write_config(document), outputs)
    assert "warning: BatchNorm of cnn_compact averages over about 100 steps" in log


@pytest.mark.slow
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
        {"name": "still", "epochs": 3, "frozen_up_to": "head_pool"},
        {"name": "head", "epochs": 1, "frozen_up_to": "head_pool"},
    ]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", [pytest.param("bfloat16", marks=pytest.mark.bfloat16), "float16"]
)
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
    # With 8 or 11 bits, two of the classes of an image may be as likely, and rounding decides.
    assert metrics["accuracy"]["value"] == pytest.approx(best, abs=2.5 / metrics["n"])


@pytest.mark.slow
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
    assert metrics["nll"]["value"] == pytest.approx(row["val_loss"], rel=1e-4)
    assert best["value"] == row["val_macro_f1"]


@pytest.mark.slow
def test_selection_on_the_test_split_is_recorded_with_a_warning(
    tiny: dict[str, Any], fer: Fer, write_config: WriteConfig, outputs: Path
) -> None:
    chosen = tiny | {"selection": "test_split"}
    chosen["dataset"] = tiny["dataset"] | {"validation": None}
    trained = fer("train", write_config(chosen), "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    says(trained.stderr, "warning: selection: test_split", "test images")
    run = run_in(outputs)
    assert record(run)["selection"] == "test_split"
    assert "validation" not in record(run)["dataset"]["counts"]
    evaluated = fer("evaluate", run.name, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    says(evaluated.stderr, "warning: ", "on the test split")
    metrics = json.loads((run / "metrics" / "test.json").read_text())
    assert metrics["protocol"]["selection"] == "test_split"
    assert any("on the test split" in warning for warning in metrics["warnings"])
    assert "temperature" not in metrics  # nothing is left to fit it on
    history = pd.read_csv(run / "history.csv")
    best = history.loc[history["epoch"] == record(run)["best"]["epoch"]].iloc[0]
    assert best["val_accuracy"] == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)


# What is computed once ---------------------------------------------------------------------------


def ladder(tiny: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Head, then the last five layers, then all of them, on images without random changes."""
    trains: list[Any] = ["head", {"last": 5}, "all"]
    stages = [
        {"name": str(number), "train": train, "epochs": 1, "learning_rate": 1e-3}
        for number, train in enumerate(trains)
    ]
    return tiny | {"image": {"size": 24}, "stages": stages} | changes


def frozen_rungs(tiny: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The stages of the ladder that have something frozen."""
    document = ladder(tiny, **changes)
    return document | {"stages": document["stages"][:2]}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def frozen_lines(messages: str) -> list[str]:
    """What was printed about frozen layers that were computed, a line per trunk and split."""
    return [line for line in messages.splitlines() if line.startswith("frozen layers up to ")]


def trained(fer: Fer, config: Path, outputs: Path, *more: str) -> tuple[Path, str]:
    """Train; returns the folder of the run, and what was printed on stderr."""
    result = fer("train", config, "--outputs", outputs, *more)
    assert result.exit_code == 0, result.output
    return outputs / result.stdout.strip().splitlines()[-1], result.stderr


def assert_same_within(first: Path, second: Path, tolerance: float) -> None:
    one, other = (
        keras.models.load_model(run / "model.keras", compile=False).weights
        for run in (first, second)
    )
    for left, right in zip(one, other, strict=True):
        expected = np.asarray(right.value, np.float64)
        difference = np.linalg.norm(np.asarray(left.value) - expected)
        assert difference <= tolerance * np.linalg.norm(expected), left.path
    assert record(first)["best"]["epoch"] == record(second)["best"]["epoch"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "model", "dataset"),
    [
        (
            24,
            {"backbone": "cnn_compact", "targets": ["expression", "valence_arousal"]},
            {"expand": 80, "balance": "oversample"},
        ),
        # Dropout and BatchNorm are in its frozen part, and compute as at test time either way.
        pytest.param(46, {"backbone": "cnn_slides"}, {}, marks=pytest.mark.large),
    ],
    ids=["cnn_compact", "cnn_slides"],
)
def test_keeping_frozen_features_changes_nothing(
    size: int,
    model: dict[str, Any],
    dataset: dict[str, Any],
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    outputs: Path,
    own_cache: Path,
) -> None:
    pooling = "none" if model["backbone"] == "cnn_slides" else "avg"
    head = {"pooling": pooling, "dense": [8], "dropout": 0.3}
    document = ladder(
        tiny,
        image={"size": size},
        model=model | {"head": head},
        dataset=tiny["dataset"] | dataset,
    )
    for stage in document["stages"]:
        stage["optimizer"] = "sgd"  # Adam makes a step of a difference in rounding
    kept, log = trained(fer, write_config(document | {"cache": {"trunk": "exact"}}), outputs)
    assert len(frozen_lines(log)) == 4  # two trunks of two splits
    computed, log = trained(fer, write_config(document | {"cache": {"trunk": "off"}}), outputs)
    assert frozen_lines(log) == []
    assert_same_within(kept, computed, 1e-5)
    frozen = [stage["frozen_up_to"] for stage in record(kept)["stages"]]
    assert frozen == [stage["frozen_up_to"] for stage in record(computed)["stages"]]
    assert frozen[2] is None
    assert None not in frozen[:2]


@pytest.mark.slow
def test_a_second_run_of_a_ladder_computes_no_frozen_layer_again(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path, own_cache: Path
) -> None:
    first, log = trained(fer, write_config(frozen_rungs(tiny), "first"), outputs)
    for images in ("train images: 72", "validation images: 24"):
        for end in ("re_lu_8", "head_pool"):
            assert f"frozen layers up to {end}, {images} done" in frozen_lines(log)
    assert len(frozen_lines(log)) == 4
    second, log = trained(fer, write_config(frozen_rungs(tiny), "second"), outputs)
    assert "decoding" not in log
    assert frozen_lines(log) == []
    assert_same_run(first, second)
    # A damaged entry is made again, and nothing changes.
    for entry in entries(["trunk"]):
        path = entry.path / "values.bin"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    third, log = trained(fer, write_config(frozen_rungs(tiny), "third"), outputs)
    assert log.count("warning: a cached array is damaged and is made again") == 4
    assert len(frozen_lines(log)) == 4
    assert_same_run(first, third)


@pytest.mark.slow
def test_without_room_frozen_layers_are_computed_each_time_with_a_warning(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path, own_cache: Path
) -> None:
    document = frozen_rungs(tiny, cache={"max_gb": 0})
    run, log = trained(fer, write_config(document), outputs)
    assert log.count("the cache has no room") == 2  # once for each stage with a trunk
    says(log, "head_pool", "train and validation images", "cache.max_gb", "now 0")
    assert frozen_lines(log) == []
    assert entries(["trunk", "images"]) == []
    roomy, log = trained(fer, write_config(frozen_rungs(tiny)), outputs, "--fresh")
    assert roomy == run
    assert "no room" not in log


@pytest.mark.slow
def test_of_random_images_only_the_validation_split_is_kept(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path, own_cache: Path
) -> None:
    document = tiny | {"stages": tiny["stages"][:1]}
    run, log = trained(fer, write_config(document), outputs)
    assert frozen_lines(log) == ["frozen layers up to head_pool, validation images: 24 done"]
    assert record(run)["trunk_views"] == 1


@pytest.mark.slow
def test_fixed_views_are_shared_by_runs_of_every_seed(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    outputs: Path,
    own_cache: Path,
) -> None:
    shutil.copytree(trained_run, outputs / trained_run.name)
    document = tiny | {
        "model": tiny["model"] | {"weights": f"run:{trained_run.name}"},
        "stages": [tiny["stages"][0] | {"epochs": 2}],
        "cache": {"trunk": {"views": 3}},
    }
    first, log = trained(fer, write_config(document), outputs)
    done = f"frozen layers up to head_pool, train images: {3 * 72} done"
    assert done in log
    assert record(first)["trunk_views"] == 3
    second, log = trained(fer, write_config(document | {"seed": 8}), outputs)
    assert frozen_lines(log) == []
    losses = [pd.read_csv(run / "history.csv")["loss"] for run in (first, second)]
    assert (losses[0] != losses[1]).all()


@pytest.mark.large
def test_two_runs_at_once_compute_the_frozen_layers_once(
    write_config: WriteConfig, tiny: dict[str, Any], outputs: Path, own_cache: Path
) -> None:
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", "from fer_bench import cli; cli.main()", "train"),
                *(str(write_config(ladder(tiny), name)), "--outputs", str(outputs)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    log = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], log
    assert sum(len(frozen_lines(text)) for text in log) == 4
    assert_same_run(*(run.parent for run in outputs.glob("*/run.json")))


@pytest.mark.slow
def test_the_best_model_of_an_earlier_stage_is_the_one_that_is_kept(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], outputs: Path
) -> None:
    good, bad = tiny["stages"][0], {"name": "bad", "epochs": 2, "learning_rate": 0.5}
    document = tiny | {
        "training": tiny["training"] | {"select": "val_loss", "keep_state_mb": 0},
        "stages": [good, bad],
    }
    run, _ = trained(fer, write_config(document), outputs)
    assert record(run)["best"]["epoch"] == 1
    assert not (run / "state").exists()
    only_good = document | {"stages": [good]}
    expected, _ = trained(fer, write_config(only_good, "good"), outputs)
    models = [
        keras.models.load_model(each / "model.keras", compile=False) for each in (run, expected)
    ]
    for left, right in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
