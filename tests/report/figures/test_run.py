"""Figures: drawn without a warning at the sizes that occur, and readable as PNG."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiers import some_fast

from fer_bench.metrics.predictions import ValenceArousal
from fer_bench.report.figures import run


def history(epochs: int) -> pd.DataFrame:
    """Three stages; the first epoch has no validation."""
    epoch = np.arange(1, epochs + 1)
    scores = np.where(epoch == 1, np.nan, 0.5)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "stage": np.array(["head", "last20", "last45"])[3 * (epoch - 1) // epochs],
            "learning_rate": 1e-3 / epoch,
            "loss": 1 / epoch,
            "accuracy": 1 - 0.5 / epoch,
            "val_loss": scores,
            "val_accuracy": scores,
            "val_macro_f1": scores,
            "images_per_second": 100.0,
            "seconds": 1.0,
        }
    )


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize("classes", some_fast([2, 7, 8], 8))
def test_confusion_matrix_grows_with_the_classes(classes: int, tmp_path: Path) -> None:
    matrix = np.arange(classes * classes).reshape(classes, classes)
    matrix[-1] = 0  # a class without a sample has no shares to show
    path = tmp_path / "figures" / "confusion.png"
    run.confusion_matrix(matrix, [f"class {i}" for i in range(classes)], path, "a title")
    width, height = size_of(path)
    assert width > height > 100 * classes


@pytest.mark.parametrize("epochs", some_fast([1, 2, 35], 2))
def test_learning_curves_of_any_length(epochs: int, tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    run.learning_curves(history(epochs), path, best_epoch=epochs)
    assert size_of(path)[0] > 1000


@pytest.mark.slow
def test_learning_curves_without_a_best_epoch_or_validation(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    run.learning_curves(history(1), path)
    assert size_of(path)[0] > 1000


@pytest.mark.parametrize("samples", some_fast([0, 3, 5000], 3))
def test_predicted_against_true_axes(samples: int, tmp_path: Path) -> None:
    true = np.random.default_rng(0).uniform(-1, 1, (samples, 2))
    true[: samples // 2, 1] = np.nan
    path = tmp_path / "scatter.png"
    pairs = ValenceArousal(true, np.full((samples, 2), 0.25))
    run.valence_arousal_scatter(pairs, ["valence, n = 3", "arousal, n = 1"], path, "a" * 120)
    width, height = size_of(path)
    assert width > 1.5 * height


@pytest.mark.slow
def test_learning_curves_without_expressions(tmp_path: Path) -> None:
    rows = history(4)
    rows[["accuracy", "val_accuracy", "val_macro_f1"]] = np.nan
    run.learning_curves(rows, tmp_path / "bare.png")
    concordance = rows.assign(val_valence_ccc=0.5, val_arousal_ccc=-0.1)
    run.learning_curves(concordance, tmp_path / "curves.png")
    bare, drawn = ((tmp_path / name).read_bytes() for name in ("bare.png", "curves.png"))
    assert len(drawn) > len(bare)


def test_the_same_figure_has_the_same_bytes() -> None:
    images = [io.BytesIO(), io.BytesIO()]
    for image in images:
        run.learning_curves(history(3), image, best_epoch=2)
    assert images[0].getvalue() == images[1].getvalue()


@pytest.mark.slow
def test_drawing_touches_no_global_state() -> None:
    code = "import sys, fer_bench.report.figures.run; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_figure_that_cannot_be_drawn_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures" / "curves.png"
    run.learning_curves(history(3), path, 2)
    before = path.read_bytes()

    def fail(_: object, file: io.BytesIO, **__: object) -> None:
        file.write(b"half of a ")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="No space"):
        run.learning_curves(history(4), path, 2)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
