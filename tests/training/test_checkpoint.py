"""Save points: complete or not there, and restored bit for bit."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.training import checkpoint
from fer_bench.training.checkpoint import Progress, StageProgress


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
    checkpoint.save(run, progress, model, optimizer)
    back = checkpoint.read_progress(run)
    assert back is not None
    assert asdict(back) == asdict(progress)


def test_variables_come_back_to_the_last_bit_with_the_seeds_of_dropout(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    saved = values(model.variables) + values(optimizer.variables)
    assert any("seed" in v.path for v in model.variables)
    checkpoint.save(run, progress, model, optimizer)
    for variable in [*model.variables, *optimizer.variables]:
        variable.assign(np.zeros(variable.shape, np.array(variable.value).dtype))
    checkpoint.restore(run, progress, "model", model.variables)
    checkpoint.restore(run, progress, "optimizer", optimizer.variables)
    for before, after in zip(
        saved, values(model.variables) + values(optimizer.variables), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_only_the_newest_save_point_stays(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    for progress.step in (1, 2, 3):
        checkpoint.save(run, progress, model, optimizer)
    named = {progress.optimizer, *progress.weights, "progress.json"}
    assert {path.name for path in run.state.iterdir()} == named


def test_a_kill_between_the_two_files_leaves_the_older_pair(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_json", killed)
    progress.step = 9
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(run, progress, model, optimizer)
    back = checkpoint.read_progress(run)
    assert back is not None
    assert back.step == 3
    checkpoint.restore(run, back, "model", model.variables)


def test_nothing_saved_is_no_progress(run: RunDirectory) -> None:
    assert checkpoint.read_progress(run) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"in_stage": {}, "more": 1}'])
def test_damaged_progress_is_an_error_that_says_what_to_do(run: RunDirectory, text: str) -> None:
    run.state.mkdir(parents=True)
    (run.state / "progress.json").write_text(text)
    with pytest.raises(RunError, match=r"(?s)progress\.json.*--fresh"):
        checkpoint.read_progress(run)


def test_damaged_arrays_are_an_error_that_says_what_to_do(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    path = run.state / progress.weights[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"(?s)weights-00001-0000003\.npz.*--fresh"):
        checkpoint.restore(run, progress, "model", model.variables)


def test_arrays_of_another_model_are_refused(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    with pytest.raises(RunError, match=r"shape"):
        checkpoint.restore(run, progress, "model", other.variables)


# What stays still, and the best -------------------------------------------------------------------

STILL = (0, 1)  # of the variables of the model: kernel, bias, seed of dropout


def fill(model: Any, number: float) -> None:
    """Give what moves the value `number`."""
    for variable in model.variables[:2]:
        variable.assign(np.full(variable.shape, number, np.float32))


def stored(run: RunDirectory) -> dict[str, float]:
    """The modification time of each file of the checkpoint."""
    return {path.name: path.stat().st_mtime_ns for path in run.state.iterdir()}


def test_what_stays_still_is_written_once_a_stage(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL)
    first, still = stored(run), progress.weights[0]
    progress.step += 1
    checkpoint.save(run, progress, model, optimizer, STILL)
    assert progress.weights[0] == still
    assert stored(run)[still] == first[still]
    with np.load(run.state / progress.weights[1]) as arrays:
        assert not {"0", "1"} & set(arrays)
    progress.stage, progress.step = 2, 0
    checkpoint.save(run, progress, model, optimizer)
    assert progress.weights[0] != still
    assert still not in stored(run)
    with np.load(run.state / progress.weights[1]) as arrays:
        assert {"0", "1"} <= set(arrays)


def test_the_best_of_an_earlier_stage_stays_until_there_is_a_better_one(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    fill(model, 1.0)
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    best = list(progress.best_weights)
    progress.stage, progress.epoch = 2, 2
    fill(model, 2.0)
    checkpoint.save(run, progress, model, optimizer)
    back = checkpoint.read_progress(run)
    assert back is not None
    checkpoint.restore(run, back, "best", model.variables)
    assert (values(model.variables)[0] == 1.0).all()
    checkpoint.restore(run, back, "model", model.variables)
    assert (values(model.variables)[0] == 2.0).all()
    progress.epoch = 3
    checkpoint.save(run, progress, model, optimizer, is_best=True)
    assert not set(best) & set(stored(run))


def test_the_newest_model_is_written_once_where_it_is_the_best(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    assert len(stored(run)) == 4  # what stays, what moves, the optimizer, progress.json


@pytest.mark.parametrize("still", [(), STILL], ids=["all moves", "some stays"])
def test_the_best_comes_back_and_so_does_the_newest(
    run: RunDirectory, model: Any, optimizer: Any, still: tuple[int, ...]
) -> None:
    progress = some_progress()
    fill(model, 1.0)
    seeds = values(model.variables)[2:]
    checkpoint.save(run, progress, model, optimizer, still, is_best=True)
    if not still:
        fill(model, 2.0)
    model.variables[2].assign([5, 6])
    progress.step = 9
    checkpoint.save(run, progress, model, optimizer, still)
    fill(model, 3.0)
    checkpoint.restore(run, progress, "best", model.variables)
    for variable in model.variables[:2]:
        np.testing.assert_array_equal(variable.value, np.full(variable.shape, 1.0))
    np.testing.assert_array_equal(values(model.variables)[2:], seeds)
    checkpoint.restore(run, progress, "model", model.variables)
    newest = 1.0 if still else 2.0
    for variable in model.variables[:2]:
        np.testing.assert_array_equal(variable.value, np.full(variable.shape, newest))
    np.testing.assert_array_equal(model.variables[2].value, [5, 6])


class Killed(BaseException):
    """As a kill: nothing catches it."""


def kill_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the process end before the file `number` from now on is in its place."""
    replaced: list[str] = []
    replace = Path.replace

    def replace_or_die(path: Path, target: Any) -> Path:
        if len(replaced) == number:
            raise Killed
        replaced.append(Path(target).name)
        return replace(path, target)

    patch.setattr(Path, "replace", replace_or_die)
    return replaced


