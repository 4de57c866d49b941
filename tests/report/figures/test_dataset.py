"""The figures of a dataset, with everything it may have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_bench.data.manifest import Manifest
from fer_bench.report.figures.dataset import contact_sheet, dataset_counts


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def manifest(valence: bool) -> Manifest:
    columns = {
        "sample_id": [f"{i}" for i in range(40)],
        "path": [f"{i}.png" for i in range(40)],
        "split": ["train", "train", "validation", "test"] * 10,
        "label": ["neutral", "fear"] * 20,
    }
    axes = {"valence": np.linspace(-1, 1, 40), "arousal": np.nan} if valence else {}
    samples = pd.DataFrame(columns | axes)
    return Manifest("any", "any-v1", Path("data"), ("neutral", "fear"), 3, samples)


def test_counts_of_a_dataset_are_drawn_with_valence_and_arousal_where_known(tmp_path: Path) -> None:
    path = tmp_path / "counts.png"
    dataset_counts(manifest(valence=False), path)
    narrow = size_of(path)[0]
    both = replace(manifest(valence=True))
    both.samples.loc[:9, "arousal"] = 0.5
    dataset_counts(both, path)
    assert size_of(path)[0] > narrow


@pytest.mark.parametrize("number", [1, 12, 30])
def test_a_contact_sheet_of_any_length(number: int, tmp_path: Path) -> None:
    images = np.full((number, 24, 24, 3), 200, np.uint8)
    images[:, :12] = 10
    contact_sheet(images, ["happiness"] * number, "a title", tmp_path / "new" / "s.png")
    width, height = size_of(tmp_path / "new" / "s.png")
    assert width >= 320
    assert height >= 100 * -(-number // 12)
