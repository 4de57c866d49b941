import os
from pathlib import Path

import pytest
from layouts import FOLDERS, Face, assert_samples, sizes, zipped
from layouts.opencv_emotion import opencv_emotion as write
from messages import says
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import opencv_emotion
from fer_bench.data.datasets.opencv_emotion import CLASSES, RELEASES
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

NAMES = tuple(FOLDERS.values())


def draw(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (48, 48), level).save(path)


def read(root: Path) -> Manifest:
    return opencv_emotion.read(Dataset(name="opencv_emotion", root=root))


prepare = DATASETS["opencv_emotion"].prepare


def dataset(
    root: Path,
    splits: tuple[str, ...] = ("training", "validation"),
    folders: tuple[str, ...] = NAMES,
) -> Path:
    for split in splits:
        for level, folder in enumerate(folders):
            draw(root / split / folder / "face.jpg", level)
    return root


def test_the_documented_layout(tmp_path: Path) -> None:
    manifest = read(dataset(tmp_path))
    assert manifest.name == "opencv_emotion"
    assert manifest.classes == EXPRESSIONS[:7]
    assert manifest.channels == 1
    assert manifest.counts() == {
        "train": dict.fromkeys(CLASSES, 1),
        "test": dict.fromkeys(CLASSES, 1),
    }
    assert manifest.dropped == {}
    first = manifest.samples.iloc[0]
    assert first.to_dict() == {
        "sample_id": "train/neutral/face.jpg",
        "path": "training/neutral/face.jpg",
        "split": "train",
        "label": "neutral",
    }
    assert all((tmp_path / path).is_file() for path in manifest.samples["path"])


def check_round_trip(root: Path, faces: list[Face]) -> None:
    layout = write(root, faces)
    manifest = opencv_emotion.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout)
    assert set(manifest.split_sizes()) == {"train", "test"}
    assert (manifest.release, manifest.dropped) == (layout.release, {})
    for path in manifest.samples["path"]:
        with Image.open(root / path) as image:
            assert (image.size, image.mode) == ((48, 48), "L")


def test_it_is_read_as_written(tmp_path: Path, faces: list[Face]) -> None:
    check_round_trip(tmp_path, faces)


@pytest.mark.real_data
def test_it_is_read_as_written_with_real_faces(tmp_path: Path, real_faces: list[Face]) -> None:
    check_round_trip(tmp_path, real_faces)


@pytest.mark.parametrize("train", ["training", "Train"])
@pytest.mark.parametrize("test", ["validation", "VAL", "valid", "Testing", "test"])
@pytest.mark.parametrize("wrapper", ["", "opencv_emotion/"])
def test_other_folder_names(tmp_path: Path, train: str, test: str, wrapper: str) -> None:
    folders = (
        "0_Anger",
        "1 - disgusted",
        "Fearful",
        "HAPPINESS",
        "neutral",
        "sadness",
        "Surprised",
    )
    manifest = read(dataset(tmp_path, (f"{wrapper}{train}", f"{wrapper}{test}"), folders))
    assert manifest.split_sizes() == {"train": 7, "test": 7}
    assert manifest.samples["path"].str.startswith(f"{wrapper}{train}/").sum() == 7
    assert set(manifest.samples["sample_id"]) == {
        f"{split}/{label}/face.jpg" for split in ("train", "test") for label in CLASSES
    }


def test_the_suffix_may_be_spelled_in_capitals(tmp_path: Path) -> None:
    dataset(tmp_path)
    for name in ("b.JPG", "c.jpeg", "d.PNG"):
        draw(tmp_path / "training" / "sad" / name)
    assert read(tmp_path).counts()["train"]["sadness"] == 4


def test_other_files_are_counted(tmp_path: Path) -> None:
    dataset(tmp_path)
    sad = tmp_path / "training" / "sad"
    (sad / "notes.txt").touch()
    (sad / "more").mkdir()
    (sad / ".DS_Store").touch()
    (sad / "._face.jpg").touch()
    (tmp_path / "training" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "training" / "face.jpg").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / "models").mkdir()
    assert read(tmp_path).dropped == {
        "system file": 3,
        "not an image": 2,
        "outside a class folder": 2,
        "unrelated folder": 1,
    }


def test_links_out_of_the_root_are_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    draw(elsewhere / "face.jpg")
    root = dataset(tmp_path / "root")
    (root / "training" / "sad" / "link.jpg").symlink_to(elsewhere / "face.jpg")
    (root / "training" / "contempt").symlink_to(elsewhere)
    manifest = read(root)
    assert manifest.dropped == {"symbolic link: out of the root": 2}
    problem = next(one for one in manifest.problems if one.kind == "link_not_followed")
    assert (problem.severity, problem.count) == ("warning", 2)
    assert problem.examples[1] == f"training/sad/link.jpg -> {elsewhere / 'face.jpg'}"
    assert manifest.split_sizes() == {"train": 7, "test": 7}


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.\n.*fer data prepare opencv_emotion ARCH"):
        read(tmp_path / "none")


