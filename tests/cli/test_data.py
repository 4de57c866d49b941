"""`fer data`: what it prints, what it writes, and how it ends."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

Fer = Callable[..., Result]
CONTRACT = ["dataset", "release", "fingerprint", "classes", "counts", "dropped", "problems"]


@pytest.fixture
def config(tiny: dict[str, Any], copied_root: Path, write_config: Callable[..., Path]) -> Path:
    """An experiment on faces that a test may damage."""
    return write_config(tiny | {"dataset": tiny["dataset"] | {"root": str(copied_root)}})


def one_document(result: Result) -> Any:
    assert result.exit_code in (0, 2), result.output
    return json.loads(result.stdout)


# stats -----------------------------------------------------------------------------------------


def test_stats_prints_one_document(fer: Fer, config: Path) -> None:
    document = one_document(fer("data", "stats", config, "--json"))
    assert list(document)[:7] == CONTRACT
    assert {split: sum(of.values()) for split, of in document["counts"].items()} == {
        "train": 72,
        "validation": 24,
        "test": 48,
    }
    assert document["image_sizes"] == {"24x24": 144}
    assert document["valence"]["known"] == 144


def test_stats_shows_tables_that_fit_a_terminal(fer: Fer, config: Path) -> None:
    result = fer("data", "stats", config)
    assert result.exit_code == 0
    for words in ("drawn-v1", "happiness", "12.5%", "24x24 (144)", "left out: nothing", "arousal"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_stats_draws_what_it_is_asked_for(fer: Fer, config: Path, tmp_path: Path) -> None:
    plot = tmp_path / "new" / "counts.png"
    result = fer("data", "stats", config, "--plot", plot, "--json")
    assert one_document(result)["dataset"] == "drawn"
    assert str(plot) in result.stderr.replace("\n", "")
    with Image.open(plot) as image:
        assert image.width > 1000


# show ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--augmented"], ["--split", "test", "-n", "5"]])
def test_show_draws_a_sheet(fer: Fer, config: Path, tmp_path: Path, options: list[str]) -> None:
    sheet = tmp_path / "sheets" / "sheet.png"
    result = fer("data", "show", config, "-o", sheet, *options)
    assert (result.exit_code, result.stdout) == (0, "")
    with Image.open(sheet) as image:
        assert len(image.convert("L").getcolors(256) or []) > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tests"], "--split tests: expected train, validation, test"),
        (["--split", "test", "--augmented"], "only training images are augmented, not test"),
    ],
)
def test_show_refuses_what_makes_no_sense(
    fer: Fer, config: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = fer("data", "show", config, "-o", tmp_path / "sheet.png", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "sheet.png").exists()


def test_show_names_a_broken_image(
    fer: Fer, config: Path, copied_root: Path, tmp_path: Path
) -> None:
    for path in copied_root.rglob("*.png"):
        path.write_text("not an image")
    result = fer("data", "show", config, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 2
    assert "cannot be decoded" in result.stderr


# audit -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.budget(10)
def test_a_clean_audit_ends_well(fer: Fer, config: Path, copied_root: Path) -> None:
    result = fer("data", "audit", config, "--json", "--strict", "--workers", 1)
    document = one_document(result)
    assert result.exit_code == 0
    assert list(document)[:7] == CONTRACT
    assert not [p for p in document["problems"] if p["severity"] == "error"]
    for kind in ("quarantine", "groups"):
        assert copied_root.with_name(f"drawn.{kind}.csv").is_file()


def leak(root: Path) -> str:
    """Copy a test face over a training face of the same expression; returns the latter's id."""
    faces = pd.read_csv(root / "labels.csv")
    test = faces[faces["split"] == "test"].iloc[0]
    train = faces[(faces["split"] == "train") & (faces["label"] == test["label"])].iloc[0]
    (root / train["path"]).write_bytes((root / test["path"]).read_bytes())
    return str(train["sample_id"])