def save_two(run: RunDirectory, progress: Progress, model: Any, optimizer: Any) -> None:
    """The best epoch of one stage, and then one of the next stage that is better."""
    fill(model, 1.0)
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    progress.stage, progress.epoch, progress.step = 2, 2, 0
    fill(model, 2.0)
    checkpoint.save(run, progress, model, optimizer, is_best=True)


def test_a_save_point_writes_so_many_files(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next test lets every one of them fail."""
    replaced = kill_at(monkeypatch, 99)
    save_two(run, some_progress(), model, optimizer)
    assert len(replaced) == FILES


FILES = 8  # of two save points: what moves, the optimizer, what stays and progress.json


@pytest.mark.parametrize("number", range(FILES))
def test_a_kill_before_any_file_leaves_a_save_point_that_fits_together(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            save_two(run, some_progress(), model, optimizer)
    fill(model, 9.0)
    back = checkpoint.read_progress(run)
    if number < FILES // 2:
        assert back is None
        return
    assert back is not None
    assert back.stage == 1
    for kind in ("model", "best"):
        checkpoint.restore(run, back, kind, model.variables)
        assert (values(model.variables)[0] == 1.0).all()
    checkpoint.restore(run, back, "optimizer", optimizer.variables)
    # The next checkpoint replaces it, and no file of the killed one is left.
    back.step += 1
    checkpoint.save(run, back, model, optimizer, STILL)
    named = {"progress.json", back.optimizer, *back.weights, *back.best_weights}
    assert set(stored(run)) == named


def test_a_missing_file_of_what_stays_still_is_an_error(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL)
    (run.state / progress.weights[0]).unlink()
    with pytest.raises(RunError, match=r"(?s)still-001\.npz.*cannot be read.*--fresh"):
        checkpoint.restore(run, progress, "model", model.variables)