@pytest.mark.parametrize("missing", ["training", "validation"])
def test_missing_split(tmp_path: Path, missing: str) -> None:
    present = "validation" if missing == "training" else "training"
    dataset(tmp_path, (present, "notes"))
    with pytest.raises(
        DataError, match=f"no {missing} folder; found notes, {present}|found {present}"
    ):
        read(tmp_path)


def test_empty_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training folder; found nothing"):
        read(tmp_path)


def test_many_foreign_folders_are_not_all_listed(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"folder{number:02}").mkdir()
    with pytest.raises(DataError, match=r"found folder00, .*folder07 and 4 more\."):
        read(tmp_path)


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    dataset(tmp_path, ("train", "validation", "test"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'test' and 'validation'", "rename")


def test_two_folders_for_one_class(tmp_path: Path) -> None:
    dataset(tmp_path, folders=(*NAMES, "Anger"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'training/Anger' and 'training/angry'", "rename")


@pytest.mark.parametrize(
    ("folder", "hint"),
    [("hapy", "Did you mean 'happy'"), ("contempt", "known: neutral"), ("qqq", "Rename it")],
)
def test_unknown_class(tmp_path: Path, folder: str, hint: str) -> None:
    dataset(tmp_path, folders=(*NAMES, folder))
    with pytest.raises(DataError, match=rf"unknown class folder 'training/{folder}'[\s\S]*{hint}"):
        read(tmp_path)


def test_missing_class(tmp_path: Path) -> None:
    dataset(tmp_path, folders=NAMES[2:])
    with pytest.raises(DataError, match="'training' has no class folder for disgust, anger; found"):
        read(tmp_path)


def test_empty_class(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "validation" / "fear" / "face.jpg").unlink()
    with pytest.raises(DataError, match="class folder 'validation/fear' holds no images"):
        read(tmp_path)


def test_an_error_while_reading_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError("Permission denied")

    dataset(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be read.*Permission denied"):
        read(tmp_path)


def test_an_unknown_release_says_how_it_differs(tmp_path: Path) -> None:
    manifest = read(dataset(tmp_path))
    assert manifest.release == "opencv_emotion-unrecognised"
    (problem,) = manifest.problems
    assert (problem.kind, problem.severity, problem.count) == (
        "release_unrecognised",
        "warning",
        14,
    )
    assert problem.examples[0] == "train neutral 1 instead of 4965"
    assert problem.text.endswith("opencv-emotion-public")


@pytest.mark.parametrize("disgust_images", [2, 3])
def test_releases_are_distinguished_by_their_counts(
    tmp_path: Path, disgust_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_each = dict.fromkeys(CLASSES, 1)
    small = {
        f"with-{number}": {"train": one_each, "test": one_each | {"disgust": number}}
        for number in (2, 3)
    }
    monkeypatch.setattr(opencv_emotion, "RELEASES", small)
    dataset(tmp_path)
    for number in range(1, disgust_images):
        draw(tmp_path / "validation" / "disgust" / f"{number}.jpg")
    manifest = read(tmp_path)
    assert (manifest.release, manifest.problems) == (f"with-{disgust_images}", ())


def test_the_counts_of_the_releases_add_up() -> None:
    assert sizes(RELEASES) == {name: {"train": 28_709, "test": 3_589} for name in RELEASES}


def test_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = zipped(dataset(tmp_path / "source"), tmp_path / "a.zip")
    prepare(tmp_path / "root", archive, False)
    assert (tmp_path / "root" / "training" / "angry" / "face.jpg").is_file()
    assert read(tmp_path / "root").split_sizes() == {"train": 7, "test": 7}
    with pytest.raises(DataError, match="Use --force"):
        prepare(tmp_path / "root", archive, False)
    prepare(tmp_path / "root", archive, True)
    assert capsys.readouterr() == ("", "")


def test_prepare_needs_an_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not downloaded automatically"):
        prepare(tmp_path / "root", None, False)


def test_the_archive_of_another_dataset_replaces_nothing(tmp_path: Path) -> None:
    other = zipped(dataset(tmp_path / "other", ("images",)), tmp_path / "other.zip")
    root = dataset(tmp_path / "root")
    with pytest.raises(DataError, match=r"other\.zip: no training folder; found images"):
        prepare(root, other, True)
    assert read(root).split_sizes() == {"train": 7, "test": 7}


def test_it_is_registered() -> None:
    assert DATASETS["opencv_emotion"].read is opencv_emotion.read


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_archive(tmp_path: Path, shared_data: Path) -> None:
    archive = shared_data / "opencv_emotion.zip"
    if not archive.is_file():
        pytest.skip(f"the real faces are not here: {archive} (set FER_BENCH_SHARED_DATA)")
    prepare(tmp_path / "root", archive, False)
    manifest = read(tmp_path / "root")
    assert manifest.release == "opencv-emotion-public"
    assert manifest.split_sizes() == {"train": 28_709, "test": 3_589}
    assert manifest.counts() == RELEASES["opencv-emotion-public"]
    assert manifest.dropped == {}
    with Image.open(tmp_path / "root" / manifest.samples["path"].iloc[0]) as image:
        assert (image.size, image.mode) == ((48, 48), "L")
