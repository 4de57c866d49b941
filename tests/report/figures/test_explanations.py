"""The sheets of an explanation: one image per example, coloured by its maps."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from tiers import some_fast

from fer_bench.data.datasets.drawn import face
from fer_bench.evaluation.explain import Example, Explanation, MeanMap
from fer_bench.report.figures.explanations import (
    CAPTION,
    COLOURS,
    GAP,
    MARGIN,
    TILE,
    TITLE,
    example_sheet,
    mean_map_figure,
    overlay,
    write_sheets,
)
from fer_bench.report.terminal.explanations import sheets_table

FACE = face.draw_face(3, 1, 48).image


def peak(row: int, column: int) -> NDArray[np.float32]:
    map_ = np.zeros((6, 6), np.float32)
    map_[row, column] = 1
    return map_


def correct(map_: NDArray[np.float32] | None = None, probability: float = 0.9) -> Example:
    maps = {"fear": peak(1, 1) if map_ is None else map_}
    return Example("a", "fear", "fear", probability, FACE, maps)


def mistake() -> Example:
    maps = {"contempt": peak(0, 0), "happiness": peak(5, 5)}
    return Example("b", "contempt", "happiness", 0.9999, FACE, maps)


def pixels(png: bytes) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(np.int64)


def tile(sheet: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The tile `number` of the first example."""
    left, top = MARGIN + number * (TILE + GAP), TITLE + CAPTION
    return sheet[top : top + TILE, left : left + TILE]


def yellow(picture: NDArray[Any]) -> tuple[float, float]:
    """The centre of the most yellow pixels, relative to the height and the width."""
    colours = picture.astype(np.int64)
    much = colours[..., 1] - colours[..., 2]
    rows, columns = np.nonzero(much > 0.8 * much.max())
    return float(rows.mean() / len(picture)), float(columns.mean() / len(picture))


def test_the_image_is_beside_its_maps() -> None:
    sheet = pixels(example_sheet([mistake()], "some run"))
    image = Image.fromarray(FACE).resize((TILE, TILE), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(tile(sheet, 0), np.asarray(image))
    assert yellow(tile(sheet, 1)) == pytest.approx((1 / 12, 1 / 12), abs=0.08)
    assert yellow(tile(sheet, 2)) == pytest.approx((11 / 12, 11 / 12), abs=0.08)


@pytest.mark.parametrize("number", some_fast([1, 3, 4, 9, 40], 1, 4))
@pytest.mark.parametrize(("example", "widest"), [(correct(), 4), (mistake(), 3)])
def test_a_sheet_has_room_for_all(number: int, example: Example, widest: int) -> None:
    sheet = pixels(example_sheet([example] * number, "run"))
    columns, rows = min(number, widest), -(-number // widest)
    assert columns * (1 + len(example.maps)) * TILE < sheet.shape[1] <= 1180
    assert rows * TILE < len(sheet) - TITLE < rows * 1.6 * TILE
    assert len(np.unique(sheet[-TILE:, :TILE])) > 50  # the last row holds an image


def test_a_long_title_is_not_cut() -> None:
    sheet = pixels(example_sheet([correct()], "a run with a rather long name " * 8))
    assert (sheet[:TITLE, -MARGIN:] == 255).all()
    assert (sheet[:TITLE, -5 * MARGIN :] != 255).any()


def test_the_image_is_visible_through_an_overlay() -> None:
    black, white = (Image.new("RGB", (60, 60), colour) for colour in ("black", "white"))
    gradient = np.tile(np.linspace(0, 1, 6, dtype=np.float32), (6, 1))
    dark, light = (np.asarray(overlay(picture, gradient)).astype(int) for picture in (black, white))
    np.testing.assert_allclose(light - dark, 127.5, atol=1)
    # Lighter is more: from left to right it never gets darker.
    brightness = dark @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness, axis=1) > -1.5).all()
    assert brightness[:, -1].min() > brightness[:, 0].max() + 50


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(1, 14))
def test_an_overlay_takes_maps_of_any_size(seed: int, side: int) -> None:
    map_ = np.random.default_rng(seed).uniform(0, 1, (side, side)).astype(np.float32)
    shown = overlay(Image.fromarray(FACE), map_)
    assert shown.size == (48, 48)
    assert shown.mode == "RGB"


def test_an_empty_map_is_labelled() -> None:
    something = pixels(example_sheet([correct()], "run"))
    nothing = pixels(example_sheet([correct(np.zeros((6, 6), np.float32))], "run"))
    below = slice(TITLE + CAPTION + TILE, None)
    assert (nothing[below] != 255).sum() > (something[below] != 255).sum()


def test_no_answer_is_certain() -> None:
    almost, certain = (pixels(example_sheet([correct(probability=p)], "run")) for p in (0.997, 1))
    np.testing.assert_array_equal(almost, certain)
    assert (pixels(example_sheet([correct(probability=0.99)], "run")) != certain).any()


def test_the_mean_maps_share_one_scale() -> None:
    means = [
        MeanMap("fear", 3, np.full((6, 6), 0.8, np.float32)),
        MeanMap("anger", 3, np.full((6, 6), 0.4, np.float32)),
        MeanMap("contempt", 0, np.zeros((6, 6), np.float32)),
    ]
    shown = pixels(mean_map_figure(means, "run")).reshape(-1, 3)
    for value, is_large in ((1.0, True), (0.5, True), (0.0, False)):
        wanted = np.round(np.array(COLOURS(value)[:3]) * 255).astype(int)
        found = int((np.abs(shown - wanted).max(axis=1) <= 1).sum())
        assert (found > 20_000) is is_large


@pytest.mark.parametrize("number", some_fast([1, 4, 7, 8], 1, 7))
def test_mean_maps_of_any_number_of_classes(number: int) -> None:
    means = [MeanMap(f"class {code}", 0, np.zeros((3, 4), np.float32)) for code in range(number)]
    assert min(pixels(mean_map_figure(means, "a long name " * 6)).shape[:2]) > 200


def explanation(folder: Path, *examples: Example) -> Explanation:
    means = (MeanMap("fear", 2, peak(1, 1)), MeanMap("anger", 1, peak(2, 2)))
    return Explanation("run", "test", folder, {}, examples, means)


def test_sheets_are_written_and_outdated_ones_removed(tmp_path: Path) -> None:
    both = explanation(tmp_path / "test", correct(), correct(), mistake())
    sheets = write_sheets(both)
    assert list(sheets) == ["correct", "mistakes", "mean_maps"]
    assert {path.name for path in (tmp_path / "test").iterdir()} == {
        "correct.png",
        "mistakes.png",
        "mean_maps.png",
    }
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(sheets_table(both, sheets))
    lines = console.export_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["n", "2", "1", "3"]
    assert len(lines) == 4
    assert list(write_sheets(explanation(tmp_path / "test", mistake()))) == [
        "mistakes",
        "mean_maps",
    ]
    assert not (tmp_path / "test" / "correct.png").exists()
