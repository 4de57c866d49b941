import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from layouts import Face, Layout, Writer, Written, assert_samples, folder, of_each, problems, save
from messages import says
from permissions import forbidden
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import folder as adapter
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

WRITERS = [folder.flat, folder.split, folder.people]
THREE = ("happy", "sad", "neutral")


def read(root: Path) -> Manifest:
    return adapter.read(Dataset(name="folder", root=root))


def check(layout: Layout) -> None:
    manifest = adapter.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout)
    assert (manifest.name, manifest.release) == ("folder", layout.release)
    assert (manifest.channels, manifest.image_size) == (3, None)
    assert manifest.classes == EXPRESSIONS
    assert (manifest.dropped, manifest.problems) == ({}, ())


def tree(root: Path, folders: Mapping[str, int] | Sequence[str]) -> Path:
    """So many images in each folder, one where no number is given."""
    numbers = folders if isinstance(folders, Mapping) else dict.fromkeys(folders, 1)
    for name, number in numbers.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            save(Image.new("RGB", (8, 8)), root / name / f"{index}.png")
    return root


def splits(*names: str) -> list[str]:
    return [f"{name}/{label}" for name in names for label in THREE]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("wrapper", ["", "download/my faces"])
def test_every_layout_is_read_as_written(
    tmp_path: Path, faces: list[Face], writer: Writer, wrapper: str
) -> None:
    layout = writer(tmp_path / wrapper, of_each(3, faces))
    assert len(layout.samples) == 24
    if wrapper:  # which is no part of the id
        layout.samples["path"] = f"{wrapper}/" + layout.samples["path"]
        layout.dataset["root"] = str(tmp_path)
    check(layout)


@pytest.mark.real_data
@pytest.mark.parametrize("writer", WRITERS)
def test_every_layout_with_real_faces(
    tmp_path: Path, real_faces: list[Face], writer: Writer
) -> None:
    check(writer(tmp_path, of_each(3, real_faces)))


# classes ---------------------------------------------------------------------------------------


def test_classes_are_those_that_occur_in_the_canonical_order(tmp_path: Path) -> None:
    manifest = read(tree(tmp_path, ["Contempt", "0_angry", "HAPPINESS", " sad"]))
    assert manifest.classes == ("happiness", "sadness", "anger", "contempt")
    assert manifest.counts() == {"train": dict.fromkeys(manifest.classes, 1)}
    assert "0_angry/0.png" in set(manifest.samples["sample_id"])


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        ({"happy": 3}, "happiness"),
        ({"happy": 3, "sad": 0}, "happiness"),
        ({"train/happy": 3, "test/happy": 3}, "happiness"),
        ({"happy": 0, "sad": 0}, "none"),
        ({}, "none"),
    ],
)
def test_one_class_is_not_enough(tmp_path: Path, folders: Mapping[str, int], found: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tree(tmp_path, folders))
    says(caught.value, f"({found})", "left out: ", "happy/")


@pytest.mark.parametrize("above", ["", "train/"])
@pytest.mark.parametrize(
    ("name", "hint"), [("hapy", "Did you mean 'happy'"), ("7", "Rename it"), ("person1", "Rename")]
)
def test_an_unknown_class_folder(tmp_path: Path, above: str, name: str, hint: str) -> None:
    tree(tmp_path, [f"{above}sad", f"{above}neutral", f"{above}{name}"])
    with pytest.raises(DataError, match=rf"unknown class folder '\w+/{name}'[\s\S]*{hint}"):
        read(tmp_path)


def test_nothing_but_unknown_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown class folder[\s\S]*Did you mean 'happy'"):
        read(tree(tmp_path, ["hapy", "sda"]))


def test_two_folders_of_one_class(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tree(tmp_path, ["Happy", "happiness", "sad"]))
    says(caught.value, "/Happy'", "/happiness'")


def test_a_class_that_only_training_has_is_reported(tmp_path: Path) -> None:
    manifest = read(tree(tmp_path, [*splits("train", "val"), "test/happy"]))
    missing = problems(manifest)["class_missing"]
    assert (missing.severity, missing.count) == ("warning", 2)
    assert missing.examples == ("test neutral", "test sadness")
    assert manifest.counts()["test"] == {"neutral": 0, "happiness": 1, "sadness": 0}


def test_an_empty_class_folder_is_reported(tmp_path: Path) -> None:
    manifest = read(tree(tmp_path, {"happy": 2, "sad": 2, "fear": 0}))
    assert manifest.classes == ("happiness", "sadness")
    assert problems(manifest)["class_missing"].examples == ("train fear",)


