"""Save points: complete or not there, and restored bit for bit."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fer_bench import state
from fer_bench.errors import RunError
from fer_bench.rundir import RunDirectory
from fer_bench.state import Progress, StageProgress


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def model() -> Any:
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(inputs)))


@pytest.fixture
def optimizer(model: Any) -> Any:
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    return optimizer


def some_progress() -> Progress:
    return Progress(
        stage_epochs=[1, 2],
        epoch=1,
        step=3,
        stage=1,
        totals=[1 / 3, 2.0, 5.0],
        history=[{"epoch": 1, "loss": 0.1 + 0.2}],
        best={"epoch": 1, "metric": "val_loss", "value": 1 / 7},
        in_stage=StageProgress(best_val_loss=1 / 9, epochs_without_better=2),
    )


def values(variables: Any) -> list[Any]:
    return [np.array(variable.value) for variable in variables]


def test_progress_comes_back_to_the_last_bit(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    state.save(run, progress, model, optimizer)
    back = state.read_progress(run)
    assert back is not None
    assert asdict(back) == asdict(progress)


def test_variables_come_back_to_the_last_bit_with_the_seeds_of_dropout(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    saved = values(model.variables) + values(optimizer.variables)
    assert any("seed" in v.path for v in model.variables)
    state.save(run, progress, model, optimizer)
    for variable in [*model.variables, *optimizer.variables]:
        variable.assign(np.zeros(variable.shape, np.array(variable.value).dtype))
    state.restore(run, progress, "model", model.variables)
    state.restore(run, progress, "optimizer", optimizer.variables)
    for before, after in zip(
        saved, values(model.variables) + values(optimizer.variables), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_only_the_newest_save_point_stays(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    for progress.step in (1, 2, 3):
        state.save(run, progress, model, optimizer)
    assert {path.name for path in run.state.iterdir()} == {progress.arrays, "progress.json"}


def test_a_kill_between_the_two_files_leaves_the_older_pair(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = some_progress()
    state.save(run, progress, model, optimizer)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "write_json", killed)
    progress.step = 9
    with pytest.raises(KeyboardInterrupt):
        state.save(run, progress, model, optimizer)
    back = state.read_progress(run)
    assert back is not None
    assert back.step == 3
    state.restore(run, back, "model", model.variables)


def test_nothing_saved_is_no_progress(run: RunDirectory) -> None:
    assert state.read_progress(run) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"in_stage": {}, "more": 1}'])
def test_damaged_progress_is_an_error_that_says_what_to_do(run: RunDirectory, text: str) -> None:
    run.state.mkdir(parents=True)
    (run.state / "progress.json").write_text(text)
    with pytest.raises(RunError, match=r"(?s)progress\.json.*--fresh"):
        state.read_progress(run)


def test_damaged_arrays_are_an_error_that_says_what_to_do(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    state.save(run, progress, model, optimizer)
    path = run.state / progress.arrays
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"(?s)arrays-00001-0000003\.npz.*--fresh"):
        state.restore(run, progress, "model", model.variables)


def test_arrays_of_another_model_are_refused(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    state.save(run, progress, model, optimizer)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    with pytest.raises(RunError, match=r"shape"):
        state.restore(run, progress, "model", other.variables)
