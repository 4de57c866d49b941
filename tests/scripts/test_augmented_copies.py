"""`scripts/augmented_copies.py`: its operations, and how it counts what the audit finds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from layouts import Face
from layouts.opencv_emotion import opencv_emotion
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import augmented_copies

from fer_bench.config.dataset import Dataset
from fer_bench.data.audit.duplicates import inspect_images
from fer_bench.data.load import read_release


@pytest.fixture
def square() -> Image.Image:
    """Black, with one white pixel right of the centre."""
    pixels = np.zeros((9, 9), dtype=np.uint8)
    pixels[4, 6] = 255
    return Image.fromarray(pixels)


def brightest(image: Image.Image) -> tuple[int, int]:
    row, column = np.unravel_index(np.asarray(image).argmax(), (9, 9))
    return int(row), int(column)


def test_an_image_is_turned_shifted_and_zoomed_around_its_centre(square: Image.Image) -> None:
    generator = np.random.default_rng(0)
    quarter = augmented_copies.turned(90, generator)
    assert brightest(augmented_copies.moved(square, quarter, "constant")) in ((2, 4), (6, 4))
    down = augmented_copies.Pose(np.eye(2), np.array([1 / 9, 0]))
    assert brightest(augmented_copies.moved(square, down, "constant")) == (3, 6)
    twice = augmented_copies.zoomed(2, generator)
    assert brightest(augmented_copies.moved(square, twice, "nearest")) == (4, 8)


def test_colours_move_together() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    nothing = augmented_copies.Pose(np.eye(2), np.zeros(2))
    moved = augmented_copies.moved(Image.fromarray(pixels), nothing, "reflect")
    assert np.array_equal(np.asarray(moved), pixels)


def test_the_table(tmp_path: Path, faces: list[Face], monkeypatch: pytest.MonkeyPatch) -> None:
    layout = opencv_emotion(tmp_path / "faces", faces)
    manifest = read_release(Dataset(**layout.dataset))
    chosen = {"turned by 10°": augmented_copies.MOVED["turned by 10°"]}
    monkeypatch.setattr(augmented_copies, "MOVED", chosen)
    monkeypatch.setattr(augmented_copies, "EDITED", {})
    count = min(4, len(manifest.split("test")))
    heading, _, row = augmented_copies.recall(manifest, count)
    assert heading == f"| of {count} copies found | black | nearest | reflected |"
    assert row.startswith("| turned by 10° | 100.0% [")
    assert row.count("100.0% [") == 3


def test_pairs_of_two_folders_are_false(tmp_path: Path, faces: list[Face]) -> None:
    layout = opencv_emotion(tmp_path / "faces", faces)
    manifest = read_release(Dataset(**layout.dataset))
    own = inspect_images(manifest, 1)
    other = tmp_path / "other"
    other.mkdir()
    Image.open(manifest.root / manifest.samples["path"][0]).rotate(9).save(other / "copy.png")
    (line,) = augmented_copies.false_pairs(own, other, tmp_path / "pairs.png")
    assert ": 1 of " in line
    with Image.open(tmp_path / "pairs.png") as sheet:
        assert sheet.size == (96, 48)
