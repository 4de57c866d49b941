"""What a user can put right ends with exit code 2, a message without a traceback, and no trace.

Each message says what is wrong, what was found and what to do.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
        (["train"], SUITE, "a suite, not an experiment", "`fer sweep {}` trains its runs"),
        (["validate"], SPACE, "a search space, not an experiment", "--search {}` looks"),
        (["sweep"], EXPERIMENT, "an experiment, not a suite", "`fer train {}` trains it"),
        (["sweep"], SPACE, "a search space, not a suite", "--search {}` looks"),
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
    assert f"error: {path}: is {kind}.\n" in message
    assert advice.format(path) in message


def test_unknown_key(train: Refused) -> None:
    message = train("training.batchsize=3")
    assert "training.batchsize: unknown key. Did you mean 'batch_size'?" in message
    assert "`fer schema` prints every key" in message


def test_wrong_type(train: Refused) -> None:
    assert "stages.1.epochs: must be a valid integer" in train("stages.1.epochs=few")


def test_missing_file(refused: Refused, write_config: WriteConfig, outputs: Path) -> None:
    near = write_config({}, "tiny")
    message = refused("train", near.with_name("tini.yaml"), "--outputs", outputs)
    assert "tini.yaml: no such file. Did you mean 'tiny.yaml'?" in message


def test_pooling_that_does_not_fit(train: Refused) -> None:
    message = train("model.head.pooling=none")
    assert "model.head.pooling: cnn_compact ends in a feature map" in message
    assert "use avg, max or flatten, got 'none'" in message


def test_more_layers_than_there_are(train: Refused) -> None:
    message = train("stages.1.train={last: 500}")
    assert "stage 'all': last: 500 of " in message
    assert "Use at most" in message


def test_unknown_layer(train: Refused) -> None:
    assert "no layer or block 'conv9d'. Did you mean " in train("stages.1.train={from: conv9d}")


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
    assert f"{tmp_path / 'nowhere'}: no such folder" in message
    assert "fer data prepare opencv_emotion ARCHIVE" in message


def test_empty_class_folder(train: Refused, faces: Path) -> None:
    for image in (faces / "training" / "disgust").iterdir():
        image.unlink()
    message = train(*use(faces))
    assert "class folder 'training/disgust' holds no images" in message
    assert "Download the whole archive" in message


def test_class_with_too_few_images(train: Refused, faces: Path) -> None:
    for number in (1, 2):
        (faces / "training" / "disgust" / f"{number}.png").unlink()
    message = train(*use(faces))
    assert "class 'disgust' has 1 train sample(s), too few" in message
    assert "Add samples of this class" in message


def test_undecodable_image_of_a_class_folder(train: Refused, faces: Path) -> None:
    broken = faces / "training" / "fear" / "1.png"
    broken.write_bytes(b"not an image")
    message = train(*use(faces))
    assert f"{broken}: this image cannot be decoded (12 bytes; " in message
    assert "Replace the file" in message


def test_undecodable_image_of_the_drawn_faces(train: Refused, copied_root: Path) -> None:
    broken = sorted((copied_root / "train").rglob("*.png"))[5]
    broken.write_bytes(broken.read_bytes()[:100])
    message = train(f"dataset.root={copied_root}")
    assert f"{broken}: this image cannot be decoded (100 bytes; " in message


def test_no_validation_split_of_its_own(train: Refused) -> None:
    message = train("dataset.validation=validation")
    assert "no validation split of its own" in message
    assert "Set dataset.validation to a part" in message


def test_preparing_an_unknown_dataset(refused: Refused, tmp_path: Path) -> None:
    message = refused("data", "prepare", "drwn", "--root", tmp_path / "x")
    assert "unknown dataset 'drwn'; known: affectnet, drawn, " in message
    assert "Did you mean 'drawn'?" in message


def test_preparing_without_the_archive(refused: Refused, tmp_path: Path) -> None:
    message = refused("data", "prepare", "opencv_emotion", "--root", tmp_path / "x")
    assert "is not downloaded automatically" in message
    assert f"fer data prepare opencv_emotion ARCHIVE --root {tmp_path / 'x'}" in message


# The device ------------------------------------------------------------------------------------


def test_wrong_device(refused: Refused, tiny: dict[str, Any], write_config: WriteConfig) -> None:
    message = refused("train", write_config(tiny), "--device", "tpu")
    assert "--device tpu: expected auto, cpu, gpu or gpu:<index>" in message


def test_no_gpu(
    refused: Refused,
    tiny: dict[str, Any],
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    message = refused("train", write_config(tiny), "--device", "gpu")
    assert "--device gpu: TensorFlow sees no GPU" in message
    assert "Found" in message


# Runs ------------------------------------------------------------------------------------------


def test_unknown_run(refused: Refused, copied_run: Path, outputs: Path) -> None:
    message = refused("evaluate", "tiny-s8-00000000", "--outputs", outputs)
    assert f"no run called 'tiny-s8-00000000'; it holds {copied_run.name}" in message


def test_missing_outputs(refused: Refused, tmp_path: Path) -> None:
    for arguments in (
        ("compare", tmp_path / "no"),
        ("evaluate", "x", "--outputs", tmp_path / "no"),
    ):
        message = refused(*arguments)
        assert f"{tmp_path / 'no'}: no such folder" in message
        assert "Give the folder that holds your runs" in message


def test_outputs_without_a_run(refused: Refused, outputs: Path) -> None:
    assert "holds no runs" in refused("compare", outputs, "--json")
    assert "it holds no runs" in refused("evaluate", "x", "--outputs", outputs)


def test_unknown_split(refused: Refused, copied_run: Path) -> None:
    message = refused(
        "evaluate", copied_run.name, "--outputs", copied_run.parent, "--split", "tset"
    )
    assert "--split tset: expected train, validation, test" in message


def test_unfinished_run(refused: Refused, copied_run: Path) -> None:
    record = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert "the run is not finished (status: interrupted)" in message
    assert f"fer train {copied_run / 'config.yaml'}" in message


@pytest.mark.parametrize("content", ["{", "[]", "\x00", "{}", '{"status": "finished"}'])
def test_damaged_run_record(refused: Refused, copied_run: Path, content: str) -> None:
    (copied_run / "run.json").write_text(content)
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert copied_run.name in message


def test_damaged_run_record_is_not_trained_over(refused: Refused, copied_run: Path) -> None:
    (copied_run / "run.json").write_text("{")
    message = refused("train", copied_run / "config.yaml", "--outputs", copied_run.parent)
    assert "cannot be read as JSON" in message
    assert "--fresh" in message


def test_missing_model(refused: Refused, copied_run: Path) -> None:
    (copied_run / "model.keras").unlink()
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert f"{copied_run / 'model.keras'}: the model cannot be loaded" in message
    assert "--fresh" in message


@pytest.mark.parametrize("damage", ["cut", "text", "inside", "empty archive"])
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
    assert f"{path}: the model cannot be loaded" in message
    assert "--fresh" in message


def test_dataset_that_changed_since_training(
    refused: Refused, copied_run: Path, copied_root: Path
) -> None:
    config = (copied_run / "config.yaml").read_text().splitlines()
    lines = [f"  root: {copied_root}" if "  root:" in line else line for line in config]
    (copied_run / "config.yaml").write_text("\n".join(lines))
    image = next((copied_root / "test").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    message = refused("evaluate", copied_run.name, "--outputs", copied_run.parent)
    assert "the dataset is not the one" in message
    assert "Restore the files" in message
