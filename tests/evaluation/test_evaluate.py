"""What a run directory holds after `fer train` and `fer evaluate`, as other programs rely on it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from layouts import Face, folder
from messages import says
from PIL import Image
from scipy.special import softmax
from tiers import some_fast
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.evaluation.evaluate import _overlap, _subgroups
from fer_bench.labels import AXES, EXPRESSIONS
from fer_bench.metrics.document import compute
from fer_bench.runs.predictions import predictions_frame, read_predictions

Fer = Callable[..., Result]
CELLS = [
    *("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "kappa"),
    *("roc_auc_macro", "nll", "brier", "ece"),
]
HISTORY = (
    "epoch,stage,learning_rate,loss,accuracy,val_loss,val_accuracy,val_macro_f1,"
    "images_per_second,seconds"
)


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.fixture(scope="module")
def record(trained_run: Path) -> dict[str, Any]:
    return read(trained_run / "run.json")


@pytest.fixture(scope="module")
def predictions(trained_run: Path) -> pd.DataFrame:
    return pd.read_csv(trained_run / "predictions" / "test.csv")


# Files -----------------------------------------------------------------------------------------


def test_the_files_of_a_finished_run(trained_run: Path) -> None:
    found = {
        path.relative_to(trained_run).as_posix()
        for path in trained_run.rglob("*")
        if path.is_file()
    }
    state = {path for path in found if path.startswith("state/")}
    assert "state/progress.json" in state  # small enough to stay
    assert found - state - {"lock"} == {
        "config.yaml",
        "run.json",
        "history.csv",
        "model.keras",
        "predictions/test.csv",
        "predictions/validation.csv",  # the temperature comes from it
        "metrics/test.json",
        "figures/confusion_matrix_test.png",
        "figures/learning_curves.png",
        "report.html",
    }


def test_figures_are_images(trained_run: Path) -> None:
    for path in (trained_run / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_the_page_loads_nothing_from_elsewhere(trained_run: Path) -> None:
    page = (trained_run / "report.html").read_text()
    assert trained_run.name in page
    assert page.count("<svg") >= 3
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert [address for address in loaded if not address.startswith(("data:", "#"))] == []
    assert "<script src" not in page
    assert "@import" not in page


def test_the_config_gives_the_same_run_id(trained_run: Path) -> None:
    path = trained_run / "config.yaml"
    assert load_experiment(path).run_id == trained_run.name
    assert load_experiment(path).to_yaml() == path.read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] == trained_run.name[-8:]


# run.json --------------------------------------------------------------------------------------


def test_the_keys_of_the_record(record: dict[str, Any], trained_run: Path) -> None:
    assert {
        *("run_id", "name", "seed", "status", "started", "ended", "device", "precision"),
        *("versions", "dataset", "model", "best", "images_per_second", "seconds"),
    } <= set(record)
    assert record["run_id"] == trained_run.name
    assert (record["name"], record["seed"]) == ("tiny", 7)
    assert record["status"] == "finished"
    assert record["started"] <= record["ended"]
    assert record["precision"] == "float32"
    assert set(record["versions"]) >= {"python", "tensorflow", "keras", "numpy", "fer-bench"}
    assert record["images_per_second"] > 0
    assert record["seconds"] > 0


def test_the_record_of_the_dataset(record: dict[str, Any], trained_run: Path) -> None:
    dataset = record["dataset"]
    manifest = load_manifest(load_experiment(trained_run / "config.yaml").dataset)
    assert (dataset["name"], dataset["release"]) == ("drawn", manifest.release)
    assert dataset["fingerprint"] == manifest.fingerprint
    assert dataset["classes"] == list(EXPRESSIONS)
    assert dataset["counts"] == manifest.counts()
    assert {split: sum(n.values()) for split, n in dataset["counts"].items()} == {
        "train": 72,
        "validation": 24,
        "test": 48,
    }


def test_the_record_of_the_model(record: dict[str, Any]) -> None:
    model = record["model"]
    assert (model["backbone"], model["weights"]) == ("cnn_compact", "none")
    head, last = model["trainable_parameters"]
    assert head == 256 * 8 + 8
    assert head < last < model["parameters"]
    assert model["first_trainable_layer"][0] == "head_logits"
    assert len(model["first_trainable_layer"]) == 2


def test_the_best_epoch_is_that_of_the_history(record: dict[str, Any], trained_run: Path) -> None:
    history = pd.read_csv(trained_run / "history.csv")
    best = history.iloc[int(history["val_macro_f1"].argmax())]
    assert record["best"]["metric"] == "val_macro_f1"
    assert record["best"]["epoch"] == best["epoch"]
    assert record["best"]["value"] == pytest.approx(best["val_macro_f1"])


# Tables ----------------------------------------------------------------------------------------


def test_the_history_has_a_row_for_each_epoch(trained_run: Path) -> None:
    assert (trained_run / "history.csv").read_text().splitlines()[0] == HISTORY
    history = pd.read_csv(trained_run / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert list(history["stage"]) == ["head", "all", "all"]
    assert history.notna().all().all()
    assert history["accuracy"].between(0, 1).all()


def test_predictions_are_about_every_image_of_the_split(
    predictions: pd.DataFrame, trained_run: Path
) -> None:
    manifest = load_manifest(load_experiment(trained_run / "config.yaml").dataset)
    expected = ["sample_id", "label", "predicted", *(f"p_{name}" for name in EXPRESSIONS)]
    assert list(predictions.columns) == expected
    assert list(predictions["sample_id"]) == list(manifest.split("test")["sample_id"])
    assert list(predictions["label"]) == list(manifest.split("test")["label"])
    probabilities = predictions.filter(like="p_")
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert list(predictions["predicted"]) == [
        EXPRESSIONS[code] for code in probabilities.to_numpy().argmax(axis=1)
    ]


def test_metrics_are_computed_from_the_saved_predictions(trained_run: Path) -> None:
    metrics = read(trained_run / "metrics" / "test.json")
    assert metrics["n"] == 48
    assert set(metrics) >= {"n", *CELLS, "per_class", "confusion_matrix"}
    for name in CELLS:
        cell = metrics[name]
        assert set(cell) == {"value", "low", "high"}
        assert cell["low"] <= cell["high"]
    assert [entry["name"] for entry in metrics["per_class"]] == list(EXPRESSIONS)
    entry = metrics["per_class"][0]
    assert set(entry) >= {"name", "precision", "recall", "f1", "support", "auc", "intervals"}
    assert np.array(metrics["confusion_matrix"]).sum() == 48
    saved = read_predictions(trained_run / "predictions" / "test.csv")
    computed = json.loads(json.dumps(compute(saved)))
    assert {name: metrics[name] for name in computed} == computed


def test_evaluating_again_gives_the_same_files(fer: Fer, trained_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained_run, tmp_path / trained_run.name))
    assert fer("evaluate", copy.name, "--outputs", tmp_path).exit_code == 0
    for name in ("predictions/test.csv", "metrics/test.json", "run.json", "config.yaml"):
        assert (copy / name).read_bytes() == (trained_run / name).read_bytes(), name


def test_a_table_of_predictions_keeps_the_order_of_the_manifest(trained_run: Path) -> None:
    manifest = load_manifest(load_experiment(trained_run / "config.yaml").dataset)
    probabilities = np.eye(8)[np.arange(48) % 8]
    frame = predictions_frame(manifest.split("test"), manifest.classes, probabilities, None)
    assert list(frame["predicted"]) == [EXPRESSIONS[number % 8] for number in range(48)]
    assert list(frame.index) == list(range(48))


def test_the_columns_of_a_table_of_predictions(trained_run: Path, tmp_path: Path) -> None:
    manifest = load_manifest(load_experiment(trained_run / "config.yaml").dataset)
    manifest.samples.loc[manifest.samples["split"] == "test", "arousal"] = np.nan
    axes = np.linspace([-1, 1], [1, -1], 48)
    frame = predictions_frame(manifest.split("test"), manifest.classes, None, axes)
    columns = ["sample_id", "label", *AXES, "valence_predicted", "arousal_predicted"]
    assert list(frame.columns) == columns
    frame.to_csv(tmp_path / "test.csv", index=False, float_format="%.9g")
    saved = read_predictions(tmp_path / "test.csv")
    assert saved.expression is None
    assert saved.valence_arousal
    order = np.argsort(frame["sample_id"])
    np.testing.assert_allclose(saved.valence_arousal.predicted, axes[order], atol=1e-9)
    true = manifest.split("test")[list(AXES)].to_numpy()[order]
    np.testing.assert_allclose(saved.valence_arousal.true, true, atol=1e-9)
    both = predictions_frame(
        manifest.split("test"), manifest.classes, np.eye(8)[np.arange(48) % 8], axes
    )
    probabilities = [f"p_{name}" for name in EXPRESSIONS]
    assert list(both.columns) == [*columns[:2], "predicted", *probabilities, *columns[2:]]


def test_what_a_dataset_does_not_know_of_valence_and_arousal_is_empty() -> None:
    samples = {"sample_id": ["a", "b"], "path": "x", "split": "test", "label": "fear"}
    manifest = Manifest("any", "v1", Path("data"), ("fear",), 3, pd.DataFrame(samples))
    rows, values = manifest.split("test"), np.full((2, 2), 0.5)
    text = predictions_frame(rows, manifest.classes, None, values).to_csv(index=False)
    assert text.splitlines()[1:] == ["a,fear,,,0.5,0.5", "b,fear,,,0.5,0.5"]


# The model -------------------------------------------------------------------------------------

WITHOUT_THE_PACKAGE = """
import json, sys
import keras, numpy as np
from PIL import Image

