"""A table with path and label of every image, in the forms in which people write them."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from layouts import Face, Layout, Writer, assert_samples, of_each, problems, save
from layouts import list_ as layout_of
from messages import says
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import image_list as adapter
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import BOX, Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS

WRITERS = [layout_of.csv, layout_of.spreadsheet]
SIX = [f"{name}{number}.png" for name in ("happy", "sad", "neutral") for number in (0, 1)]


def section(root: Path, **keys: Any) -> Dataset:
    return Dataset.model_validate({"name": "list", "root": root} | keys)


def read(root: Path, **keys: Any) -> Manifest:
    return adapter.read(section(root, **keys))


def images(root: Path, names: Sequence[str] = SIX) -> Path:
    for name in names:
        save(Image.new("RGB", (8, 8)), root / name)
    return root


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    images(root)
    (root / name).write_text(text)
    return root


def rows(labels: Mapping[str, str] | None = None) -> str:
    """A row per image of `SIX`, with the label that its name has unless told otherwise."""
    told = {name: name[:-5] for name in SIX} | dict(labels or {})
    return "path,label\n" + "".join(f"{path},{label}\n" for path, label in told.items())


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **keys)
    message = str(caught.value)
    assert message.startswith(f"{root}: ")
    return message


@pytest.mark.parametrize("writer", WRITERS)
def test_every_layout_is_read_as_written(tmp_path: Path, faces: list[Face], writer: Writer) -> None:
    layout: Layout = writer(tmp_path, of_each(3, faces))
    manifest = adapter.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout)
    assert manifest.classes == EXPRESSIONS
    assert (manifest.name, manifest.release) == ("list", "list")
    assert (manifest.dropped, manifest.problems) == ({}, ())


# The table -------------------------------------------------------------------------------------


def test_the_only_table_in_the_root_is_found(tmp_path: Path) -> None:
    assert len(read(table(tmp_path, rows(), "Anything.TSV")).samples) == 6


def test_of_two_tables_one_must_be_named(tmp_path: Path) -> None:
    table(tmp_path, "not this one")
    table(tmp_path, rows(), "second.csv")
    message = refusal(tmp_path)
    assert "2 CSV files; found labels.csv, second.csv" in message
    assert "dataset.table" in message
    assert len(read(tmp_path, table="second.csv").samples) == 6


def test_no_table(tmp_path: Path) -> None:
    assert "no CSV files; found happy0.png" in refusal(images(tmp_path))
    message = refusal(tmp_path, table="lables.csv")
    assert "no file 'lables.csv'; found happy0.png" in message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header",
    [
        ("path", "label"),
        ("File Name", "EMOTION"),
        ("image-path", " Expression "),
        ("\ufeffimage", "Class"),
    ],
)
def test_spellings_of_the_first_line(
    tmp_path: Path, header: tuple[str, str], delimiter: str, end: str
) -> None:
    images(tmp_path)
    lines = [delimiter.join(header), *(f"{name}{delimiter}{name[:-5]}" for name in SIX), ""]
    (tmp_path / "x.csv").write_bytes(end.join(lines).encode())
    assert read(tmp_path).counts() == {"train": {"neutral": 2, "happiness": 2, "sadness": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'labels.csv' is empty"),
        ("happy0.png,happy\n", r"no column for the path and the label; found 'happy0.png, happy'"),
        ("file,valence\nhappy0.png,0\n", "no column for the label; found 'file, valence'"),
        ("path,file,label\na,b,happy\n", "'path' and 'file' both"),
        ("path,label\n", "no row below its first line"),
        ("path,label\nhappy0.png\n", "'labels.csv' line 2 has 1 cells"),
        ("path,label\n\nhappy0.png,smily\n", "line 3: .* 'smily'; known: neutral"),
        ("path,label\nhappy0.png,happpy\n", r"Did you mean 'happy'\?"),
        ("path,label\nhappy0.png,3\n", "'3'[\\s\\S]*dataset.classes"),
        ("path,label,split\nhappy0.png,happy,fold 3\n", "line 2: .* 'fold 3'; known: train"),
        ("path,label,valence\nhappy0.png,happy,3\n", "line 2: valence is '3', expected a number"),
        ("path,label,valence\nhappy0.png,happy,low\n", "line 2: valence is 'low'"),
        ("path,label,face_x\nhappy0.png,happy,3\n", "line 1: .*face_x, face_y.*found face_x"),
        ("path,label\nelsewhere.png,happy\n", "none of the 1 images .* first 'elsewhere.png'"),
        ("path,label,split\nhappy0.png,happy,train\nsad0.png,sad,\n", "'sad0.png'"),
        ("path,label\nhappy0.png,happy\nhappy1.png,happy\n", "all images the label happiness"),
    ],
)
def test_errors_in_a_table_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(table(tmp_path, text))


def test_a_table_that_is_not_utf_8(tmp_path: Path) -> None:
    path = images(tmp_path) / "labels.csv"
    path.write_bytes(rows().encode("utf-16"))
    assert len(read(tmp_path).samples) == 6
    path.write_bytes(b"\xe9," + rows().encode())
    says(refusal(tmp_path), "'labels.csv'", "0xe9", "UTF-8")


def test_images_twice_are_named_by_their_lines(tmp_path: Path) -> None:
    twice = rows() + "./happy1.png,sad\nhappy0.png,happy\n"
    message = refusal(table(tmp_path, twice))
    assert "lines 3 and 8 (happy1.png), 2 and 9 (happy0.png) name the same image" in message


# Paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../happy0.png", "a/../../b.png", "C:\\faces\\happy0.png", ""]
)
def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path: Path, path: str) -> None:
    message = refusal(table(tmp_path, rows() + f"{path},happy\n"))
    says(message, "line 8", repr(path), tmp_path, "dataset.root")


def test_absolute_paths_inside_the_root_are_those_images(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    absolute = rows().replace("\nhappy0", f"\n{root}/happy0")
    assert "happy0.png" in set(read(table(root, absolute)).samples["sample_id"])
    link = tmp_path / "link"
    link.symlink_to(root)
    assert "happy0.png" in set(read(link).samples["sample_id"])


def test_paths_may_begin_at_the_folder_of_images(tmp_path: Path) -> None:
    images(tmp_path / "all/images")
    (tmp_path / "labels.csv").write_text(rows())
    samples = read(tmp_path).samples
    assert samples["path"].tolist() == [f"all/images/{name}" for name in SIX]
    assert samples["sample_id"].tolist() == samples["path"].tolist()
    images(tmp_path / "copy")  # now it could be either
    says(refusal(tmp_path), "none of the 6", "'labels.csv'", "dataset.root")


def test_missing_and_unlisted_images_are_counted_and_named(tmp_path: Path) -> None:
    table(tmp_path, rows({"gone.png": "happy", "sad1.png": ""}))
    save(Image.new("RGB", (8, 8)), tmp_path / "more/new.png")
    manifest = read(tmp_path)
    assert manifest.dropped == {
        "listed without a file": 1,
        "no label": 1,
        "not listed": 1,
    }
    found = problems(manifest)
    assert found["listed_without_file"].examples == ("line 8: gone.png",)
    assert found["file_not_listed"].examples == ("more/new.png",)
    assert len(manifest.samples) == 5


RECIPES = Path(__file__).parents[3] / "docs/datasets.md"
# File names as those datasets have them, in the form that is documented, for the code of a label.
NAMES = {
    "ExpW": ["image/origin/some_actor_{}.jpg"],
    "JAFFE": ["KA.{}1.39.tiff", "YM.{}3.63.tiff"],
    "KDEF": ["AF01/AF01{}S.JPG", "BF01/BF01{}S.JPG", "AM05/AM05{}S.JPG"],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_documented_recipes_make_a_table(tmp_path: Path, name: str) -> None:
    blocks = RECIPES.read_text(encoding="utf-8").split("```sh\n")[1:]
    block = next(block for block in blocks if block.startswith(f"# {name}"))
    _, command, config = block.splitlines()[:3]
    keys = yaml.safe_load(config.removeprefix("# "))["dataset"]
    labels = {
        form.format(code): label for label, code in keys["classes"].items() for form in NAMES[name]
    }
    for path in [*labels, "AM05/AM05ANFL.JPG"]:  # seen from the side
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    lines = [f"some_actor_{code}.jpg 0 10 20 60 50 99.1 {code}\n" for code in range(7)]
    (tmp_path / "label.lst").write_text("".join(lines))
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    manifest = read_release(Dataset.model_validate(keys | {"root": tmp_path}))
    samples = manifest.samples
    assert dict(zip(samples["path"], samples["label"], strict=True)) == labels
    assert manifest.classes == EXPRESSIONS[:7]
    if name == "ExpW":
        assert samples[list(BOX)].drop_duplicates().to_numpy().tolist() == [[20, 10, 40, 40]]
    else:
        assert samples["group"].nunique() == 2


# What else a table may say ---------------------------------------------------------------------


def test_people_stay_in_one_split(tmp_path: Path, faces: list[Face]) -> None:
    layout_of.spreadsheet(tmp_path, faces)
    path = tmp_path / "all faces.csv"
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text("\n".join(line.partition(";")[2] for line in lines))  # without the split
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    samples = load_manifest(section(tmp_path, split=split)).samples
    assert samples.groupby("group")["split"].nunique().max() == 1


def test_without_splits_the_experiment_divides(tmp_path: Path) -> None:
    table(tmp_path, rows())
    with pytest.raises(DataError, match=r"has no test split; it has train \(6\)[\s\S]*split"):
        load_manifest(section(tmp_path))


def test_the_only_held_out_images_are_the_test_split(tmp_path: Path) -> None:
    told = {name: "dev" if name[-5] == "1" else "train" for name in SIX}
    text = "path,label,set\n" + "".join(f"{n},{n[:-5]},{split}\n" for n, split in told.items())
    manifest = read(table(tmp_path, text))
    assert manifest.split_sizes() == {"train": 3, "test": 3}
    assert problems(manifest)["validation_is_test"].count == 3


def test_several_faces_of_one_image(tmp_path: Path) -> None:
    text = (
        "path,label,face_x,face_y,face_width,face_height\n"
        "happy0.png,happy,0,0,4,4\n"
        "happy0.png,sad,4,0,4,4\n"
    )
    samples = read(table(tmp_path, text)).samples
    assert samples["sample_id"].tolist() == ["happy0.png#0,0,4,4", "happy0.png#4,0,4,4"]
    assert samples["path"].tolist() == ["happy0.png"] * 2


def test_votes_become_soft_labels(tmp_path: Path) -> None:
    text = "path,label,soft_happy,soft_Sad\nhappy0.png,happy,3,1\nsad0.png,sad,0,2\n"
    manifest = read(table(tmp_path, text))
    assert manifest.classes == ("happiness", "sadness")
    found = manifest.soft_labels("train")
    assert found is not None
    assert found.tolist() == [[0.75, 0.25], [0, 1]]
    assert read_release(section(tmp_path)).classes == manifest.classes
    text = "path,label,soft_happy,soft_Sad,soft_fear\nhappy0.png,happy,3,1,1\nsad0.png,sad,0,2,0\n"
    assert "fear" in read_release(section(table(tmp_path, text))).classes  # in soft labels alone
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, "path,label,soft_happy\nhappy0.png,happy,0\n"))
    says(caught.value, "line 2", "soft_happiness")


def test_labels_of_any_kind_with_classes(tmp_path: Path) -> None:
    told = dict(zip(SIX, ["3", "3", "traurig", "Traurig ", "wütend", "x"], strict=True))
    table(tmp_path, rows(told))
    classes = {"happiness": [3], "sadness": ["traurig"], "cross": ["WÜTEND"]}
    manifest = read_release(section(tmp_path, classes=classes))
    assert manifest.classes == ("happiness", "sadness", "cross")
    assert manifest.counts()["train"] == {"happiness": 2, "sadness": 2, "cross": 1}
    assert manifest.dropped == {"class not chosen": 1}
    with pytest.raises(
        DataError, match=r"cross takes 'zornig', which is no label here; there are 3"
    ):
        read_release(section(tmp_path, classes=classes | {"cross": ["zornig"]}))
