"""The figure and the table of corruption robustness, from documents whole and partial."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fer_bench.evaluation.corruptions import CORRUPTIONS, select
from fer_bench.report.figures.robustness import robustness_figure
from fer_bench.report.terminal.robustness import robustness_table

PARTS = ["all", "blur:3", "eyes", "fog:2,mouth", "noise:1,blur:5,fog"]


def cell(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def document(text: str) -> dict[str, Any]:
    """What `robustness.summarise` would say of a model that loses 5 points a severity."""
    conditions = select(text)
    graded = [condition for condition in conditions if condition[1]]
    nothing = {"value": None, "low": None, "high": None}
    return {
        "n": 3589,
        "clean": cell(0.66),
        "conditions": [
            {
                "corruption": name,
                "family": CORRUPTIONS[name].family,
                "severity": severity,
                "accuracy": cell(0.6 - 0.05 * (severity or 4)),
            }
            for name, severity in conditions
        ],
        "mean_corruption_accuracy": cell(0.45) if graded else nothing,
        "relative_drop": cell(0.3182) if graded else nothing,
        "by_corruption": {name: cell(0.4512) for name, _ in graded},
        "complete": text == "all",
        "fingerprint": "0" * 64,
        "seed": 0,
    }


def printed(text: str, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(robustness_table(document(text)))
    return file.getvalue()


def drawn(text: str, **changes: Any) -> Image.Image:
    file = io.BytesIO()
    robustness_figure(document(text) | changes, file)
    return Image.open(file)


@pytest.mark.parametrize("text", PARTS)
def test_any_part_can_be_drawn(text: str) -> None:
    image = drawn(text)
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert np.asarray(image.convert("L")).std() > 5


def test_the_figure_grows_with_the_families() -> None:
    one, two, three = (drawn(text) for text in ("fog:1", "fog:1,contrast:1", "fog:1,blur:1,eyes"))
    four = drawn("fog:1,blur:1,contrast:1")
    assert one.width < two.width < three.width
    assert one.height == two.height == three.height < four.height


def test_the_figure_is_written_to_a_path(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "robustness.png"
    robustness_figure(document("eyes"), path)
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_accuracy_moves_the_marks() -> None:
    low = [entry | {"accuracy": cell(0.2)} for entry in document("fog")["conditions"]]
    assert drawn("fog").tobytes() != drawn("fog", conditions=low).tobytes()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_perfect_and_hopeless_models_can_be_drawn(value: float) -> None:
    exact = {"value": value, "low": value, "high": value}
    conditions = [entry | {"accuracy": exact} for entry in document("fog")["conditions"]]
    drawn("fog", clean=exact, conditions=conditions)


def test_the_table_shows_every_corruption_within_80_columns() -> None:
    text = printed("all")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for name in CORRUPTIONS:
        assert name.replace("_", " ") in text
    row = next(line for line in text.splitlines() if line.strip().startswith("glass blur"))
    assert " ".join(row.split()) == "glass blur 45.12 [43.12, 47.12] 55.0 50.0 45.0 40.0 35.0"
    assert "66.00 [64.00, 68.00]" in text
    assert "31.82 [29.82, 33.82]" in text
    assert "asked for" not in text


def test_the_table_says_that_a_set_is_partial_and_what_is_missing() -> None:
    text = printed("fog:2,eyes")
    assert "conditions asked for" in " ".join(text.split())
    rows = [line.split() for line in text.splitlines()]
    assert ["fog", "45.12", "[43.12,", "47.12]", "-", "50.0", "-", "-", "-"] in rows
    assert ["eyes", "40.00", "[38.00,", "42.00]"] in rows
