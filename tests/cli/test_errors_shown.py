"""What a user can put right ends with exit code 2, a message without a traceback, and no trace.

Each message says what is wrong, what was found and what to do.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from messages import says
from tiers import some_fast
from typer.testing import Result

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def copied_run(trained_run: Path, outputs: Path) -> Path:
    """A copy of the trained run that a test may damage."""
    return Path(shutil.copytree(trained_run, outputs / trained_run.name))


@pytest.fixture
def refused(fer: Fer, tmp_path: Path) -> Callable[..., str]:
    """Call `fer` and see that it refuses and changes nothing; returns the message."""

    def call(*arguments: object) -> str:
        before = tree(tmp_path)
        result = fer(*arguments)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr
        assert tree(tmp_path) == before
        return result.stderr

    return call


Refused = Callable[..., str]


@pytest.fixture
def train(
    refused: Refused, tiny: dict[str, Any], write_config: WriteConfig, outputs: Path
) -> Refused:
    """Training `tiny` with `--set` of every argument is refused."""

    def call(*overrides: str) -> str:
        sets = [part for override in overrides for part in ("--set", override)]
        return refused("train", write_config(tiny), "--outputs", outputs, *sets)

    return call


# The experiment --------------------------------------------------------------------------------


EXPERIMENT, SUITE, SPACE = "pisa_t1.yaml", "suites/pisa.yaml", "spaces/compact.yaml"


@pytest.mark.parametrize(
    ("command", "given", "kind", "advice"),
    [
        (["train"], SUITE, "a suite, not an experiment", "`fer sweep {}`"),
        (["validate"], SPACE, "a search space, not an experiment", "--search {}`"),
        (["sweep"], EXPERIMENT, "an experiment, not a suite", "`fer train {}`"),
        (["sweep"], SPACE, "a search space, not a suite", "--search {}`"),
        (["sweep", EXPERIMENT, "--search"], SUITE, "a suite, not a search space", "`fer sweep {}`"),
    ],
)
def test_a_file_of_another_kind(
    refused: Refused, command: list[str], given: str, kind: str, advice: str
) -> None:
    configs = Path(__file__).resolve().parents[2] / "configs"
    path = configs / given
    arguments = [configs / word if word == EXPERIMENT else word for word in command]
    message = refused(*arguments, path)
    says(message, path, kind, advice.format(path))


def test_unknown_key(train: Refused) -> None:
    says(train("training.batchsize=3"), "training.batchsize", "'batch_size'", "fer schema")


def test_wrong_type(train: Refused) -> None:
    says(train("stages.1.epochs=few"), "stages.1.epochs", "whole number", "'few'")


def test_missing_file(refused: Refused, write_config: WriteConfig, outputs: Path) -> None:
    near = write_config({}, "tiny")
    message = refused("train", near.with_name("tini.yaml"), "--outputs", outputs)
    says(message, "tini.yaml", "'tiny.yaml'")


def test_pooling_that_does_not_fit(train: Refused) -> None:
    message = train("model.head.pooling=none")
    says(message, "model.head.pooling", "cnn_compact", "avg, max or flatten", "'none'")


def test_more_layers_than_there_are(train: Refused) -> None:
    message = train("stages.1.train={last: 500}")
    says(message, "'all'", "last: 500", "at most")


def test_unknown_layer(train: Refused) -> None:
    says(train("stages.1.train={from: conv9d}"), "'conv9d'", "Did you mean 'conv2d")


# The dataset -----------------------------------------------------------------------------------


def face_folders(root: Path, source: Path, each: int = 3) -> Path:
    """The folders of OpenCV Emotion, with `each` images in every class."""
    image = next(source.rglob("*.png"))
    for split in ("training", "validation"):
        for name in ("Neutral", "happy", "Sad", "surprise", "fear", "disgust", "Angry"):
            (root / split / name).mkdir(parents=True)
            for number in range(each):
                shutil.copy(image, root / split / name / f"{number}.png")
    return root


@pytest.fixture
def faces(drawn_root: Path, tmp_path: Path) -> Path:
    return face_folders(tmp_path / "faces", drawn_root)


def use(root: Path) -> tuple[str, str]:
    return "dataset.name=opencv_emotion", f"dataset.root={root}"


def test_missing_dataset(train: Refused, tmp_path: Path) -> None:
    message = train(*use(tmp_path / "nowhere"))
    says(message, tmp_path / "nowhere", "fer data prepare opencv_emotion ARCHIVE")


def test_empty_class_folder(train: Refused, faces: Path) -> None:
    for image in (faces / "training" / "disgust").iterdir():
        image.unlink()
    message = train(*use(faces))
    says(message, "'training/disgust'", "Download")


def test_class_with_too_few_images(train: Refused, faces: Path) -> None:
    for number in (1, 2):
        (faces / "training" / "disgust" / f"{number}.png").unlink()
    message = train(*use(faces))
    says(message, "'disgust'", "1 train", "Add")


def test_undecodable_image_of_a_class_folder(train: Refused, faces: Path) -> None:
    broken = faces / "training" / "fear" / "1.png"
    broken.write_bytes(b"not an image")
    message = train(*use(faces))
    says(message, broken, "12 bytes", "Replace")


def test_undecodable_image_of_the_drawn_faces(train: Refused, copied_root: Path) -> None:
    broken = sorted((copied_root / "train").rglob("*.png"))[5]
    broken.write_bytes(broken.read_bytes()[:100])
    message = train(f"dataset.root={copied_root}")
    says(message, broken, "100 bytes")


def test_no_validation_split_of_its_own(train: Refused) -> None:
    message = train("dataset.validation=validation")
    says(message, "no validation split", "dataset.validation")


def test_preparing_an_unknown_dataset(refused: Refused, tmp_path: Path) -> None:
    message = refused("data", "prepare", "drwn", "--root", tmp_path / "x")
    says(message, "dataset 'drwn'", "affectnet, drawn", "Did you mean 'drawn'?")


def test_preparing_without_the_archive(refused: Refused, tmp_path: Path) -> None:
    message = refused("data", "prepare", "opencv_emotion", "--root", tmp_path / "x")
    says(message, f"fer data prepare opencv_emotion ARCHIVE --root {tmp_path / 'x'}")


# The device ------------------------------------------------------------------------------------


def test_wrong_device(refused: Refused, tiny: dict[str, Any], write_config: WriteConfig) -> None:
    message = refused("train", write_config(tiny), "--device", "tpu")
    says(message, "device tpu", "auto, cpu, gpu or gpu:<index>")


def test_no_gpu(
    refused: Refused,
    tiny: dict[str, Any],
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    message = refused("train", write_config(tiny), "--device", "gpu")
    says(message, "device gpu", "no GPU", "Found")


# Runs ------------------------------------------------------------------------------------------


def test_unknown_run(refused: Refused, copied_run: Path, outputs: Path) -> None:
    message = refused("evaluate", "tiny-s8-unhashed", "--outputs", outputs)
    says(message, "'tiny-s8-unhashed'", copied_run.name)


def test_missing_outputs(refused: Refused, tmp_path: Path) -> None:
    for arguments in (
        ("compare", tmp_path / "no"),
        ("evaluate", "x", "--outputs", tmp_path / "no"),
    ):
        message = refused(*arguments)
        says(message, tmp_path / "no", "Give the folder")


def test_outputs_without_a_run(refused: Refused, outputs: Path) -> None:
    says(refused("compare", outputs, "--json"), outputs, "no runs")
    says(refused("evaluate", "x", "--outputs", outputs), outputs, "'x'", "no runs")


def test_unknown_split(refused: Refused, copied_run: Path) -> None:
    message = refused(
        "evaluate", copied_run.name, "--outputs", copied_run.parent, "--split", "tset"
    )
    says(message, "--split tset", "train, validation, test")


def test_unfinished_run(refused: Refused, copied_run: Path) -> None:
    record = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    says(message, "interrupted", f"fer train {copied_run / 'config.yaml'}")


@pytest.mark.parametrize("content", ["{", "[]", "\x00", "{}", '{"status": "finished"}'])
def test_damaged_run_record(refused: Refused, copied_run: Path, content: str) -> None:
    (copied_run / "run.json").write_text(content)
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert copied_run.name in message


def test_damaged_run_record_is_not_trained_over(refused: Refused, copied_run: Path) -> None:
    (copied_run / "run.json").write_text("{")
    message = refused("train", copied_run / "config.yaml", "--outputs", copied_run.parent)
    says(message, "JSON", "--fresh")


def test_missing_model(refused: Refused, copied_run: Path) -> None:
    (copied_run / "model.keras").unlink()
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    says(message, copied_run / "model.keras", "--fresh")


@pytest.mark.parametrize("damage", some_fast(["cut", "text", "inside", "empty archive"], "cut"))
def test_damaged_model(refused: Refused, copied_run: Path, damage: str) -> None:
    path = copied_run / "model.keras"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "text": b"not a model",
            "inside": content[:middle] + bytes(1000) + content[middle + 1000 :],
            "empty archive": b"PK\x05\x06" + bytes(18),
        }[damage]
    )
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    says(message, path, "--fresh")


def test_dataset_that_changed_since_training(
    refused: Refused, copied_run: Path, copied_root: Path
) -> None:
    config = (copied_run / "config.yaml").read_text().splitlines()
    lines = [f"  root: {copied_root}" if "  root:" in line else line for line in config]
    (copied_run / "config.yaml").write_text("\n".join(lines))
    image = next((copied_root / "test").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    says(message, copied_run.name, "fingerprint", "Restore")