model = keras.models.load_model(sys.argv[1], safe_mode=True)
images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sys.argv[2:]])
probabilities = keras.ops.softmax(model(images.astype("float32"), training=False))
layers = sorted({type(layer).__module__.split(".")[0] for layer in model.layers})
print(json.dumps([np.asarray(probabilities).tolist(), layers, "fer_bench" in sys.modules]))
"""


@pytest.mark.slow
def test_the_model_is_usable_without_this_package(
    trained_run: Path, predictions: pd.DataFrame
) -> None:
    manifest = load_manifest(load_experiment(trained_run / "config.yaml").dataset)
    paths = [str(manifest.root / path) for path in manifest.split("test")["path"]]
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, str(trained_run / "model.keras"), *paths],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    probabilities, layers, imported = json.loads(answer.splitlines()[-1])
    assert layers == ["keras"]
    assert not imported
    np.testing.assert_allclose(probabilities, predictions.filter(like="p_"), atol=1e-5)


# Other ways to measure -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(trained_run: Path, write_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment on the same faces without contempt."""
    document = yaml.safe_load((trained_run / "config.yaml").read_text())
    document |= {"name": "seven"}
    document["dataset"]["contempt"] = "drop"
    return Path(write_config(document, "seven"))


@pytest.fixture
def copied_run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / trained_run.name))


