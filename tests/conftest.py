"""Shared fixtures (a tiny drawn dataset, an experiment, a run trained on it) and the test tiers."""

import functools
import gc
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pandas as pd
import pytest
import tiers
import yaml
from layouts import Face, Layout, Writer, Written, of_each
from PIL import Image
from typer.testing import CliRunner, Result

from fer_bench.device import kernels

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
kernels.choose()  # as commands do, before a test imports TensorFlow

# No deadline: the time of an example depends on what else runs on the machine. `fast` repeats the
# same few examples, so that a failure is due to the change under test; `full` looks for new ones.
hypothesis.settings.register_profile("fast", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.register_profile("full", deadline=None, max_examples=200)
hypothesis.settings.load_profile(os.environ.get("FER_BENCH_HYPOTHESIS", "fast"))

# Seconds that a fast test may take, without its fixtures; unlimited unless the variable is set.
BUDGET = float(os.environ.get("FER_BENCH_TEST_BUDGET", "inf"))

TRAIN, TEST, SIZE = 96, 48, 24
Fer = Callable[..., Result]


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 + 48 drawn faces of 24 px. Do not change them: `copied_root` is a copy to damage."""
    from fer_bench.data.datasets import drawn

    root = tmp_path_factory.mktemp("data") / "drawn"
    drawn.draw(root, seed=3, train=TRAIN, test=TEST, size=SIZE)
    return root


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the users of an expensive fixture; start the slower tiers first.

    If a long test began last, the other processes would wait for it.
    """
    for item in items:
        if group := tiers.group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    if getattr(config.option, "loadgroup", False):  # pytest-xdist sets it in the processes of tests
        tiers.show_groups(items)
    items.sort(key=tiers.is_fast)


def pytest_collection_finish() -> None:
    """Exempt what is loaded by now from garbage collection.

    TensorFlow and thousands of collected tests make a collection take a second, and Keras asks for
    one at the start of every training.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a fast test that takes longer than its budget."""
    report = yield
    if report.passed and (message := tiers.over_budget(item, call, BUDGET)):
        report.outcome, report.longrepr = "failed", message
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests that compute in bfloat16 where oneDNN is limited to kernels without it."""
    if item.get_closest_marker("bfloat16"):
        from fer_bench.device.precision import computes_bfloat16

        if not computes_bfloat16():
            pytest.skip("oneDNN is limited to instructions without bfloat16")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["FER_BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """No test computes in a precision that an earlier test left as the global policy of Keras."""
    yield
    if keras := sys.modules.get("keras"):
        keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def onednn_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that limit oneDNN, whatever the tests are run with."""
    from fer_bench.device import precision

    for variable in (kernels.ONEDNN_SWITCH, *precision.INSTRUCTION_LIMITS):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def faces(drawn_root: Path) -> list[Face]:
    """96 drawn faces of 24 px, 12 per expression, to write layouts from."""
    from fer_bench.data.datasets import drawn

    rows = drawn.read(drawn_root).split("train")
    columns = (rows[column] for column in ("path", "label", "valence", "arousal"))
    return [
        Face(Image.open(drawn_root / path).convert("RGB"), label, valence, arousal)
        for path, label, valence, arousal in zip(*columns, strict=True)
    ]


@pytest.fixture(scope="session")
def written(faces: list[Face], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A layout with `number` faces per expression. Do not change it: it is written once."""

    @functools.cache
    def write(writer: Writer, number: int) -> Layout:
        return writer(tmp_path_factory.mktemp("layout"), of_each(number, faces))

    return write


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real faces that are not part of the repository."""
    repository = Path(__file__).resolve().parents[1]
    return (repository / os.environ.get("FER_BENCH_SHARED_DATA", "../shared/data")).resolve()


@pytest.fixture(scope="session")
def real_faces(shared_data: Path) -> list[Face]:
    """127 real grey faces of 128 px from the muxspace pack: at most 20 per expression, all eight.

    Their valence and arousal are made up. The test is skipped where the pack is missing.
    """
    archive = shared_data / "muxspace_faces.zip"
    if not archive.is_file():
        pytest.skip(f"the real faces are missing: {archive} (set FER_BENCH_SHARED_DATA)")
    with zipfile.ZipFile(archive) as opened:
        listed = pd.read_csv(io.BytesIO(opened.read("muxspace_faces/labels.csv")))
        some = listed.groupby("emotion").head(20)
        return [
            Face(
                Image.open(io.BytesIO(opened.read(f"muxspace_faces/images/{name}"))),
                label,
                round(-1 + 2 * number / len(some), 3),
                round(1 - 2 * number / len(some), 3),
            )
            for number, (name, label) in enumerate(zip(some["image"], some["emotion"], strict=True))
        ]


@pytest.fixture
def copied_root(drawn_root: Path, tmp_path: Path) -> Path:
    """A copy of the drawn faces that a test may damage."""
    return Path(shutil.copytree(drawn_root, tmp_path / "drawn"))


@pytest.fixture(scope="session")
def tiny(drawn_root: Path) -> dict[str, Any]:
    """An experiment with two stages that trains in seconds, with dropout and all augmentations."""
    return {
        "seed": 7,
        "dataset": {"name": "drawn", "root": str(drawn_root), "validation": 0.25},
        "image": {
            "size": SIZE,
            "augment": {
                "flip": True,
                "rotation": 0.05,
                "zoom": 0.1,
                "shear": 0.1,
                "shift": 0.1,
                "brightness": 0.1,
                "contrast": 0.1,
            },
        },
        "model": {"backbone": "cnn_compact", "head": {"pooling": "avg", "dropout": 0.3}},
        "training": {"batch_size": 16, "precision": "float32", "save_every": 2},
        "stages": [
            {"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-3},
            {
                "name": "all",
                "train": {"last": 12},
                "epochs": 2,
                "learning_rate": 1e-3,
                "schedule": "cosine",
            },
        ],
    }


@pytest.fixture
def experiment(tiny: dict[str, Any]) -> Any:
    """`tiny`, as an `Experiment`."""
    from fer_bench.config.experiment import Experiment

    return Experiment.model_validate({"name": "tiny", **tiny})


@pytest.fixture
def training(experiment: Any) -> Any:
    """The training images of `experiment`."""
    from fer_bench.data import decoding
    from fer_bench.data.load import load_manifest

    return decoding.open_split(load_manifest(experiment.dataset), "train", experiment.image.size)


@pytest.fixture(scope="session")
def fer() -> Fer:
    """Call `fer` in this process: `fer("train", path, "--outputs", folder)`."""
    from fer_bench.cli import app

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a document to `<name>.yaml` in a new folder; returns the path."""

    def write(document: dict[str, Any], name: str = "tiny") -> Path:
        path = tmp_path_factory.mktemp("config") / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def trained_run(
    tiny: dict[str, Any],
    fer: Fer,
    write_config: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished and evaluated run. Do not change it: many tests share it."""
    outputs = tmp_path_factory.mktemp("outputs")
    trained = fer("train", write_config(tiny), "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    run_id = trained.stdout.strip().splitlines()[-1]
    evaluated = fer("evaluate", run_id, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    return outputs / run_id


@pytest.fixture(scope="session")
def prebuilt_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished and evaluated run, not trained here. Read only; without a model.

    It has what a run has as text: `config.yaml`, `run.json`, `history.csv`, and the predictions of
    validation and test with the metrics of the latter. Copy it to change it.
    """
    source = Path(__file__).parent / "prebuilt_run"
    run_id = json.loads((source / "run.json").read_text())["run_id"]
    target = tmp_path_factory.mktemp("prebuilt") / run_id
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("README.md")))
