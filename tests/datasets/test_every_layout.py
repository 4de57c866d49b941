"""What holds for every layout of every registered dataset."""

import importlib
import inspect
import pkgutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import Face, Layout, Writer, by_id
from PIL import Image

from fer_bench import decoding
from fer_bench.audit import audit
from fer_bench.config import Dataset
from fer_bench.datasets import DatasetSpec, load_manifest
from fer_bench.errors import DataError
from fer_bench.manifest import EXPRESSIONS, Manifest
from fer_bench.registry import DATASETS


def writers() -> dict[str, Writer]:
    """Every function of `tests/layouts/` that writes a layout, by `<module>.<function>`."""
    found: dict[str, Writer] = {}
    for module in pkgutil.iter_modules(layouts.__path__):
        functions = inspect.getmembers(importlib.import_module(f"layouts.{module.name}"))
        for name, function in functions:
            if not inspect.isfunction(function) or name.startswith("_"):
                continue
            if inspect.signature(function).return_annotation is Layout:
                found[f"{module.name}.{name}"] = function
    return found


WRITERS = writers()


@pytest.fixture(scope="module", params=WRITERS)
def layout(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, faces: list[Face]
) -> Layout:
    """Each layout, written from the 96 drawn faces."""
    return WRITERS[request.param](tmp_path_factory.mktemp("layout"), faces)


def dividing(layout: Layout) -> Dataset:
    """The dataset section with which an experiment would use this layout."""
    splits = set(layout.samples["split"])
    keys: dict[str, Any] = {}
    if "test" not in splits:
        keys["split"] = {"train": 0.5, "validation": 0.25, "test": 0.25}
    elif "validation" in splits:
        keys["validation"] = "validation"
    else:
        keys["validation"] = 0.25
    return Dataset.model_validate(keys | layout.dataset)


@pytest.fixture(scope="module")
def manifest(layout: Layout) -> Manifest:
    return load_manifest(dividing(layout))


def test_every_dataset_has_a_layout() -> None:
    # A module that is called as a built-in ends in an underscore, as its dataset does not.
    datasets = {name.partition(".")[0].removesuffix("_") for name in WRITERS}
    assert datasets == set(DATASETS.names()) - {"drawn"}


def test_every_written_sample_is_read(layout: Layout) -> None:
    spec: DatasetSpec = DATASETS[layout.dataset["name"]]
    read = spec.read(Dataset.model_validate(layout.dataset))
    # So few faces are no known release; that its layout was recognised must still be seen.
    assert read.release.removesuffix("-unrecognised") == layout.release.removesuffix(
        "-unrecognised"
    )
    columns = list(layout.samples.columns)
    expected = by_id(layout.samples)
    found = by_id(read.samples)[columns]
    for column in columns:
        assert found[column].tolist() == pytest.approx(expected[column].tolist(), nan_ok=True)


def test_an_experiment_gets_three_disjoint_splits_of_known_classes(manifest: Manifest) -> None:
    assert set(manifest.split_sizes()) == {"train", "validation", "test"}
    assert manifest.samples["sample_id"].is_unique
    assert list(manifest.classes) == [name for name in EXPRESSIONS if name in manifest.classes]
    assert all(manifest.counts()["train"].values())


def test_every_image_is_there_and_decodes(manifest: Manifest) -> None:
    for split, size in manifest.split_sizes().items():
        opened = decoding.open_split(manifest, split, 24)
        assert opened.pixels is not None
        assert opened.pixels.shape == (size, 24, 24, manifest.channels)


def test_reading_again_finds_the_same(layout: Layout, manifest: Manifest) -> None:
    again = load_manifest(dividing(layout))
    assert again.fingerprint == manifest.fingerprint
    assert again.samples["split"].tolist() == manifest.samples["split"].tolist()


def test_another_label_is_another_fingerprint(manifest: Manifest) -> None:
    other = manifest.samples.copy()
    other.loc[0, "label"] = next(n for n in manifest.classes if n != other.loc[0, "label"])
    changed = Manifest(**{**vars_of(manifest), "samples": other})
    assert changed.fingerprint != manifest.fingerprint


def vars_of(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}


def test_an_audit_finds_no_file_that_cannot_be_used(manifest: Manifest) -> None:
    kinds = {problem.kind for problem in audit(manifest, {}, workers=1).problems}
    assert not kinds & {"undecodable", "truncated", "too_large", "missing"}


# Files that are no images ----------------------------------------------------------------------


def bomb(path: Path) -> None:
    """A small PNG that claims to have 60,000 x 60,000 pixels."""
    Image.new("L", (1, 1)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no image")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [bomb, empty, text, truncated])
def test_a_file_that_is_no_image_is_named_before_training(
    damage: Callable[[Path], None], tmp_path: Path, faces: list[Face]
) -> None:
    layout = WRITERS["folder.flat"](tmp_path, faces)
    manifest = load_manifest(dividing(layout))
    path = manifest.root / manifest.split("train")["path"].iloc[5]
    damage(path)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        decoding.open_split(manifest, "train", 24)
    assert str(path) in str(caught.value)
