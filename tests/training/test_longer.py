"""`fer train --more-epochs`: a finished run continues, and ends as one longer run would have."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from messages import says
from same_run import TIMES
from typer.testing import Result

from fer_bench.training import session
from fer_bench.training import steps as steps_module

pytestmark = pytest.mark.slow

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
Document = dict[str, Any]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def document(tiny: Document, epochs: int, **last: Any) -> Document:
    """Two stages, the last one of so many epochs, with dropout, BatchNorm and augmentation."""
    head, rest = tiny["stages"]
    stage = {key: value for key, value in rest.items() if key != "schedule"}
    return tiny | {"stages": [head, stage | {"epochs": epochs} | last]}


def train(fer: Fer, config: Path, outputs: Path, *more: object) -> tuple[Path, str]:
    """Train; returns the folder of the run, and what was printed on stderr."""
    result = fer("train", config, "--outputs", outputs, *more)
    assert result.exit_code == 0, result.output
    return outputs / result.stdout.strip().splitlines()[-1], result.stderr


def record(run: Path) -> Document:
    found: Document = json.loads((run / "run.json").read_text())
    return found


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv").drop(columns=TIMES)


def weights(run: Path) -> list[Any]:
    model = keras.models.load_model(run / "model.keras", compile=False)
    return list(model.get_weights())


def assert_same(first: Path, second: Path) -> None:
    """Weights bit for bit, the optimizer too, and history but for the clock."""
    pd.testing.assert_frame_equal(history(first), history(second), check_exact=True)
    for one, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(one, other)
    names = [{path.name for path in run.glob("state/*.npz")} for run in (first, second)]
    assert names[0] == names[1]
    for name in names[0]:
        with np.load(first / "state" / name) as one, np.load(second / "state" / name) as other:
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])
    for part in ("best", "stages", "model", "dataset"):
        assert record(first)[part] == record(second)[part]


PLATEAU = {
    "learning_rate": 1e-30,  # next to nothing changes: the plateau is reached before and after
    "schedule": "plateau",
    "plateau_patience": 1,
    "plateau_factor": 0.5,
}


@pytest.mark.parametrize(
    "last",
    [{}, {"optimizer": "sgd", "momentum": 0.9, "patience": 9}, PLATEAU],
    ids=["adam", "sgd", "plateau"],
)
def test_n_and_m_epochs_end_as_n_plus_m_bit_for_bit(
    last: Document, fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(document(tiny, 2, **last))
    parent, _ = train(fer, config, outputs)
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    child, log = train(fer, config, outputs, "--more-epochs", 2)
    says(log, "continuing from", parent.name, "epoch 3")
    assert {path: path.read_bytes() for path in before} == before
    whole, log = train(fer, write_config(document(tiny, 4, **last)), outputs.parent / "whole")
    assert "--more-epochs" not in log
    assert child.name == whole.name != parent.name
    assert_same(child, whole)
    assert list(history(child)["epoch"]) == [1, 2, 3, 4, 5]
    expected = {"run_id": parent.name, "epoch": 3, "optimizer": "kept"}
    assert record(child)["parent"] == expected
    assert record(parent)["parent"] is record(whole)["parent"] is None
    assert record(child)["seconds"] >= record(parent)["seconds"]


def test_a_longer_run_that_was_stopped_resumes_from_its_own_checkpoint(
    fer: Fer,
    write_config: WriteConfig,
    tiny: Document,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_config(document(tiny, 1))
    parent, _ = train(fer, config, outputs)
    whole, _ = train(fer, write_config(document(tiny, 2)), outputs.parent / "whole")
    build, count = steps_module.build_train_steps, iter(range(1, 100))

    def build_counting(*arguments: Any) -> Any:
        steps = build(*arguments)

        def counting(*batch: Any) -> None:
            steps(*batch)
            if next(count) == 3:
                os.kill(os.getpid(), signal.SIGINT)

        return counting

    with monkeypatch.context() as patch:
        patch.setattr(steps_module, "build_train_steps", build_counting)
        patch.setattr(session, "SECONDS_PER_CALL", 0)
        stopped = fer("train", config, "--outputs", outputs, "--more-epochs", 1)
    assert stopped.exit_code == 130
    shutil.rmtree(parent)  # it is not needed any more
    child, log = train(fer, config, outputs, "--more-epochs", 1)
    assert "resuming at epoch 3, step 3" in log
    assert_same(child, whole)
    assert record(child)["parent"]["run_id"] == parent.name
    again = fer("train", config, "--outputs", outputs, "--more-epochs", 1)
    assert again.exit_code == 0
    assert "is finished" in again.stderr


def test_without_its_state_a_run_continues_from_the_selected_model_with_a_warning(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    small = document(tiny, 2, schedule="cosine")
    config = write_config(small | {"training": small["training"] | {"keep_state_mb": 0}})
    parent, _ = train(fer, config, outputs)
    assert not (parent / "state").exists()
    assert record(parent)["state_kept"] is False
    best = record(parent)["best"]["epoch"]
    child, log = train(fer, config, outputs, "--more-epochs", 1)
    says(log, "warning: ", "checkpoint", "training.keep_state_mb", "cosine", "3 epochs")
    assert record(child)["parent"] == {"run_id": parent.name, "epoch": best, "optimizer": "new"}
    rows = history(child)
    assert list(rows["epoch"]) == [1, 2, 3, 4]
    pd.testing.assert_frame_equal(rows[:best], history(parent)[:best], check_exact=True)
    evaluated = fer("evaluate", child.name, "--outputs", outputs, "--split", "validation")
    assert evaluated.exit_code == 0, evaluated.output
    metrics = json.loads((child / "metrics" / "validation.json").read_text())
    kept = rows.set_index("epoch").loc[record(child)["best"]["epoch"]]
    assert metrics["accuracy"]["value"] == pytest.approx(kept["val_accuracy"], abs=1e-9)
    assert f"{parent.name} after epoch {best}" in (child / "report.html").read_text()
    evaluated = fer("evaluate", child.name, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    compared = fer("compare", outputs, "--html", outputs / "page.html", "--json")
    (group,) = json.loads(compared.stdout)["groups"]
    assert [run["parent"] for run in group["runs"]] == [parent.name]
    sentence = f"{child.name} continues {parent.name}"
    assert sentence in (outputs / "page.html").read_text()
    assert sentence in " ".join(fer("compare", outputs).stdout.split())


def test_a_longer_run_starts_again_only_from_its_parent(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    config = write_config(document(tiny, 1))
    parent, _ = train(fer, config, outputs)
    child, _ = train(fer, config, outputs, "--more-epochs", 1)
    first = history(child)
    again, log = train(fer, config, outputs, "--more-epochs", 1, "--fresh")
    assert again == child
    says(log, "continuing from", parent.name)
    pd.testing.assert_frame_equal(history(again), first, check_exact=True)
    assert {path.name for path in outputs.iterdir()} == {parent.name, child.name}


def test_a_shorter_run_is_pointed_out(
    fer: Fer, write_config: WriteConfig, tiny: Document, outputs: Path
) -> None:
    parent, _ = train(fer, write_config(document(tiny, 1)), outputs)
    whole, log = train(fer, write_config(document(tiny, 2)), outputs)
    says(log, parent.name, "1 of these 2", f"fer train {parent / 'config.yaml'} --more-epochs 1")
    assert list(history(whole)["epoch"]) == [1, 2, 3]
    assert record(whole)["parent"] is None
