"""Reading the documents of an evaluation: what is accepted, and how damage is reported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filled
import pytest
from messages import says

from fer_bench.config.loading import load_experiment
from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import (
    evaluate_command,
    is_config_of,
    read_config,
    read_corruptions,
    read_metrics,
)
from fer_bench.runs.predictions import read_predictions
from fer_bench.storage import files

Damage = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled.write_run(tmp_path_factory.mktemp("runs") / "cnn-s1-00000000", images=80).path


@pytest.fixture
def run(written: Path, tmp_path: Path) -> RunDirectory:
    """A run of its own, which a test may damage."""
    return RunDirectory(shutil.copytree(written, tmp_path / written.name))


def rewrite(path: Path, damage: Damage) -> None:
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))


def test_a_complete_document_is_read_as_it_was_written(run: RunDirectory) -> None:
    assert read_metrics(run, "test") == json.loads(run.metrics("test").read_text())
    assert read_corruptions(run, "test") == json.loads(run.corruptions("test").read_text())


@pytest.mark.parametrize(
    "older",
    [
        {"n": 3},
        {"n": 3, "accuracy": {"value": 0.5, "low": 0.1, "high": 0.9}},
        {"n": 3, "protocol": None, "arousal": None, "a key of another version": [1]},
        {"n": 3, "protocol": {"split": "test"}},
        {"n": 3, "valence": {"n": 3, "ccc": {"value": None, "low": None, "high": None}}},
    ],
)
def test_an_older_document_lacks_keys(older: dict[str, Any], run: RunDirectory) -> None:
    run.metrics("test").write_text(json.dumps(older))
    assert read_metrics(run, "test") == older


METRICS_DAMAGES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "another version": (lambda d: d.update(schema=2), ("schema", "2", "1")),
    "a text": (lambda d: d["accuracy"].update(value="0.9"), ("accuracy.value", "'0.9'", "number")),
    "a truth value": (lambda d: d["accuracy"].update(low=True), ("accuracy.low", "True")),
    "a missing bound": (lambda d: d["ece"].pop("high"), ("ece.high", "missing")),
    "no cell": (lambda d: d.update(macro_f1=0.5), ("macro_f1", "0.5")),
    "a percentage": (lambda d: d["accuracy"].update(value=92.5), ("accuracy.value", "92.5", "1")),
    "a negative error": (lambda d: d["nll"].update(value=-0.5), ("nll.value", "-0.5")),
    "a correlation": (lambda d: d["valence"]["ccc"].update(low=-2), ("valence.ccc.low", "-2")),
    "bounds turned": (
        lambda d: d["accuracy"].update(low=0.9, high=0.1),
        ("accuracy.low", "0.9", "0.1"),
    ),
    "a method that is a list": (
        lambda d: d["interval"]["methods"].update(accuracy=["wilson"]),
        ("interval.methods.accuracy", "wilson", "string"),
    ),
    "half a sample": (lambda d: d.update(n=2.5), ("n", "2.5", "integer")),
    "a negative count": (lambda d: d.update(n=-1), ("n", "-1")),
    "a class twice": (lambda d: d["per_class"].append(d["per_class"][0]), ("per_class", "twice")),
    "a class too few": (lambda d: d["per_class"].pop(), ("confusion_matrix", "per_class")),
    "a nameless class": (lambda d: d["per_class"][0].update(name=""), ("per_class.0.name",)),
    "a row too short": (lambda d: d["confusion_matrix"][1].pop(), ("confusion_matrix",)),
    "an unknown metric": (
        lambda d: d["temperature"]["before"].update(ecce=d["ece"]),
        ("temperature.before.ecce", "ece"),
    ),
    "a temperature without its images": (
        lambda d: d["temperature"].pop("fitted_on"),
        ("temperature.fitted_on", "missing"),
    ),
    "a calibration": (
        lambda d: d["temperature"]["after"]["ece"].update(low=-1e300),
        ("temperature.after.ece.low", "-1e+300"),
    ),
    "an interval of a class": (
        lambda d: d["per_class"][1]["intervals"]["recall"].update(high=-1e300),
        ("per_class.1.intervals.recall.high", "-1e+300"),
    ),
    "the accuracy of a group": (
        lambda d: d["subgroups"][0]["groups"][0]["accuracy"].update(value=7),
        ("subgroups.0.groups.0.accuracy.value", "7"),
    ),
    "without copies": (
        lambda d: d["without_twins"]["accuracy"].update(value=3),
        ("without_twins.accuracy.value", "3"),
    ),
    "a group": (lambda d: d["subgroups"][0]["groups"][0].update(n="7"), ("subgroups.0", "n")),
}


@pytest.mark.parametrize("name", METRICS_DAMAGES)
def test_damaged_metrics_are_reported(name: str, run: RunDirectory) -> None:
    damage, parts = METRICS_DAMAGES[name]
    rewrite(run.metrics("test+flip"), damage)
    with pytest.raises(RunError) as caught:
        read_metrics(run, "test+flip")
    command = f"fer evaluate {run.run_id} --views flip"
    says(caught.value, run.metrics("test+flip"), *parts, command)


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("accuracy", (0, 1), (-0.01, 1.01)),
        ("kappa", (-1, 1), (-1.01, 1.01)),
        ("nll", (0, 36), (-0.01,)),
        ("brier", (0, 2), (-0.01, 2.01)),
        ("valence.rmse", (0, 2), (-0.01, 2.01)),
        ("valence.sagr", (0, 1), (-0.01, 1.01)),
        ("arousal.ccc", (-1, 1), (-1.01, 1.01)),
        ("arousal.pcc", (-1, 1), (-1.01, 1.01)),
    ],
)
def test_values_end_where_the_range_of_their_metric_ends(
    key: str, inside: tuple[float, ...], outside: tuple[float, ...], run: RunDirectory
) -> None:
    def read(value: float) -> None:
        axis, _, name = key.rpartition(".")
        entry = {name: {"value": value, "low": None, "high": None}}
        run.metrics("test").write_text(json.dumps({axis: entry} if axis else entry))
        read_metrics(run, "test")

    for value in inside:
        read(value)
    for value in outside:
        with pytest.raises(RunError) as caught:
            read(value)
        says(caught.value, f"{key}.value", str(value))


CORRUPTIONS_DAMAGES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "another version": (lambda d: d.update(schema=2), ("schema", "2", "1")),
    "a severity": (lambda d: d["conditions"][0].update(severity=6), ("conditions.0.severity", "6")),
    "an accuracy": (
        lambda d: d["conditions"][3]["accuracy"].update(value=1.5),
        ("conditions.3.accuracy.value", "1.5"),
    ),
    "a mean": (lambda d: d["mean_corruption_accuracy"].update(low=-1), ("low", "-1")),
    "a corruption": (lambda d: d["by_corruption"].update(fog=1), ("by_corruption.fog", "1")),
    "the accuracy of a corruption": (
        lambda d: d["by_corruption"]["fog"].update(value=1.5),
        ("by_corruption.fog.value", "1.5"),
    ),
    "no clean accuracy": (lambda d: d.update(clean=None), ("clean", "None")),
    "no conditions": (lambda d: d.update(conditions=[]), ("conditions",)),
    "no name of a corruption": (
        lambda d: d["conditions"][2].pop("corruption"),
        ("conditions.2.corruption", "missing"),
    ),
    "no number of images": (lambda d: d.pop("n"), ("n is missing",)),
    "no value": (
        lambda d: d["conditions"][2]["accuracy"].update(low=None),
        ("conditions.2.accuracy", "no interval"),
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS_DAMAGES)
def test_damaged_corruptions_are_reported(name: str, run: RunDirectory) -> None:
    damage, parts = CORRUPTIONS_DAMAGES[name]
    rewrite(run.corruptions("test"), damage)
    with pytest.raises(RunError) as caught:
        read_corruptions(run, "test")
    command = f"fer evaluate {run.run_id} --corruptions all"
    says(caught.value, run.corruptions("test"), *parts, command)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"n": 3', "JSON"),
        ("[]", "list"),
        ('{"n": NaN}', "NaN"),
        ('{"accuracy": {"value": 1e999, "low": 0, "high": 1}}', "accuracy.value"),
        ('{"n": ' + "[" * 100 + "]" * 100 + "}", f"{files.MOST_LEVELS} levels"),
        ("\x00\xff", "JSON"),
    ],
)
def test_a_file_that_is_no_document_is_reported(content: str, part: str, run: RunDirectory) -> None:
    run.metrics("test").write_text(content, encoding="latin-1")
    with pytest.raises(RunError) as caught:
        read_metrics(run, "test")
    says(caught.value, run.metrics("test"), part, f"fer evaluate {run.run_id}")


def test_a_file_that_is_too_large_is_not_read(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(RunError) as caught:
        read_metrics(run, "test")
    says(caught.value, run.metrics("test"), "bytes", "100")


def test_a_missing_file_is_reported(run: RunDirectory) -> None:
    with pytest.raises(RunError) as caught:
        read_metrics(run, "validation")
    says(caught.value, run.metrics("validation"), "No such file", "--split validation")


def test_the_command_names_what_was_evaluated(run: RunDirectory) -> None:
    command = evaluate_command(run, "validation@drawn_compact+ten_crop")
    for part in ("--split validation", "--data configs/drawn_compact.yaml", "--views ten_crop"):
        assert part in command
    assert "--corruptions" not in command


def test_predictions_from_elsewhere_are_adopted_again(run: RunDirectory) -> None:
    rewrite(run.run_json, lambda record: record["model"].update(weights="adopted"))
    run.metrics("test").write_text("{")
    with pytest.raises(RunError) as caught:
        read_metrics(run, "test")
    says(caught.value, "fer adopt", "--fresh")


def test_damaged_predictions_from_elsewhere_are_adopted_again(run: RunDirectory) -> None:
    rewrite(run.run_json, lambda record: record["model"].update(weights="adopted"))
    run.predictions("test").write_text("sample_id,label\n")
    with pytest.raises(RunError) as refused:
        read_predictions(run.predictions("test"))
    says(refused.value, run.predictions("test"), "fer adopt", "--split test")
    assert "fer evaluate" not in str(refused.value)


# The configuration -------------------------------------------------------------------------------


def test_a_configuration_is_that_of_its_run(prebuilt_run: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    written = (prebuilt_run / "config.yaml").read_text()
    for same in (written, written.replace("\n", "\r\n"), f"# mine\n{written}"):
        config.write_bytes(same.encode())
        assert is_config_of([prebuilt_run.name], config, read_config(config))
    config.write_text(written.replace("size: 24", "size: 48"))
    assert not is_config_of([prebuilt_run.name], config, read_config(config))
    assert is_config_of(["named otherwise"], config, read_config(config))


@pytest.mark.parametrize("content", ["", "[]", "seed: 1\n", "published: []\n"])
def test_what_lacks_published_values_is_not_that_configuration(
    content: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    assert not is_config_of(["cnn-s1-00000000"], config, read_config(config))


def test_keys_that_came_later_are_no_part_of_the_digest(tmp_path: Path) -> None:
    """They were added to the published values of an experiment whose runs existed."""
    config = load_experiment(Path(__file__).parents[2] / "configs" / "rafdb4_resnet50.yaml")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert "  metric_as: " in path.read_text()
    assert is_config_of([config.run_id], path, read_config(path))