def test_the_protocol_is_part_of_the_metrics(trained_run: Path) -> None:
    metrics, record = read(trained_run / "metrics/test.json"), read(trained_run / "run.json")
    assert metrics["protocol"] == {
        "dataset": "drawn",
        "release": record["dataset"]["release"],
        "dataset_fingerprint": record["dataset"]["fingerprint"],
        "split": "test",
        "classes": list(EXPRESSIONS),
        "views": "none",
        "class_rule": None,
        "selection": "validation",
        "trunk_views": 1,
        "labels": None,
        "class_labels": None,
    }
    assert metrics["warnings"] == []


def test_the_temperature_comes_from_validation_predictions(trained_run: Path) -> None:
    report = read(trained_run / "metrics/test.json")["temperature"]
    assert report["fitted_on"] == "validation"
    assert report["n"] == len(pd.read_csv(trained_run / "predictions/validation.csv"))
    assert report["before"]["nll"] == read(trained_run / "metrics/test.json")["nll"]
    assert report["after"]["nll"]["value"] != report["before"]["nll"]["value"]


@pytest.mark.slow
def test_views_average_the_probabilities(fer: Fer, copied_run: Path) -> None:
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent, "--views", "flip")
    assert result.exit_code == 0, result.output
    assert read(copied_run / "metrics/test+flip.json")["protocol"]["views"] == "flip"
    plain = pd.read_csv(copied_run / "predictions/test.csv")
    flipped = pd.read_csv(copied_run / "predictions/test+flip.csv")
    columns = [f"p_{name}" for name in EXPRESSIONS]
    assert not np.allclose(plain[columns], flipped[columns], atol=1e-3)

    model = keras.models.load_model(copied_run / "model.keras", compile=False)
    config = load_experiment(copied_run / "config.yaml")
    manifest = load_manifest(config.dataset)
    paths = [manifest.root / path for path in manifest.split("test")["path"]]
    images = np.stack([np.asarray(Image.open(path).convert("RGB"), np.float32) for path in paths])
    both = [softmax(np.asarray(model(shown)), axis=1) for shown in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(flipped[columns], np.mean(both, axis=0), atol=1e-5)


@pytest.mark.slow
def test_ten_crop_needs_no_other_model(fer: Fer, copied_run: Path) -> None:
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent, "--views", "ten_crop")
    assert result.exit_code == 0, result.output
    assert read(copied_run / "metrics/test+ten_crop.json")["n"] == 48


