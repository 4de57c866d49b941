"""Every command of the README, run in its order in a folder where it is cheap to run."""

import itertools
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import classification_report
from typer.testing import Result

from fer_bench.config.loading import load_experiment

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^fer [^#\n]+", README, re.MULTILINE)
RUN_ID = re.compile(r"\b(\w+)-s\d+-[0-9a-f]{8}\b")
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def write_archive(path: Path) -> None:
    """An archive in the layout of OpenCV Emotion: noise instead of faces."""
    generator = np.random.default_rng(0)
    image = path.with_suffix(".jpg")
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("training", "validation"):
            for name, number in itertools.product(CLASSES, range(4)):
                pixels = generator.integers(0, 255, (48, 48), dtype=np.uint8)
                Image.fromarray(pixels).save(image)
                archive.write(image, f"{split}/{name}/{number}.jpg")


def write_folder(root: Path) -> None:
    """Somebody's own images, one folder a class."""
    generator = np.random.default_rng(1)
    for name, number in itertools.product(CLASSES, range(10)):
        path = root / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (48, 48), dtype=np.uint8)).save(path)


def write_answers(path: Path) -> None:
    """What some other program says of 21 images."""
    rows = [f"{number},{CLASSES[number % 7]},{','.join(['0.1'] * 6)},0.4" for number in range(21)]
    header = ",".join(["sample_id", "label", *(f"p_{name}" for name in CLASSES)])
    path.write_text("\n".join([header, *rows]) + "\n")


def write_report(path: Path) -> None:
    """A classification report as papers print it."""
    labels = [number % 7 for number in range(70)]
    guesses = [label if number % 3 else 0 for number, label in enumerate(labels)]
    path.write_text(classification_report(labels, guesses, target_names=CLASSES, digits=4))


@pytest.fixture
def here(tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder as a user sees it, but for a quickstart on few and small faces."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    quick = tiny | {"stages": tiny["stages"][:1]}
    (tmp_path / "configs" / "drawn_compact.yaml").write_text(yaml.safe_dump(quick))
    write_archive(tmp_path / "archive.zip")
    write_folder(tmp_path / "data" / "my_faces")
    write_answers(tmp_path / "predictions.csv")
    write_report(tmp_path / "table.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_the_other(
    here: Path, fer: Callable[..., Result]
) -> None:
    run_id = ""
    assert len(COMMANDS) >= 7
    for command in COMMANDS:
        # One of the 77 conditions: `test_robustness` has them all.
        quick = command.replace("--corruptions all", "--corruptions fog:1")
        quick = quick.replace("fer doctor", "fer doctor --seconds 0")
        arguments = shlex.split(RUN_ID.sub(run_id, quick))[1:]
        result = fer(*arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}"
        if arguments[0] == "train" and not run_id:
            run_id = result.stdout.splitlines()[-1]
    assert (here / "outputs" / "comparison.html").exists()


def test_run_ids_in_the_readme_are_those_of_the_shipped_files() -> None:
    for match in RUN_ID.finditer(README):
        assert load_experiment(ROOT / "configs" / f"{match[1]}.yaml").run_id == match[0]
