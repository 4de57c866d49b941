"""Save points: complete or not there, and restored bit for bit."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from messages import says

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import BestRecord
from fer_bench.storage.files import read_bounded
from fer_bench.training import checkpoint
from fer_bench.training.progress import Origin, Progress, StageProgress


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
        stage_epochs=[1, 2, 3],
        epoch=1,
        step=3,
        stage=1,
        totals=[1 / 3, 2.0, 5.0],
        history=[{"epoch": 1, "loss": 0.1 + 0.2}],
        best=BestRecord(epoch=1, metric="val_loss", value=1 / 7),
        in_stage=StageProgress(best_val_loss=1 / 9, epochs_without_better=2),
        origin=Origin("2026-01-02T03:04:05+00:00", None, "0" * 8),
    )


def at_epoch(progress: Progress, epoch: int) -> Progress:
    """Let the epochs up to `epoch` be completed."""
    progress.epoch, progress.step = epoch, 0
    progress.history = [{"epoch": number + 1, "loss": 0.1} for number in range(epoch)]
    return progress


def found(run: RunDirectory) -> Progress:
    """The checkpoint, in which nothing is damaged."""
    there = checkpoint.find(run)
    assert there is not None
    assert there.problems == ()
    return there.progress


def values(variables: Any) -> list[Any]:
    return [np.array(variable.value) for variable in variables]


def test_progress_comes_back_to_the_last_bit(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    assert asdict(found(run)) == asdict(progress)


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


def test_each_array_file_is_read_once_to_restore_it(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its check and its use another program could change it."""
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    opened: list[str] = []

    def counting(path: Path, most: int) -> bytes:
        opened.append(path.name)
        return read_bounded(path, most)

    monkeypatch.setattr(checkpoint, "read_bounded", counting)
    monkeypatch.setattr(checkpoint, "_digest", None)
    checkpoint.restore(run, progress, "model", model.variables)
    assert opened == progress.weights


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_array_file_that_is_no_file_is_named(
    kind: str, run: RunDirectory, model: Any, optimizer: Any
) -> None:
    """It hung, or filled the memory."""
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    for path in run.state.glob("*weights-*.npz"):
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    with pytest.raises(RunError) as refused:
        checkpoint.find(run)
    says(refused.value, progress.weights[1], kind)
    with pytest.raises(RunError) as refused:
        checkpoint.restore(run, progress, "model", model.variables)
    says(refused.value, progress.weights[1], kind)


def test_the_two_newest_checkpoints_stay(run: RunDirectory, model: Any, optimizer: Any) -> None:
    progress = some_progress()
    for progress.step in (1, 2, 3):
        checkpoint.save(run, progress, model, optimizer)
    points = ("00001-0000002", "00001-0000003")
    assert set(stored(run)) == {
        *("progress.json", "progress-before.json", "still-001.npz", "copy-of-still-001.npz"),
        *(f"{kind}-{point}.npz" for kind in ("weights", "optimizer") for point in points),
    }


