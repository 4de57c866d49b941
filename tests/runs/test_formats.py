"""The formats that outlive a version: run ids, cache keys, the files of a run and their keys.

What is pinned here is written down in users' folders. Where one of these tests fails, old runs are
trained again, old caches are computed again, or old results cannot be read: change the code, not
the value, unless that is what is wanted.
"""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Fer
from messages import says
from tiers import some_fast

from fer_bench.config.loading import load_experiment
from fer_bench.data.decoding import open_split
from fer_bench.data.manifest import BOX, Manifest
from fer_bench.data.splits import split_digest
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.tracking.outbox import Sent, measured, unsent
from fer_bench.storage.array_cache import Store, Wanted
from fer_bench.storage.cache import cached, entries

REPOSITORY = Path(__file__).resolve().parents[2]

RUN_IDS = [
    "affectnet_va_effb3-s42-dcaf6e88",
    "drawn_compact-s42-85401374",
    "fer2013_ferplus_probability_compact-s42-d9cc3e9c",
    "ippm_resnet50_pyramid-s42-721bb9e9",
    "leak-s42-c4428060",
    "opencv_emotion_slides_resnet50-s42-06cf963a",
    "pisa_t5-s42-ad3e55b9",
    "rafdb4_effv2l-s42-0febdc0a",
    "rafdb_effv2l_unfreeze45-s42-7513288b",
    "transfer_last20-s42-683dc954",
]


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_ids_of_shipped_configs(run_id: str) -> None:
    name = run_id.rsplit("-", 2)[0]
    assert load_experiment(REPOSITORY / "configs" / f"{name}.yaml").run_id == run_id


def test_a_saved_config_has_the_run_id_of_its_run(prebuilt_run: Path) -> None:
    assert load_experiment(prebuilt_run / "config.yaml").run_id == prebuilt_run.name


# The cache -------------------------------------------------------------------------------------


class AskedError(Exception):
    """What was looked up in the cache, before anything is decoded."""


class Asks(Store):
    def keep(self, wanted: Wanted, *_: object) -> Any:
        raise AskedError(wanted)


def two_samples(root: Path, **columns: object) -> Manifest:
    """A dataset of two files with fixed names, sizes and dates."""
    paths = ["a/one.png", "b/two.jpg"]
    for number, path in enumerate(paths, 1):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * number)
        os.utime(root / path, ns=(0, 10**18 + number))
    samples = pd.DataFrame(
        {"sample_id": paths, "path": paths, "split": "test", "label": ["fear", "anger"], **columns}
    )
    return Manifest("list", "list", root, ("fear", "anger"), 3, samples, {})


def wanted_images(manifest: Manifest) -> Wanted:
    """What is looked up for the images of a dataset."""
    with pytest.raises(AskedError) as asked:
        open_split(manifest, "test", 48, store=Asks(0, print))
    (found,) = asked.value.args
    assert isinstance(found, Wanted)
    return found


def test_the_key_of_decoded_images(tmp_path: Path) -> None:
    found = wanted_images(two_samples(tmp_path))
    assert (found.kind, found.shape, found.dtype) == ("images", (2, 48, 48, 3), "uint8")
    digest = "354e6fb0d3efa42ec336b0d4bfc3e886c80e9022eccae706e8889b384d2d3504"
    assert found.key == f"2 48 3 {digest}"


def test_the_key_of_decoded_images_with_boxes(tmp_path: Path) -> None:
    box = dict(zip(BOX, (1, 2, 3, 4), strict=True))
    digest = "c933ef3c5281603365094e6314866298dc4af845698496829b769142122d3100"
    assert wanted_images(two_samples(tmp_path, **box)).key == f"2 48 3 {digest}"


def test_the_digests_of_a_dataset(tmp_path: Path) -> None:
    manifest = two_samples(tmp_path)
    assert [manifest.fingerprint, split_digest(manifest.samples)] == [
        "086de9b4f901efe237e99d2aba6c24212cd5f66ee48796d7fd95c4d4e0036477",
        "15386dbd8b5330195601ddb6b73dba397750b3b92904797d6026e38d5f9ac262",
    ]


def test_the_folder_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path))
    folder = cached("images", "2 48 3 key", lambda fresh: None)
    assert folder == tmp_path / "images" / "95c5133e73111a2ce093cd22b13cf83e"
    assert [entry.path for entry in entries()] == [folder]


# A run directory -------------------------------------------------------------------------------