@pytest.mark.parametrize("where", ["val", "test"])
def test_a_class_that_training_lacks_is_refused(tmp_path: Path, where: str) -> None:
    tree(tmp_path, [*splits("train", "val", "test"), f"{where}/fear"])
    with pytest.raises(DataError) as caught:
        read_release(Dataset(name="folder", root=tmp_path))
    says(caught.value, tmp_path, "fear", "dataset.classes")


# splits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Training", "VALIDATION", "testing")]
)
def test_spellings_of_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    manifest = read(tree(tmp_path, splits(*names)))
    assert manifest.split_sizes() == {"train": 3, "validation": 3, "test": 3}
    assert manifest.problems == ()


def test_the_only_held_out_images_are_the_test_split(tmp_path: Path) -> None:
    manifest = read(tree(tmp_path, splits("train", "val")))
    assert manifest.split_sizes() == {"train": 3, "test": 3}
    moved = manifest.samples[manifest.samples["split"] == "test"]
    assert moved["path"].str.startswith("val/").all()
    problem = problems(manifest)["validation_is_test"]
    assert (problem.severity, problem.count) == ("info", 3)


def test_without_splits_the_experiment_divides(written: Written) -> None:
    layout = written(folder.flat, 4)
    with pytest.raises(DataError, match=r"has no test split; it has train \(32\)[\s\S]*split"):
        load_manifest(Dataset(**layout.dataset))
    parts = {"train": 0.5, "validation": 0.25, "test": 0.25}
    manifest = load_manifest(Dataset(**layout.dataset, split=parts))
    assert manifest.split_sizes() == {"train": 16, "validation": 8, "test": 8}


def test_a_train_folder_alone_is_divided_too(tmp_path: Path) -> None:
    assert read(tree(tmp_path, splits("train"))).split_sizes() == {"train": 3}


@pytest.mark.parametrize("names", [("test",), ("validation", "test"), ("validation",)])
def test_no_training(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=rf"no train folder beside {', '.join(names)}; found "):
        read(tree(tmp_path, splits(*names)))


def test_splits_beside_classes(tmp_path: Path) -> None:
    tree(tmp_path, [*splits("train", "test"), "happy"])
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "(test, train)", "(happy)")


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tree(tmp_path, splits("train", "val", "valid")))
    says(caught.value, "'val'", "'valid'")


# people ----------------------------------------------------------------------------------------


def test_the_first_folder_inside_a_class_is_the_group(tmp_path: Path) -> None:
    folders = ["train/happy/anna/monday", "train/happy/anna", "train/sad/bob", *splits("test")]
    samples = read(tree(tmp_path, [*folders, "train/neutral"])).samples
    groups = samples.set_index("sample_id")["group"]
    assert groups["train/happy/anna/monday/0.png"] == "anna"
    assert groups["train/happy/anna/0.png"] == "anna"
    assert groups["train/sad/bob/0.png"] == "bob"
    assert groups.isna().sum() == 4


def test_nobody_is_in_two_splits(tmp_path: Path) -> None:
    people = [f"{label}/person{number}" for label in THREE for number in range(12)]
    tree(tmp_path, dict.fromkeys(people, 2))
    parts = {"train": 0.5, "validation": 0.25, "test": 0.25}
    samples = load_manifest(Dataset(name="folder", root=tmp_path, split=parts)).samples
    assert set(samples["split"]) == {"train", "validation", "test"}
    assert (samples.groupby("group")["split"].nunique() == 1).all()


# bad input -------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder\.\nSet dataset\.root"):
        read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: a file\."):
        read(tmp_path / "file")


def test_two_trees_at_once(tmp_path: Path) -> None:
    tree(tmp_path, ["anna/happy", "anna/sad", "bob/happy", "bob/sad"])
    with pytest.raises(DataError, match=r"any of 'anna', 'bob'\.\nGive one of them"):
        read(tmp_path)


def test_other_files_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", [*splits("train", "test"), "train/sad/anna"])
    for place in ("train/sad/notes.txt", "train/sad/anna/notes.txt", "train/sad/.DS_Store"):
        (root / place).touch()
    (root / "train" / "0.png").touch()
    (root / "extra").mkdir()
    manifest = read(root)
    assert manifest.split_sizes() == {"train": 4, "test": 3}
    assert manifest.dropped == {
        "not an image": 2,
        "system file": 1,
        "outside a class folder": 1,
        "unrelated folder": 1,
    }