@pytest.mark.parametrize("rule", some_fast(["mask_logits", "intersection"], "mask_logits"))
def test_another_dataset_is_measured_by_a_stated_rule(
    fer: Fer, copied_run: Path, other: Path, rule: str
) -> None:
    where = ("--outputs", copied_run.parent)
    result = fer("evaluate", copied_run.name, "--data", other, "--class-rule", rule, *where)
    assert result.exit_code == 0, result.output
    metrics = read(copied_run / "metrics/test@seven.json")
    assert metrics["protocol"]["class_rule"] == rule
    assert metrics["n"] == 42
    seven = [name for name in EXPRESSIONS if name != "contempt"]
    own = pd.read_csv(copied_run / "predictions/test.csv").set_index("sample_id")
    found = pd.read_csv(copied_run / "predictions/test@seven.csv").set_index("sample_id")
    own = own.loc[found.index]
    answers = seven if rule == "mask_logits" else EXPRESSIONS
    assert list(found.filter(like="p_")) == [f"p_{name}" for name in answers]
    if rule == "intersection":
        assert (found["predicted"] == own["predicted"]).all()
    else:
        masked = own[[f"p_{name}" for name in seven]].to_numpy()
        assert list(found["predicted"]) == [seven[place] for place in masked.argmax(axis=1)]
    assert "trained on drawn too" in result.stderr


@pytest.mark.slow
def test_files_left_out_of_the_measured_dataset_are_reported(
    fer: Fer, copied_run: Path, write_config: Any, tmp_path: Path, faces: list[Face]
) -> None:
    layout = folder.split(tmp_path / "own", faces)
    for name in ("a.heic", "b.heic", "notes.txt"):
        (tmp_path / "own" / "test" / "fear" / name).touch()
    document = yaml.safe_load((copied_run / "config.yaml").read_text())
    document |= {"name": "own", "dataset": {**layout.dataset, "validation": "validation"}}
    own = write_config(document, "own")
    result = fer("evaluate", copied_run.name, "--data", own, "--outputs", copied_run.parent)
    assert result.exit_code == 0, result.output
    expected = "files were left out: 1 not an image; format not supported: .heic 2"
    assert [line for line in result.stderr.splitlines() if expected in line] == [
        f"warning: {tmp_path / 'own'}: {expected}"
    ]


def test_datasets_that_share_images_are_named() -> None:
    for pair in (("fer2013", "opencv_emotion"), ("opencv_emotion", "fer2013")):
        assert "contaminated: datasets" in " ".join(_overlap(*pair))
    assert _overlap("fer2013", "rafdb") == []


