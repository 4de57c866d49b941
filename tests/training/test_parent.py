"""Which run a longer one continues, and when it cannot."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from messages import says

from fer_bench.config.experiment import Experiment
from fer_bench.errors import FerError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import BestRecord, ParentRecord
from fer_bench.storage.files import write_json
from fer_bench.training.parent import advice_to_continue, find_parent, longer
from fer_bench.training.progress import Progress, StageProgress, read_progress


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def finished(
    config: Experiment, outputs: Path, progress: Progress | None = None, **more: Any
) -> RunDirectory:
    """A run that says of itself that it is finished."""
    run = RunDirectory(outputs / config.run_id)
    record = {
        "status": "finished",
        "state_kept": True,
        "best": {"epoch": 2, "metric": "val_loss", "value": 0.1},
        "stages": [{"name": stage.name, "epochs": stage.epochs} for stage in config.stages],
    }
    write_json(run.run_json, record | more)
    run.config.write_text(config.to_yaml())
    run.history.write_text("epoch,loss,val_macro_f1\n1,0.1,\n2,0.30000000000000004,0.5\n3,1,1\n")
    if progress:
        run.state.mkdir()
        write_json(run.state / "progress.json", asdict(progress))
        for name in progress.files:
            np.savez(run.state / name)
    return run


def saved(*stage_epochs: int, **more: Any) -> Progress:
    done: dict[str, Any] = {
        "epoch": sum(stage_epochs),
        "stage": len(stage_epochs) - 1,
        "optimizer": "o.npz",
        "history": [{"epoch": number + 1} for number in range(sum(stage_epochs))],
    }
    return Progress(list(stage_epochs), **(done | more))


def test_a_longer_experiment_differs_in_the_epochs_of_its_last_stage(
    experiment: Experiment,
) -> None:
    more = longer(experiment, 3)
    epochs = [stage.epochs for stage in experiment.stages]
    assert [stage.epochs for stage in more.stages] == [*epochs[:-1], epochs[-1] + 3]
    assert more.run_id != experiment.run_id
    assert longer(experiment, 0).run_id == experiment.run_id


def test_a_longer_run_continues_from_the_last_checkpoint(
    experiment: Experiment, outputs: Path
) -> None:
    run = finished(experiment, outputs, saved(1, 2))
    parent = find_parent(experiment, 4, outputs)
    assert parent.run == run
    assert parent.has_state
    assert parent.progress.stage_epochs == [1, 6]
    assert parent.progress.parent == ParentRecord(run_id=run.run_id, epoch=3, optimizer="kept")
    assert not parent.progress.done
    assert read_progress(run.state / "progress.json").parent is None


def test_a_stage_before_the_last_that_was_stopped_early_stays_as_short(
    experiment: Experiment, outputs: Path
) -> None:
    finished(longer(experiment, 1), outputs, saved(1, 3))
    assert find_parent(longer(experiment, 1), 1, outputs).progress.stage_epochs == [1, 4]


def test_without_a_checkpoint_it_continues_from_the_selected_model(
    experiment: Experiment, outputs: Path
) -> None:
    run = finished(experiment, outputs)
    parent = find_parent(experiment, 1, outputs)
    assert not parent.has_state
    assert parent.progress.epoch == 2
    assert parent.progress.stage_epochs == [1, 3]
    assert parent.progress.history == [
        {"epoch": 1, "loss": 0.1, "val_macro_f1": None},
        {"epoch": 2, "loss": 0.30000000000000004, "val_macro_f1": 0.5},
    ]
    assert parent.progress.best == BestRecord(epoch=2, metric="val_loss", value=0.1)
    assert parent.progress.parent == ParentRecord(run_id=run.run_id, epoch=2, optimizer="new")
    json.dumps(asdict(parent.progress), allow_nan=False)


def patient(experiment: Experiment) -> Experiment:
    *before, last = experiment.stages
    stages = (*before, last.model_copy(update={"patience": 2}))
    return experiment.model_copy(update={"stages": stages})


@pytest.mark.parametrize(
    "progress",
    [saved(1, 1), saved(1, 2, in_stage=StageProgress(epochs_without_better=2))],
    ids=["before its end", "at its end"],
)
def test_early_stopping_would_end_it_again(
    progress: Progress, experiment: Experiment, outputs: Path
) -> None:
    config = patient(experiment)
    finished(config, outputs, progress)
    with pytest.raises(FerError, match=r"(?s)early stopping.*patience.*model\.weights: run:"):
        find_parent(config, 1, outputs)


def test_there_must_be_a_finished_run(experiment: Experiment, outputs: Path) -> None:
    outputs.mkdir()
    with pytest.raises(FerError, match="no run called"):
        find_parent(experiment, 1, outputs)
    finished(experiment, outputs, saved(1, 2), status="interrupted")
    with pytest.raises(FerError, match=r"(?s)not finished \(status: interrupted\).*Finish it"):
        find_parent(experiment, 1, outputs)


def test_a_run_that_is_being_trained_is_no_parent(experiment: Experiment, outputs: Path) -> None:
    run = finished(experiment, outputs, saved(1, 2))
    with run.lock(), pytest.raises(FerError, match="being trained"):
        find_parent(experiment, 1, outputs)


@pytest.mark.parametrize(
    ("name", "content"),
    [("history.csv", ""), ("history.csv", None), ("run.json", '{"status": "finished"}')],
)
def test_a_run_that_does_not_say_how_it_was_trained_is_no_parent(
    name: str, content: str | None, experiment: Experiment, outputs: Path
) -> None:
    path = finished(experiment, outputs).path / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(FerError) as raised:
        find_parent(experiment, 1, outputs)
    says(raised.value, path.parent, name, "--fresh")


def test_shorter_runs_of_the_same_are_pointed_out(experiment: Experiment, outputs: Path) -> None:
    run = finished(experiment, outputs)
    finished(longer(experiment, 2), outputs, status="interrupted")
    finished(experiment.model_copy(update={"seed": 8}), outputs)
    finished(patient(experiment), outputs)
    broken = RunDirectory(outputs / f"{experiment.name}-s{experiment.seed}-00000000")
    write_json(broken.run_json, {"status": "finished"})
    (advice,) = advice_to_continue(longer(experiment, 5), outputs)
    says(advice, run.run_id, "2 of these 7 epochs", f"fer train {run.config} --more-epochs 5")
    assert list(advice_to_continue(experiment, outputs)) == []