def test_class_folders_that_are_links_out_of_the_root_are_named(tmp_path: Path) -> None:
    tree(tmp_path / "store", ["happy", "sad"])
    (tmp_path / "faces").mkdir()
    for name in ("happy", "sad"):
        (tmp_path / "faces" / name).symlink_to(f"../store/{name}")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "faces")
    message = str(caught.value)
    assert "left out: symbolic link: out of the root 2" in message
    assert "happy -> ../store/happy, sad -> ../store/sad" in message
    assert "set dataset.root to the folder that they lead to" in message


@pytest.mark.parametrize("kind", ["folders", "images"])
def test_a_folder_of_link_targets_is_not_a_class(tmp_path: Path, kind: str) -> None:
    tree(tmp_path, ["store/happy", "store/sad"])
    for name in ("happy", "sad"):
        if kind == "folders":
            (tmp_path / name).symlink_to(f"store/{name}")
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.png").symlink_to(f"../store/{name}/0.png")
    manifest = read(tmp_path)
    assert manifest.counts() == {"train": {"happiness": 1, "sadness": 1}}
    assert manifest.dropped == {"unrelated folder": 1}
    (tmp_path / "hapy").mkdir()
    with pytest.raises(DataError, match="unknown class folder"):
        read(tmp_path)


def test_a_second_name_of_an_image_is_not_a_second_sample(tmp_path: Path) -> None:
    tree(tmp_path, splits("train", "test"))
    (tmp_path / "train" / "sad" / "link.png").symlink_to("0.png")
    (tmp_path / "train" / "fear").symlink_to("sad")
    (tmp_path / "train" / "happy" / "more").symlink_to("../sad")
    manifest = read(tmp_path)
    assert manifest.split_sizes() == {"train": 3, "test": 3}
    assert "group" not in manifest.samples
    assert manifest.classes == ("neutral", "happiness", "sadness")
    assert set(manifest.dropped) == {"symbolic link: to an image counted already"}


def test_links_that_were_copied_as_text_are_named(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        (tmp_path / name).write_text(f"../store/{name}")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "found happy, sad", "happy, sad: files")


def test_nothing_but_images_of_formats_that_are_not_read(tmp_path: Path) -> None:
    for name in ("happy/a.heic", "happy/b.HEIC", "sad/c.avif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert "left out: format not supported: .heic 2, .avif 1." in str(caught.value)
    assert "Convert the images to JPEG or PNG" in str(caught.value)


@pytest.mark.parametrize("suffix", [".webp", ".jfif", ".tiff", ".gif", ".jpe", ".dib"])
def test_images_of_every_format_that_is_read_are_samples(tmp_path: Path, suffix: str) -> None:
    (tree(tmp_path, THREE) / "sad" / f"a{suffix}").touch()
    manifest = read(tmp_path)
    assert f"sad/a{suffix}" in set(manifest.samples["path"])
    assert manifest.dropped == {}
    assert manifest.warnings() == []


def test_a_text_file_named_jpg_is_listed_since_nothing_is_decoded_yet(tmp_path: Path) -> None:
    (tree(tmp_path, THREE) / "sad" / "text.jpg").write_text("text")
    (tmp_path / "sad" / "empty.JPEG").touch()
    assert {"sad/text.jpg", "sad/empty.JPEG"} < set(read(tmp_path).samples["sample_id"])


def test_long_and_foreign_names(tmp_path: Path) -> None:
    tree(tmp_path, THREE)
    names = {"é" * 120 + ".png", "笑 顔.bmp", "'quoted', with comma.jpg", "x" * 200 + ".png"}
    for name in names:
        (tmp_path / "happy" / name).touch()
    assert {f"happy/{name}" for name in names} < set(read(tmp_path).samples["sample_id"])


@pytest.mark.parametrize("name", [".", "train", "train/sad", "train/sad/anna"])
def test_no_rights(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path / "root", [*splits("train", "test"), "train/sad/anna"])
    message = rf"^{Path('root', name)}: cannot be read \(Permission denied\)"
    with forbidden(root / name, inside=tmp_path), pytest.raises(DataError, match=message):
        read(Path("root"))


def test_moving_the_tree_changes_no_id(tmp_path: Path) -> None:
    first = read(tree(tmp_path / "a", splits("train", "test"))).fingerprint
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "a", tmp_path / "b" / "wrapper")
    assert read(tmp_path / "b").fingerprint == first


def test_it_is_registered() -> None:
    assert DATASETS["folder"].read is adapter.read