def test_of_a_finished_run_the_newest_one_stays(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    for progress.step in (1, 2):
        checkpoint.save(run, progress, model, optimizer)
    checkpoint.keep_newest(run, progress)
    assert set(stored(run)) == {"progress.json", *progress.files}
    assert asdict(found(run)) == asdict(progress)


def test_of_a_finished_run_both_stay_if_the_newest_is_damaged(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    for progress.step in (1, 2):
        checkpoint.save(run, progress, model, optimizer)
    before = set(stored(run))
    (run.state / progress.weights[1]).write_bytes(b"")
    checkpoint.keep_newest(run, progress)
    assert set(stored(run)) == before


def test_nothing_saved_is_no_checkpoint(run: RunDirectory) -> None:
    assert not checkpoint.exists(run)
    assert checkpoint.find(run) is None


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
    progress.step = 1
    checkpoint.save(run, progress, model, optimizer)
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
    at_epoch(progress, 2).stage = 2
    fill(model, 2.0)
    checkpoint.save(run, progress, model, optimizer)
    back = found(run)
    checkpoint.restore(run, back, "best", model.variables)
    assert (values(model.variables)[0] == 1.0).all()
    checkpoint.restore(run, back, "model", model.variables)
    assert (values(model.variables)[0] == 2.0).all()
    checkpoint.save(run, at_epoch(progress, 3), model, optimizer, is_best=True)
    assert set(best) <= set(stored(run))  # for the checkpoint before the newest
    checkpoint.save(run, at_epoch(progress, 4), model, optimizer)
    assert not set(best) & set(stored(run))


def test_the_newest_model_is_written_once_where_it_is_the_best(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    arrays = {"still-001.npz", "weights-00001-0000003.npz", "optimizer-00001-0000003.npz"}
    copies = {f"copy-of-{name}" for name in arrays}
    assert set(stored(run)) == {"progress.json", "progress-before.json"} | arrays | copies


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


def save_three(run: RunDirectory, progress: Progress, model: Any, optimizer: Any) -> None:
    """The best epoch of one stage, one of the next stage that is better, and one that is not."""
    fill(model, 1.0)
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    at_epoch(progress, 2).stage = 2
    fill(model, 2.0)
    checkpoint.save(run, progress, model, optimizer, is_best=True)
    fill(model, 3.0)
    checkpoint.save(run, at_epoch(progress, 3), model, optimizer)


# Of the first: three arrays, their copies, progress.json and progress-before.json. Of the second:
# three arrays and those two. Of the third: two arrays, copies of what stays and of the best, and
# those two.
FIRST, SECOND, THIRD = 8, 5, 6


def test_a_checkpoint_writes_so_many_files(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next test lets every one of them fail."""
    replaced = kill_at(monkeypatch, 99)
    save_three(run, some_progress(), model, optimizer)
    assert len(replaced) == FIRST + SECOND + THIRD


@pytest.mark.parametrize("number", range(FIRST + SECOND + THIRD))
def test_a_kill_before_any_file_leaves_a_checkpoint_that_fits_together(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            save_three(run, some_progress(), model, optimizer)
    fill(model, 9.0)
    if number < FIRST - 1:  # before its progress.json
        assert not checkpoint.exists(run)
        return
    back, epoch = found(run), 1 + (number >= FIRST + 4) + (number >= FIRST + SECOND + 5)
    assert back.epoch == epoch
    for kind, value in (("model", epoch), ("best", min(epoch, 2))):
        checkpoint.restore(run, back, kind, model.variables)
        assert (values(model.variables)[0] == value).all()
    checkpoint.restore(run, back, "optimizer", optimizer.variables)
    # The next two checkpoints replace it, and no file of the killed one is left.
    best = set(back.best_weights)
    for back.step in (1, 2):
        checkpoint.save(run, back, model, optimizer, STILL if epoch == 1 else ())
    points = (f"{epoch:05d}-0000001", f"{epoch:05d}-0000002")
    shared = {back.weights[0], *best}
    assert set(stored(run)) == {
        *("progress.json", "progress-before.json", *shared),
        *(f"copy-of-{name}" for name in shared),
        *(f"{kind}-{point}.npz" for kind in ("weights", "optimizer") for point in points),
    }
    assert found(run).step == 2


@pytest.mark.parametrize("number", range(FIRST, FIRST + SECOND + THIRD))
def test_after_a_kill_a_damaged_file_leaves_an_intact_checkpoint(
    run: RunDirectory, model: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            save_three(run, some_progress(), model, optimizer)
    for path in [path for path in run.state.iterdir() if not path.name.startswith(".")]:
        content = path.read_bytes()
        path.write_bytes(b"")
        there = checkpoint.find(run)
        assert there is not None
        for kind in ("model", "best"):
            checkpoint.restore(run, there.progress, kind, model.variables)
        path.write_bytes(content)


# Damage -----------------------------------------------------------------------------------------


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Something else that can be read: other arrays, or an older version's document."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            other = {name: arrays[name] + 1 for name in arrays}
        with path.open("wb") as file:
            np.savez(file, **other)
    else:
        path.write_text('{"stage_epochs": [1, 2, 3], "epoch": 0}')


DAMAGES = [empty, cut, flip, remove, replace]
KINDS = ["progress", "optimizer", "weights", "still", "best"]


def named(progress: Progress, kind: str) -> str:
    """The file of a checkpoint."""
    return {
        "progress": "progress.json",
        "optimizer": progress.optimizer,
        "still": progress.weights[0],
        "weights": progress.weights[1],
        "best": progress.best_weights[1],
    }[kind]


def three_saved(run: RunDirectory, model: Any, optimizer: Any) -> Progress:
    """Three checkpoints of one stage, the first of them the best."""
    progress = some_progress()
    for number in (1, 2, 3):
        fill(model, float(number))
        progress.step = number
        checkpoint.save(run, progress, model, optimizer, (2,), is_best=number == 1)
    return progress


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_every_file_is_named_and_costs_one_checkpoint_at_most(
    damage: Callable[[Path], None], kind: str, run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = three_saved(run, model, optimizer)
    name = named(progress, kind)
    damage(run.state / name)
    there = checkpoint.find(run)
    assert there is not None
    says("\n".join(there.problems), run.state / name)
    is_shared = kind in ("still", "best")  # by both, so that there is a copy
    assert there.is_before == (not is_shared)
    step = 3 if is_shared else 2
    assert there.progress.step == step
    for which, value in (("model", step), ("best", 1)):
        checkpoint.restore(run, there.progress, which, model.variables)
        assert (values(model.variables)[0] == value).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_checkpoint_survives_a_damaged_file_too(
    kind: str, run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    remove(run.state / named(progress, kind))
    there = checkpoint.find(run)
    assert there is not None
    assert there.progress.step == progress.step
    checkpoint.mend(run, there.progress)
    checkpoint.save(run, there.progress, model, optimizer, STILL)
    assert asdict(found(run)) == asdict(there.progress)


def test_a_file_with_a_copy_is_mended(run: RunDirectory, model: Any, optimizer: Any) -> None:
    path = run.state / three_saved(run, model, optimizer).weights[0]
    content = path.read_bytes()
    flip(path)
    there = checkpoint.find(run)
    assert there is not None
    checkpoint.mend(run, there.progress)
    assert path.read_bytes() == content
    assert found(run).step == 3


def test_after_the_older_one_was_used_it_stays_beside_the_next_one(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = three_saved(run, model, optimizer)
    flip(run.state / progress.weights[1])
    there = checkpoint.find(run)
    assert there is not None
    there.progress.step = 3
    checkpoint.save(run, there.progress, model, optimizer, (2,))
    assert found(run).step == 3
    flip(run.state / there.progress.weights[1])
    again = checkpoint.find(run)
    assert again is not None
    assert again.progress.step == 2


def test_if_none_is_intact_every_file_is_named_and_nothing_is_changed(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = three_saved(run, model, optimizer)
    damaged = [run.state / "progress.json", run.state / "optimizer-00001-0000002.npz"]
    for path in damaged:
        flip(path)
    before = {path: path.read_bytes() for path in run.state.iterdir()}
    with pytest.raises(RunError) as raised:
        checkpoint.find(run)
    says(raised.value, *damaged, "--fresh")
    assert {path: path.read_bytes() for path in run.state.iterdir()} == before
    with pytest.raises(RunError) as raised:
        checkpoint.restore(run, progress, "optimizer", [*optimizer.variables, *model.variables])
    says(raised.value, run.state)


def test_all_workers_take_the_checkpoint_that_is_intact_for_all(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    three_saved(run, model, optimizer)
    answers = iter([False, True])  # another worker does not find the newest one intact
    there = checkpoint.find(run, lambda _: next(answers))
    assert there is not None
    assert there.progress.step == 2
    says(there.problems[0], run.state / "progress.json", "another worker")
    with pytest.raises(RunError) as raised:
        checkpoint.find(run, lambda _: False)
    says(raised.value, "progress.json", "progress-before.json", "--fresh")


# Checkpoints of older versions ------------------------------------------------------------------


def as_older(run: RunDirectory) -> None:
    """What a version without digests would have left."""
    path = run.state / "progress.json"
    document = json.loads(path.read_text())
    for key in ("digest", "digests", "origin"):
        del document[key]
    path.write_text(json.dumps(document))
    for other in run.state.glob("*"):
        if other.name == "progress-before.json" or other.name.startswith("copy-of-"):
            other.unlink()


def test_a_checkpoint_without_digests_is_resumed_and_the_next_one_has_them(
    run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer, STILL, is_best=True)
    as_older(run)
    back = found(run)
    assert back.digests == {}
    checkpoint.restore(run, back, "model", model.variables)
    back.step += 1
    checkpoint.save(run, back, model, optimizer, STILL)
    assert set(found(run).digests) == back.files
    flip(run.state / back.optimizer)
    there = checkpoint.find(run)
    assert there is not None
    assert there.progress.step == progress.step


@pytest.mark.parametrize("damage", DAMAGES[:-1])
def test_its_damaged_arrays_are_noticed_too(
    damage: Callable[[Path], None], run: RunDirectory, model: Any, optimizer: Any
) -> None:
    progress = some_progress()
    checkpoint.save(run, progress, model, optimizer)
    as_older(run)
    damage(run.state / progress.weights[1])
    with pytest.raises(RunError) as raised:
        checkpoint.find(run)
    says(raised.value, run.state / progress.weights[1], "--fresh")