def test_attributes_of_people_become_subgroups(trained_run: Path) -> None:
    saved = read_predictions(trained_run / "predictions/test.csv")
    rows = pd.DataFrame({"sample_id": saved.sample_ids, "label": saved.label_names})
    assert _subgroups(rows, saved) == {}
    rows["gender"] = ["female"] * 24 + ["male"] * 24
    (entry,) = _subgroups(rows.iloc[::-1], saved)["subgroups"]
    assert entry["attribute"] == "gender"
    assert saved.expression
    for group, part in zip(entry["groups"], (slice(24), slice(24, 48)), strict=True):
        assert group["n"] == 24
        right = saved.expression.correct[part].mean()
        assert group["accuracy"]["value"] == pytest.approx(right)


@pytest.mark.slow
def test_corrupted_images_are_measured_too(fer: Fer, copied_run: Path) -> None:
    chosen = "gaussian_noise:5,brightness:1,eyes"
    where = ("--outputs", copied_run.parent)
    result = fer("evaluate", copied_run.name, "--corruptions", chosen, *where)
    assert result.exit_code == 0, result.output
    document = read(copied_run / "corruptions/test.json")
    assert document["clean"] == read(copied_run / "metrics/test.json")["accuracy"]
    assert [
        (condition["corruption"], condition["severity"]) for condition in document["conditions"]
    ] == [("gaussian_noise", 5), ("brightness", 1), ("eyes", None)]
    table = pd.read_csv(copied_run / "corruptions/test.csv").set_index("sample_id")
    labels = pd.read_csv(copied_run / "predictions/test.csv").set_index("sample_id")["label"]
    for column, condition in zip(table, document["conditions"], strict=True):
        right = (table[column] == labels.loc[table.index]).mean()
        assert condition["accuracy"]["value"] == pytest.approx(right)