@pytest.mark.slow
def test_a_leak_is_found_quarantined_and_gone(
    fer: Fer, config: Path, copied_root: Path, tmp_path: Path
) -> None:
    leaked = leak(copied_root)
    quarantine, groups = tmp_path / "q.csv", tmp_path / "g.csv"
    files = ("--quarantine", quarantine, "--groups", groups)
    result = fer("data", "audit", config, "--strict", "--workers", 1, *files)
    assert result.exit_code == 2
    assert "exact_duplicate_across_splits" in result.stderr
    assert "exact duplicate across" in result.stdout
    assert pd.read_csv(quarantine)["sample_id"].tolist() == [leaked]

    spreadsheet = pd.read_csv(quarantine).to_csv(index=False, sep=";")
    quarantine.write_text(spreadsheet, encoding="utf-16")
    mended = ("--set", f"dataset.exclude={quarantine}", "--set", f"dataset.groups={groups}")
    result = fer("data", "audit", config, "--strict", "--workers", 1, *files, *mended)
    assert result.exit_code == 0, result.stderr
    assert pd.read_csv(quarantine)["sample_id"].tolist() == [leaked]
    counts = one_document(fer("data", "stats", config, *mended, "--json"))
    assert counts["dropped"] == {"excluded": 1}
    assert sum(sum(of.values()) for of in counts["counts"].values()) == 143


@pytest.mark.slow
def test_without_strict_findings_are_only_shown(fer: Fer, config: Path, copied_root: Path) -> None:
    leak(copied_root)
    result = fer("data", "audit", config, "--workers", 1)
    assert result.exit_code == 0
    assert "1 images to leave out" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80


# files as they are -----------------------------------------------------------------------------


def noise(seed: int, height: int = 32) -> NDArray[np.uint16]:
    """A grey picture of 16 bits that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 2**16, (8, 8), dtype=np.uint16)
    return np.kron(coarse, np.ones((height // 8, 4), np.uint16))


def folder_config(
    tiny: dict[str, Any], root: Path, write_config: Callable[..., Path], **keys: Any
) -> Path:
    return write_config(tiny | {"dataset": {"name": "folder", "root": str(root), **keys}})


PARTS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def findings(fer: Fer, config: Path) -> dict[str, Any]:
    document = one_document(fer("data", "audit", config, "--json"))
    return {problem["kind"]: problem for problem in document["problems"]}


def test_grey_pictures_of_16_bits_are_not_blank_and_their_leak_is_found(
    fer: Fer, tiny: dict[str, Any], tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    root = tmp_path / "faces"
    for number, (split, label) in enumerate(product(("train", "test"), ("happy", "sad"))):
        (root / split / label).mkdir(parents=True)
        for index in range(4):
            picture = Image.fromarray(noise(10 * number + index))
            picture.save(root / split / label / f"{index}.png")
    (root / "train" / "happy" / "copy.png").write_bytes(
        (root / "test" / "happy" / "0.png").read_bytes()
    )
    found = findings(fer, folder_config(tiny, root, write_config))
    assert "blank" not in found
    assert found["exact_duplicate_across_splits"]["count"] == 2
    assert pd.read_csv(tmp_path / "faces.quarantine.csv")["sample_id"].tolist() == [
        "train/happy/copy.png"
    ]


def test_a_format_that_the_name_hides_is_read_by_audit_and_show(
    fer: Fer, tiny: dict[str, Any], tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    root = tmp_path / "faces"
    kinds = ("JPEG", "WEBP", "TIFF", "GIF", "BMP", "PNG")
    for number, (label, kind) in enumerate(product(("happy", "sad"), kinds)):
        (root / label).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((noise(number) >> 8).astype(np.uint8))
        picture.save(root / label / f"{kind}.jpg", kind)
    config = folder_config(tiny, root, write_config, split=PARTS)
    assert not {"undecodable", "truncated"} & set(findings(fer, config))
    sheet = tmp_path / "sheet.png"
    result = fer("data", "show", config, "-o", sheet)
    assert result.exit_code == 0, result.stderr


def test_a_photograph_that_lies_on_its_side_is_a_copy_of_the_upright_one(
    fer: Fer, tiny: dict[str, Any], tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    root = tmp_path / "faces"
    for number, label in enumerate(("happy", "sad")):
        (root / label).mkdir(parents=True)
        for index in range(4):
            picture = Image.fromarray((noise(10 * number + index, 48) >> 8).astype(np.uint8))
            picture.save(root / label / f"{index}.png")
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(root / "happy" / "0.png") as upright:
        lying = upright.transpose(Image.Transpose.ROTATE_90)
        lying.save(root / "happy" / "phone.png", exif=exif)
    config = folder_config(tiny, root, write_config, split=PARTS)
    assert findings(fer, config)["exact_duplicate"]["count"] == 2
    stats = one_document(fer("data", "stats", config, "--json"))
    assert stats["image_sizes"] == {"32x48": 9}
