"""One trained run, seen through the Python API and through the commands."""

import doctest
import importlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from messages import says
from typer.testing import Result

import fer_bench
from fer_bench.display import NoDisplay
from fer_bench.errors import ConfigError, DeviceError, RunError
from fer_bench.registry import BACKBONES, DATASETS


@pytest.fixture
def here(
    trained_run: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with `configs/drawn_compact.yaml` and its finished run in `outputs`."""
    shutil.copytree(trained_run, tmp_path / "outputs" / trained_run.name)
    (tmp_path / "configs").mkdir()
    document = yaml.safe_dump({"name": "tiny", **tiny})
    (tmp_path / "configs" / "drawn_compact.yaml").write_text(document)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Lines(NoDisplay):
    """A display that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.closed = False

    def message(self, text: str) -> None:
        self.messages.append(text)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def _registries() -> Iterator[None]:
    registries = (DATASETS, BACKBONES)
    before = [(dict(one._entries), set(one._added)) for one in registries if one.names()]
    yield
    for registry, (entries, added) in zip(registries, before, strict=True):
        registry._entries, registry._added = entries, added


PARTS = ("comparison", "evaluation", "experiments", "metrics", "plugins", "runs", "training")


@pytest.mark.usefixtures("_registries")
@pytest.mark.parametrize("part", PARTS)
def test_the_examples_of_the_docstrings_run(here: Path, part: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"fer_bench.api.{part}"))
    assert outcome.attempted
    assert not outcome.failed


def test_a_run_and_what_it_left(here: Path, trained_run: Path) -> None:
    run = fer_bench.open_run("tiny", here / "outputs")
    assert run == fer_bench.open_run(Path("outputs", trained_run.name))
    assert (run.id, run.status) == (trained_run.name, "finished")
    assert run.experiment.run_id == run.id
    assert run.record["status"] == "finished"
    assert run.history["epoch"].tolist() == [1, 2, 3]
    predictions, metrics = run.predictions("test"), run.metrics("test")
    assert len(predictions) == metrics.n
    right = (predictions["predicted"] == predictions["label"]).mean()
    assert metrics.accuracy.value == pytest.approx(right)
    assert np.trace(metrics.confusion_matrix) == round(right * metrics.n)
    says(repr(run), run.id, "finished")
    says(run._repr_html_(), run.id, "finished", "test")


def test_the_model_is_a_keras_model(here: Path) -> None:
    import keras

    assert isinstance(fer_bench.open_run("latest").model(), keras.Model)


def test_what_is_not_there_is_named(here: Path) -> None:
    run = fer_bench.open_run("latest")
    for call in (run.metrics, run.predictions, run.corruptions):
        with pytest.raises(RunError) as error:
            call("train")
        says(error.value, run.id, "train", "test", "fer_bench.evaluate")
    (run.path / "model.keras").unlink()
    with pytest.raises(RunError) as error:
        run.model()
    says(error.value, run.id, "model.keras")


@pytest.mark.parametrize("name", ["history.csv", "metrics/test.json", "predictions/test.csv"])
def test_what_is_no_file_is_named_and_never_opened(here: Path, name: str) -> None:
    """The history was read by pandas: `/dev/zero` filled the memory."""
    run = fer_bench.open_run("latest")
    path = run.path / name
    path.unlink()
    path.symlink_to("/dev/zero")
    reads: dict[str, Callable[[], Any]] = {
        "history.csv": lambda: run.history,
        "metrics/test.json": run.metrics,
        "predictions/test.csv": run.predictions,
    }
    with pytest.raises(RunError) as error:
        reads[name]()
    says(error.value, name)


@pytest.mark.slow
def test_the_commands_and_the_functions_give_the_same_numbers(
    here: Path, fer: Callable[..., Result]
) -> None:
    by_command = json.loads(fer("evaluate", "latest", "--json").stdout)
    display = Lines()
    run = fer_bench.train("configs/drawn_compact.yaml", progress=display)
    metrics = fer_bench.evaluate(run, progress=display)
    assert metrics.document == by_command
    assert dict(metrics) == dict(run.metrics("test"))
    assert not display.closed
    assert (run.path / "report.html").is_file()
    says(" ".join(display.messages), run.id, "--fresh")
    comparison = fer_bench.compare([run])
    assert comparison.to_text("json") == fer("compare", run.id, "--json").stdout
    (row,) = comparison.to_frame().to_dict("records")
    assert row["accuracy"] == pytest.approx(metrics.accuracy.value)
    says(comparison._repr_html_(), run.id, "<table>")
    for shown in (run, run.metrics("test"), comparison):
        headings = re.findall(r"<th[^>]*>([^<]*)", shown._repr_html_())
        assert headings
        assert all(headings), "a heading is empty"
    says(repr(comparison), "1 runs", "test")


def test_an_experiment_with_other_values() -> None:
    path = Path(__file__).parents[2] / "configs" / "transfer_last20.yaml"
    stage = fer_bench.load_experiment(path).stages[0].name
    experiment = fer_bench.load_experiment(
        path,
        seed=2,
        image={"size": 64},
        **{"training.batch_size": 16, f"stages.{stage}.epochs": 9, "dataset.root": Path("faces")},
    )
    assert (experiment.seed, experiment.training.batch_size) == (2, 16)
    assert (experiment.stages[0].epochs, experiment.dataset.root) == (9, Path("faces"))
    assert experiment.image.size == 64


def test_a_wrong_override_is_named() -> None:
    path = Path(__file__).parents[2] / "configs" / "drawn_compact.yaml"
    with pytest.raises(ConfigError) as error:
        fer_bench.load_experiment(path, **{"training.batchsize": 16})
    says(error.value, path, "batchsize", "batch_size")
    with pytest.raises(ConfigError) as error:
        fer_bench.load_experiment(path, **{"stages.9.epochs": 1})
    says(error.value, "stages.9.epochs=1", "'9'")


@pytest.mark.parametrize(
    "call",
    [
        lambda: fer_bench.evaluate("latest", "tset"),
        lambda: fer_bench.evaluate("latest", views="filp"),  # type: ignore[arg-type]
        lambda: fer_bench.evaluate("latest", class_rule="mask"),  # type: ignore[arg-type]
        lambda: fer_bench.compare("outputs", pairs="bets"),  # type: ignore[arg-type]
    ],
)
def test_a_misspelled_choice_is_an_error(call: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    says(error.value, "expected")


def test_devices_cannot_be_changed_after_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fer_bench.api.devices import open_device
    from fer_bench.device import selection

    def refuse(*_: object) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(selection, "open_device", refuse)
    with pytest.raises(DeviceError) as error:
        open_device("gpu:0", message=print)
    says(error.value, "gpu:0", "Restart", "kernel")


def test_plain_lines_on_standard_output_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys
    import types

    from fer_bench.api.devices import open_display

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with open_display(None) as display:
        display.message("one line")
    assert capsys.readouterr() == ("one line\n", "")
