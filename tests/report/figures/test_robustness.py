"""The figure of corruption robustness, from complete and partial documents."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filled import cell, robustness
from PIL import Image
from tiers import some_fast

from fer_bench.report.figures.robustness import robustness_figure

PARTS = ["all", "blur:3", "eyes", "fog:2,mouth", "noise:1,blur:5,fog"]


def drawn(text: str, **changes: Any) -> Image.Image:
    file = io.BytesIO()
    robustness_figure(robustness(text) | changes, file)
    return Image.open(file)


@pytest.mark.parametrize("text", some_fast(PARTS, "fog:2,mouth"))
def test_any_selection_can_be_drawn(text: str) -> None:
    image = drawn(text)
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.slow
def test_the_figure_grows_with_the_families() -> None:
    one, two, three = (drawn(text) for text in ("fog:1", "fog:1,contrast:1", "fog:1,blur:1,eyes"))
    four = drawn("fog:1,blur:1,contrast:1")
    assert one.width < two.width < three.width
    assert one.height == two.height == three.height < four.height


def test_the_figure_is_written_to_a_path(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "robustness.png"
    robustness_figure(robustness("eyes"), path)
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_accuracy_moves_the_marks() -> None:
    low = [entry | {"accuracy": cell(0.2)} for entry in robustness("fog")["conditions"]]
    assert drawn("fog").tobytes() != drawn("fog", conditions=low).tobytes()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_perfect_and_hopeless_models_can_be_drawn(value: float) -> None:
    exact = {"value": value, "low": value, "high": value}
    conditions = [entry | {"accuracy": exact} for entry in robustness("fog")["conditions"]]
    drawn("fog", clean=exact, conditions=conditions)