@pytest.mark.slow
def test_copies_of_training_images_are_measured_apart(
    fer: Fer, copied_run: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training image takes the place of a test image."""
    # What the cache holds is about the faces as they were: drawn ones are known by their recipe.
    monkeypatch.setenv("FER_BENCH_CACHE", str(copied_run.parent / "cache"))
    config = load_experiment(trained_run / "config.yaml")
    manifest = load_manifest(config.dataset)
    train, test = manifest.split("train"), manifest.split("test")
    root = Path(shutil.copytree(manifest.root, copied_run.parent / "drawn"))
    source = train[train["label"] == test["label"][0]].iloc[0]
    shutil.copy(root / source["path"], root / test["path"][0])
    document = yaml.safe_load((copied_run / "config.yaml").read_text())
    document["dataset"]["root"] = str(root)
    (copied_run / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    record = read(copied_run / "run.json")
    del record["dataset"]["content_digest"]  # as if it had been trained on these images
    (copied_run / "run.json").write_text(json.dumps(record))
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert result.exit_code == 0, result.output
    without = read(copied_run / "metrics/test.json")["without_twins"]
    assert (without["n"], without["left_out"], without["exact"]) == (47, 1, 1)
    saved = pd.read_csv(copied_run / "predictions/test.csv")
    others = saved[saved["sample_id"] != test["sample_id"][0]]
    right = (others["label"] == others["predicted"]).mean()
    assert without["accuracy"]["value"] == pytest.approx(right)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--views", "flop", "Did you mean 'flip'"),
        ("--class-rule", "mask", "expected mask_logits, intersection"),
        ("--split", "tset", "Did you mean 'test'"),
        ("--corruptions", "gaussian_nois", "Did you mean 'gaussian_noise'"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(
    fer: Fer, trained_run: Path, option: str, value: str, hint: str
) -> None:
    result = fer("evaluate", trained_run.name, "--outputs", trained_run.parent, option, value)
    assert result.exit_code == 2
    assert hint in result.stderr


# Without the training data ---------------------------------------------------------------------


def lies_at(run: Path, root: Path) -> None:
    """Let the run say that its dataset lies at `root`."""
    document = yaml.safe_load((run / "config.yaml").read_text())
    document["dataset"]["root"] = str(root)
    (run / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


@pytest.mark.slow
def test_another_dataset_needs_nothing_of_the_training_dataset(
    fer: Fer, copied_run: Path, other: Path, tmp_path: Path
) -> None:
    lies_at(copied_run, tmp_path / "gone")
    result = fer("evaluate", copied_run.name, "--data", other, "--outputs", copied_run.parent)
    assert result.exit_code == 0, result.output
    assert read(copied_run / "metrics/test@seven.json")["n"] == 42
    assert "trained on drawn too" in result.stderr
    assert not (tmp_path / "gone").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "explain"])
def test_a_missing_dataset_is_reported_by_file_and_key(
    fer: Fer, copied_run: Path, drawn_root: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "empty").mkdir()
    lies_at(copied_run, tmp_path / "empty")
    where = (command, copied_run.name, "--outputs", copied_run.parent)
    result = fer(*where)
    assert result.exit_code == 2
    config = f"{copied_run}/config.yaml"
    says(result.stderr, config, tmp_path / "empty", "--set dataset.root=FOLDER")
    assert fer(*where, "--set", f"dataset.root={drawn_root}").exit_code == 0


def test_a_relative_place_is_reported_with_its_absolute_path(
    fer: Fer, copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "faces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    lies_at(copied_run, Path("faces"))
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert f"faces ({tmp_path / 'here' / 'faces'} from this folder)" in result.stderr


def test_another_dataset_in_the_place_of_the_own_is_refused(
    fer: Fer, copied_run: Path, copied_root: Path
) -> None:
    image = next(copied_root.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b" ")
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent)
    result = fer(*where, "--set", f"dataset.root={copied_root}")
    assert result.exit_code == 2
    says(result.stderr, copied_root, copied_run.name, "--set dataset.root=FOLDER")


@pytest.mark.parametrize("with_data", some_fast([True, False], True))
@pytest.mark.parametrize("key", ["model.backbone", "image.size", "dataset.validation", "root"])
def test_only_the_place_of_the_data_can_be_set(
    fer: Fer, copied_run: Path, other: Path, key: str, with_data: bool
) -> None:
    more = ("--data", other) if with_data else ()
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent, *more)
    result = fer(*where, "--set", f"{key}=1")
    assert result.exit_code == 2
    says(result.stderr, f"--set {key}=1", "dataset.root", "--data", "fer train")


@pytest.mark.slow
def test_the_place_of_another_dataset_can_be_set(
    fer: Fer, copied_run: Path, other: Path, drawn_root: Path, write_config: Any
) -> None:
    document = yaml.safe_load(other.read_text())
    document["dataset"]["root"] = "/nowhere"
    moved = write_config(document, "seven")
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent, "--data", moved)
    assert fer(*where, "--set", f"dataset.root={drawn_root}").exit_code == 0


# Nothing is lost -------------------------------------------------------------------------------


def contents(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != "model.keras"
    }


def put_model(run: Path, change: Callable[[Any], Any]) -> None:
    model = keras.models.load_model(run / "model.keras", compile=False)
    changed = change(model) or model
    changed.save(run / "model.keras")


def with_three_answers(model: Any) -> Any:
    features = model.layers[-1].input
    return keras.Model(model.input, keras.layers.Dense(3, name="other")(features))


def with_two_outputs(model: Any) -> Any:
    return keras.Model(model.input, {"expression": model.output, "valence_arousal": model.output})


def of_another_size(model: Any) -> Any:
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(8)(keras.layers.Flatten()(images)))


def of_one_channel(model: Any) -> Any:
    images = keras.Input((24, 24, 1))
    return keras.Model(images, keras.layers.Dense(8)(keras.layers.Flatten()(images)))


def with_a_list_of_outputs(model: Any) -> Any:
    return keras.Model(model.input, [model.output, model.layers[0].output])


def without_numbers(model: Any) -> None:
    kernel, bias = model.layers[-1].get_weights()
    bias[2] = np.nan
    model.layers[-1].set_weights([kernel, bias])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_three_answers, "it has input 24 x 24 x 3, expression 3; the run needs input 24 x 24"),
        pytest.param(
            with_two_outputs,
            "it has input 24 x 24 x 3, expression 8, valence_arousal 8; the run",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            of_another_size,
            "it has input 32 x 32 x 3, expression 8; the run needs input 24 x 24",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            of_one_channel,
            "it has input 24 x 24 x 1, expression 8; the run needs input 24 x 24 x 3",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            with_a_list_of_outputs,
            "the run needs input 24 x 24 x 3, expression 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            without_numbers,
            "(expression) are not finite numbers for 48 of 48 images, first",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_model_that_is_not_the_runs_leaves_all_as_it_was(
    fer: Fer, copied_run: Path, change: Callable[[Any], Any], message: str
) -> None:
    put_model(copied_run, change)
    before = contents(copied_run)
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert result.exit_code == 2, result.output
    says(result.stderr, f"{copied_run}/model.keras: ", message, "--fresh")
    assert contents(copied_run) == before


def test_a_model_that_cannot_be_read_leaves_all_as_it_was(fer: Fer, copied_run: Path) -> None:
    before = contents(copied_run)
    (copied_run / "model.keras").write_bytes(b"PK no model")
    result = fer("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert result.exit_code == 2
    says(result.stderr, copied_run / "model.keras", "--fresh")
    assert contents(copied_run) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", ["compute", "temperature_report", "robustness.measure", "write_json"]
)
def test_a_failure_at_any_step_leaves_all_as_it_was(
    fer: Fer, copied_run: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model says has changed; what is saved has not, since the evaluation fails."""
    put_model(copied_run, lambda model: model.layers[-1].set_weights([*_reversed(model)]))
    (copied_run / "corruptions").mkdir()
    (copied_run / "corruptions" / "test.json").write_text("{}")
    before = contents(copied_run)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"fer_bench.evaluation.evaluate.{step}", fail)
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent)
    result = fer(*where, "--corruptions", "eyes")
    assert result.exit_code == 2
    assert contents(copied_run) == before
    monkeypatch.undo()
    assert fer(*where, "--corruptions", "eyes").exit_code == 0
    after = contents(copied_run)
    for name in ("predictions/test.csv", "metrics/test.json", "corruptions/test.json"):
        assert after[name] != before[name], name