RUN_KEYS = [
    *("run_id", "name", "seed", "status", "started", "ended"),
    *("device", "precision", "xla", "threads", "workers", "versions"),
    *("dataset", "model", "stages", "trunk_views", "selection", "tracking"),
    *("best", "parent", "state_kept", "images_per_second", "seconds"),
]
SECTION_KEYS = {
    "dataset": [
        *("name", "release", "fingerprint", "split_digest", "classes", "counts", "dropped"),
        *("labels", "class_labels"),
    ],
    "model": [
        *("backbone", "weights", "weights_digest", "parameters", "trainable_parameters"),
        "first_trainable_layer",
    ],
    "best": ["epoch", "metric", "value"],
    "versions": ["python", "fer-bench", "tensorflow", "keras", "numpy"],
}
HISTORY = [
    *("epoch", "stage", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"),
    *("val_macro_f1", "images_per_second", "seconds"),
]
EXPRESSIONS = [
    *("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
]
PREDICTIONS = ["sample_id", "label", "predicted", *(f"p_{name}" for name in EXPRESSIONS)]
PROTOCOL = [
    *("dataset", "release", "dataset_fingerprint", "split", "classes", "views", "class_rule"),
    *("selection", "trunk_views", "labels", "class_labels"),
]


@pytest.fixture(
    params=[
        "prebuilt_run",
        pytest.param("trained_run", marks=pytest.mark.xdist_group("trained_run")),
    ]
)
def run(request: pytest.FixtureRequest) -> Path:
    """A run of the format that is pinned here, and one that was trained just now."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def lacks(document: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The keys that are missing; more may come."""
    return [key for key in keys if key not in document]


def test_keys_of_run_json(run: Path) -> None:
    record = read(run / "run.json")
    assert lacks(record, RUN_KEYS) == []
    for section, keys in SECTION_KEYS.items():
        assert lacks(record[section], keys) == []
    assert lacks(record["stages"][0], ["name", "epochs", "frozen_up_to"]) == []
    assert record["dataset"]["counts"]["test"] == dict.fromkeys(EXPRESSIONS, 6)


def test_columns_of_the_tables(run: Path) -> None:
    assert header(run / "history.csv") == HISTORY
    assert header(run / "predictions" / "test.csv") == PREDICTIONS
    assert header(run / "predictions" / "validation.csv") == PREDICTIONS


def test_keys_of_the_metrics(run: Path, prebuilt_run: Path) -> None:
    metrics, pinned = (read(folder / "metrics" / "test.json") for folder in (run, prebuilt_run))
    assert lacks(metrics, pinned) == []
    assert lacks(metrics["protocol"], PROTOCOL) == []
    assert set(pinned["accuracy"]) <= set(metrics["accuracy"])
    assert lacks(metrics["per_class"][0], pinned["per_class"][0]) == []


def test_files_of_a_run(trained_run: Path, prebuilt_run: Path) -> None:
    trained, pinned = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (trained_run, prebuilt_run)
    )
    assert pinned == {
        *("config.yaml", "run.json", "history.csv", "metrics/test.json"),
        *("predictions/test.csv", "predictions/validation.csv"),
    }
    assert pinned | {"model.keras", "report.html", "figures/learning_curves.png"} <= trained


# Old results are still read --------------------------------------------------------------------


def test_compare_reads_it(prebuilt_run: Path, fer: Fer) -> None:
    result = fer("compare", prebuilt_run.parent, "--json")
    assert result.exit_code == 0, result.output
    assert prebuilt_run.name in result.stdout


def test_its_page_is_written(prebuilt_run: Path, fer: Fer, tmp_path: Path) -> None:
    run = shutil.copytree(prebuilt_run, tmp_path / prebuilt_run.name)
    result = fer("report", run.name, "--outputs", tmp_path)
    assert result.exit_code == 0, result.output
    page = (run / "report.html").read_text(encoding="utf-8")
    assert run.name in page
    assert "macro F1" in page


@pytest.mark.slow
def test_a_page_that_a_killed_process_was_writing_is_removed(
    prebuilt_run: Path, fer: Fer, tmp_path: Path
) -> None:
    """It stayed for ever in a run that was named by its id."""
    run = shutil.copytree(prebuilt_run, tmp_path / prebuilt_run.name)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (run / f".report.html.{ended.pid}.tmp").write_text("half a page")
    with subprocess.Popen(["sleep", "60"]) as living:
        (run / f".report.html.{living.pid}.tmp").write_text("of a process that lives")
        result = fer("report", run.name, "--outputs", tmp_path)
        living.kill()
    assert result.exit_code == 0, result.output
    assert [path.name for path in run.glob(".*")] == [f".report.html.{living.pid}.tmp"]


@pytest.mark.parametrize("content", some_fast(["{", '{"seconds": "long"}'], "{"))
def test_a_page_shows_what_is_not_damaged(
    content: str, prebuilt_run: Path, fer: Fer, tmp_path: Path
) -> None:
    run = shutil.copytree(prebuilt_run, tmp_path / prebuilt_run.name)
    (run / "run.json").write_text(content)
    result = fer("report", run.name, "--outputs", tmp_path)
    assert result.exit_code == 0, result.output
    page = (run / "report.html").read_text(encoding="utf-8")
    says(page, "run.json: ", f"fer train {run / 'config.yaml'} --fresh", "macro F1", "Training")


def test_tracking_finds_what_to_send(prebuilt_run: Path, tmp_path: Path) -> None:
    run = RunDirectory(prebuilt_run)
    parcel = unsent(run, Sent(tmp_path / "sent.json"))
    assert [epoch.number for epoch in parcel.epochs] == list(range(1, 9))
    assert parcel.epochs[-1].values["accuracy"] == 0.671875
    assert list(parcel.files) == ["config.yaml", "history.csv", "metrics/test.json"]
    assert parcel.status == "finished"
    assert measured(run, "metrics/test.json")["test/accuracy"] == pytest.approx(1 / 6)
