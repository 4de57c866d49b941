"""A dataset of one's own, as the documentation shows it."""

import re
from pathlib import Path
from typing import Any

import pytest
from layouts import problems, save
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.registry import DATASETS

GUIDE = Path(__file__).parents[2] / "docs" / "datasets.md"


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """The example of the documentation, registered as `session` for one test."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    DATASETS.names()  # the built-in ones are found first
    monkeypatch.setitem(DATASETS._entries, "session", namespace["SPEC"])
    found: DatasetSpec = DATASETS["session"]
    return found


def test_the_documented_adapter_works(spec: DatasetSpec, tmp_path: Path) -> None:
    for person in range(8):
        for label in ("happy", "Sad"):
            save(Image.new("RGB", (8, 8)), tmp_path / f"p{person}_{label}_1.jpg")
    for name in ("p1_bored_1.jpg", "notes.txt", "cover.jpg"):
        save(Image.new("RGB", (8, 8)), tmp_path / "cover.jpg")
        (tmp_path / "cover.jpg").rename(tmp_path / name)
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = Dataset.model_validate({"name": "session", "root": tmp_path, "split": split})
    manifest = load_manifest(config)
    assert manifest.classes == ("happiness", "sadness")
    assert manifest.split_sizes() == {"train": 8, "validation": 4, "test": 4}
    assert manifest.samples.groupby("group")["split"].nunique().max() == 1
    assert manifest.dropped == {"unknown label": 2, "not an image": 1}
    assert problems(manifest)["label_unknown"].examples == ("cover.jpg", "p1_bored_1.jpg")


def test_its_errors_begin_with_the_root(spec: DatasetSpec, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=f"^{root}: no"):
            spec.read(Dataset(name="session", root=root))