def _reversed(model: Any) -> Any:
    """The weights of the last layer, with the classes in the opposite order."""
    return (weights[..., ::-1] for weights in model.layers[-1].get_weights())


def test_an_unreadable_image_leaves_all_as_it_was(
    fer: Fer, copied_run: Path, copied_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    path = load_manifest(load_experiment(copied_run / "config.yaml").dataset).split("test")["path"]
    image = copied_root / path[3]
    image.write_bytes(bytes(image.stat().st_size))  # of the same size: the fingerprint stays
    before = contents(copied_run)
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent)
    result = fer(*where, "--set", f"dataset.root={copied_root}")
    assert result.exit_code == 2
    assert path[3] in result.stderr
    assert contents(copied_run) == before


def test_corruptions_need_expressions_before_anything_is_predicted(
    fer: Fer, copied_run: Path
) -> None:
    document = yaml.safe_load((copied_run / "config.yaml").read_text())
    document["model"]["targets"] = ["valence_arousal"]
    (copied_run / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    before = contents(copied_run)
    where = ("evaluate", copied_run.name, "--outputs", copied_run.parent)
    result = fer(*where, "--corruptions", "eyes")
    assert result.exit_code == 2
    says(result.stderr, "no expressions", "--corruptions", "model.targets")
    assert contents(copied_run) == before


def test_a_replacing_that_was_killed_is_finished_by_the_next_command(
    fer: Fer, copied_run: Path
) -> None:
    """Killed between the renaming of the folder and that of its files."""
    left = copied_run / ".complete-left"
    (left / "new" / "metrics").mkdir(parents=True)
    (left / "lock").touch()
    document = read(copied_run / "metrics/test.json") | {"n": 47}
    (left / "new" / "metrics" / "test.json").write_text(json.dumps(document))
    assert fer("report", copied_run.name, "--outputs", copied_run.parent).exit_code == 0
    assert read(copied_run / "metrics/test.json")["n"] == 47
    assert not left.exists()
