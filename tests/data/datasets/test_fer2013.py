import itertools
import logging
import os
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import (
    FOLDERS,
    Face,
    Layout,
    Writer,
    Written,
    assert_samples,
    by_id,
    fer2013,
    of_each,
    problems,
    save,
    seven,
    sizes,
    zipped,
)
from messages import says
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data import contents
from fer_bench.data.datasets import fer2013 as adapter
from fer_bench.data.datasets.fer2013 import pixel_table
from fer_bench.data.datasets.fer2013.shared import SPLIT_OF_USAGE
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.data.releases import FER2013
from fer_bench.errors import DataError
from fer_bench.labels import CODES, EXPRESSIONS
from fer_bench.registry import DATASETS
from fer_bench.storage.cache import cache_root

Names = Mapping[str, Sequence[str]]
WRITERS = [
    fer2013.csv,
    fer2013.msambare,
    fer2013.msambare_original_names,
    fer2013.original_names,
]
prepare = DATASETS["fer2013"].prepare


def read(root: Path) -> Manifest:
    return adapter.read(Dataset(name="fer2013", root=root))


def check(layout: Layout) -> Manifest:
    manifest = adapter.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout)
    assert manifest.release == layout.release
    assert (manifest.name, manifest.channels, manifest.image_size) == ("fer2013", 1, (48, 48))
    assert manifest.classes == EXPRESSIONS[:7]
    assert manifest.dropped == {}
    for path in manifest.samples["path"]:
        with Image.open(manifest.root / path) as image:
            assert (image.size, image.mode) == ((48, 48), "L")
    return manifest


def row(label: int = 3, usage: str = "Training", pixels: str = " ".join(["7"] * 2304)) -> str:
    return f"{label},{pixels},{usage}"


GOOD = [row(label, usage) for label in range(7) for usage in SPLIT_OF_USAGE]


def table(root: Path, *rows: str, header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    text = end.join([header, *rows, ""])
    (root / "fer2013.csv").write_bytes(text.encode())
    return root


@pytest.mark.parametrize("writer", WRITERS)
def test_every_layout_is_read_as_written(tmp_path: Path, faces: list[Face], writer: Writer) -> None:
    layout = writer(tmp_path, of_each(3, faces))
    assert len(layout.samples) == 21
    check(layout)


# the table of pixels ---------------------------------------------------------------------------


def test_the_pixels_are_those_of_the_table(written: Written, faces: list[Face]) -> None:
    layout = written(fer2013.csv, 3)
    manifest = read(layout.dataset["root"])
    paths = manifest.samples.set_index("sample_id")["path"]
    for name, face in zip(layout.samples["sample_id"], seven(of_each(3, faces)), strict=True):
        expected = np.asarray(face.image.convert("L").resize((48, 48)))
        with Image.open(manifest.root / paths[name]) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_images_lie_in_the_cache_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(table(tmp_path, *GOOD))
    assert first.root.is_relative_to(cache_root())
    assert [path.name for path in tmp_path.iterdir()] == ["fer2013.csv"]
    monkeypatch.setattr(pixel_table, "_write_images", None)
    second = read(tmp_path)
    pd.testing.assert_frame_equal(first.samples, second.samples)
    assert first.fingerprint == second.fingerprint


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    first = read(table(tmp_path, *GOOD))
    second = read(table(tmp_path, *GOOD, row(0)))
    assert len(second.samples) == len(first.samples) + 1
    assert second.fingerprint != first.fingerprint
    os.utime(table(tmp_path, row(1), *GOOD[1:]) / "fer2013.csv", ns=(0, time.time_ns() + 10**9))
    assert read(tmp_path).samples["label"].iloc[0] == "disgust"


def test_two_tables_of_one_size_and_time_are_two(tmp_path: Path) -> None:
    tables = [table(tmp_path / "a", *GOOD), table(tmp_path / "b", row(1), *GOOD[1:])]
    for root in tables:
        os.utime(root / "fer2013.csv", ns=(0, 0))
    assert [read(root).samples["label"].iloc[0] for root in tables] == ["anger", "disgust"]


def test_a_table_that_changed_in_place_is_read_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, logger="fer_bench")
    first = read(table(tmp_path, *GOOD))
    assert first.source_digest is not None
    assert read(tmp_path).source_digest == first.source_digest
    assert caplog.messages == []
    path = tmp_path / "fer2013.csv"
    status = path.stat()
    table(tmp_path, row(1), *GOOD[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    with monkeypatch.context() as patch:
        patch.setattr(contents, "LABEL_BYTES", status.st_size - 1)
        assert read(tmp_path).samples["label"].iloc[0] == "anger"
    second = read(tmp_path)
    says(caplog.messages[0], "warning", path, "content changed")
    assert second.samples["label"].iloc[0] == "disgust"
    assert second.source_digest != first.source_digest


def test_the_fingerprint_is_of_the_table_and_not_of_the_png_files(tmp_path: Path) -> None:
    manifest = read(table(tmp_path, *GOOD))
    assert set(manifest.samples["bytes"]) == {2 * 2304 - 1}
    before = manifest.fingerprint
    (manifest.root / manifest.samples["path"].iloc[0]).write_bytes(b"another encoder")
    assert read(tmp_path).fingerprint == before


def test_codes_are_those_of_the_table_and_not_alphabetical(tmp_path: Path) -> None:
    samples = read(table(tmp_path, *GOOD)).samples
    numbers = samples["sample_id"].str.split("_").str[1].astype(int)
    read_codes = dict(zip(numbers // 3, samples["label"], strict=True))
    assert read_codes == CODES["fer2013"]
    assert read_codes != CODES["alphabetical-7"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (row(7), "unknown emotion"),
        (row().replace("3,", "happy,", 1), "unknown emotion"),
        (row(usage="training"), "unknown usage"),
        (row(usage=""), "unknown usage"),
        (row(pixels="7 7 7"), "wrong number of pixels"),
        (row(pixels=""), "wrong number of pixels"),
        (row(pixels=" ".join(["7"] * 2305)), "wrong number of pixels"),
        (row(pixels=" ".join(["7"] * 2303 + ["256"])), "pixel outside 0..255"),
        (row(pixels=" ".join(["7"] * 2303 + ["-1"])), "pixel outside 0..255"),
        (row(pixels=" ".join(["7"] * 2303 + ["9" * 30])), "pixel outside 0..255"),
        (row(pixels=" ".join(["7"] * 2303 + ["x"])), "pixel that is no number"),
        (row(pixels=" ".join(["7"] * 2303 + ["1.5"])), "pixel that is no number"),
        ("3", "unknown usage"),
    ],
    ids=itertools.count(),
)
def test_a_bad_row_is_left_out_and_named_at_every_start(
    tmp_path: Path, cells: str, reason: str
) -> None:
    table(tmp_path, *GOOD[:2], cells, *GOOD[2:6])
    for _ in range(2):
        manifest = read(tmp_path)
        assert manifest.dropped == {reason: 1}
        bad = problems(manifest)["bad_rows"]
        assert (bad.severity, bad.count, bad.examples) == ("error", 1, (f"row 2: {reason}",))
        assert "PrivateTest_3" in set(manifest.samples["sample_id"])
        assert len(manifest.samples) == 6


def test_only_the_first_bad_rows_are_named(tmp_path: Path) -> None:
    manifest = read(table(tmp_path, *GOOD, *[row(9)] * 4, *[row(usage="x")] * 4))
    assert manifest.dropped == {"unknown emotion": 4, "unknown usage": 4}
    bad = problems(manifest)["bad_rows"]
    assert bad.count == 8
    assert bad.examples[3:] == ("row 24: unknown emotion", "row 25: unknown usage")


def test_a_table_without_a_good_row_is_refused_at_every_start(tmp_path: Path) -> None:
    table(tmp_path, row(9), row(9))
    for _ in range(2):
        with pytest.raises(DataError, match=r"no usable row: unknown emotion \(2\)"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("header", "end"),
    [
        ("\ufeffemotion,pixels,Usage", "\r\n"),
        ("emotion, pixels, Usage", "\n"),
        ('"emotion","pixels","Usage"', "\n\n"),
    ],
)
def test_spellings_of_a_table(tmp_path: Path, header: str, end: str) -> None:
    plain, other = (
        table(tmp_path / "a", *GOOD),
        table(tmp_path / "b", *GOOD, header=header, end=end),
    )
    pd.testing.assert_frame_equal(read(other).samples, read(plain).samples)


def test_the_other_table_of_the_challenge(tmp_path: Path) -> None:
    plain = table(tmp_path / "a", *GOOD)
    pixels = " ".join(["7"] * 2304)
    lines = [f"{code},{usage},{pixels}" for code in range(7) for usage in SPLIT_OF_USAGE]
    other = tmp_path / "b"
    other.mkdir()
    text = "\n".join(["emotion, Usage, pixels", *lines, ""])
    (other / "icml_face_data.csv").write_text(text)
    (other / "test.csv").write_text("pixels\n")
    assert read(other).fingerprint == read(plain).fingerprint


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("emotion,pixels", r"lacks the columns Usage; its first line is 'emotion,pixels'"),
        ("<html>", "lacks the columns emotion, pixels, Usage"),
        ("", "lacks the columns emotion"),
    ],
)
def test_missing_columns(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}: 'fer2013.csv' {message}"):
        read(table(tmp_path, *GOOD, header=header))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00binary", b'emotion,pixels,Usage\n0,"1 2' + b" 3" * 70_000],
    ids=["empty", "binary", "an open quotation mark"],
)
def test_a_file_that_is_not_a_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fer2013.csv").write_bytes(content)
    with pytest.raises(
        DataError, match=r"'fer2013\.csv' (lacks the columns|cannot be read as CSV)"
    ):
        read(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    monkeypatch.setenv("FER_BENCH_CACHE", str(blocked))
    with pytest.raises(DataError, match=r"the cache .* cannot be written.*\n.*FER_BENCH_CACHE"):
        read(table(tmp_path / "root", *GOOD))


def test_a_link_to_the_table_is_followed(tmp_path: Path) -> None:
    target = table(tmp_path / "disk", *GOOD) / "fer2013.csv"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "fer2013.csv").symlink_to(target)
    assert len(read(tmp_path / "root").samples) == len(GOOD)


# folders of images -----------------------------------------------------------------------------


def tree(root: Path, names: Names, folders: Sequence[str] = ()) -> Path:
    """Images of these names in every class folder of these folders, a number a class added."""
    picture = Image.new("L", (48, 48), 9)
    for part, stems in names.items():
        for number, folder in enumerate(folders or FOLDERS.values()):
            for stem in stems:
                save(picture, root / part / folder / f"{stem}{number}.jpg", mode="L")
    return root


NAMES = {"train": ["Training_1"], "validation": ["PublicTest_2"], "test": ["PrivateTest_3"]}


def test_alphabetical_folders_are_read_by_name(tmp_path: Path) -> None:
    samples = read(tree(tmp_path, {"train": ["a"], "test": ["b"]})).samples
    folders = sorted((tmp_path / "train").iterdir())
    labels = {
        path.parts[-2]: label
        for path, label in zip(map(Path, samples["path"]), samples["label"], strict=True)
    }
    in_order = {code: labels[folder.name] for code, folder in enumerate(folders)}
    assert in_order == CODES["alphabetical-7"]
    assert in_order != CODES["fer2013"]


def test_a_merged_test_split_is_reported(tmp_path: Path) -> None:
    merged = problems(read(tree(tmp_path, {"train": ["a"], "test": ["b", "c"]})))["merged_test"]
    assert (merged.severity, merged.count) == ("info", 14)
    assert "not PrivateTest scores" in merged.text


def test_original_names_distinguish_merged_test_parts(tmp_path: Path) -> None:
    names = {"train": ["Training_1"], "test": ["PublicTest_2", "PrivateTest_3"]}
    manifest = read(tree(tmp_path, names))
    assert manifest.split_sizes() == {"train": 7, "validation": 7, "test": 7}
    assert Counter(manifest.samples["usage"]) == dict.fromkeys(FER2013, 7)
    found = problems(manifest)
    assert (found["merged_test"].severity, found["merged_test"].count) == ("info", 7)
    assert "split_disagreement" not in found


@pytest.mark.parametrize("folders", [("a", "b", "c"), ("Train", "VAL", "Testing")])
def test_names_count_and_not_folders(tmp_path: Path, folders: tuple[str, ...]) -> None:
    manifest = read(tree(tmp_path, dict(zip(folders, NAMES.values(), strict=True))))
    assert manifest.split_sizes() == {"train": 7, "validation": 7, "test": 7}
    assert problems(manifest) == {}


def test_a_folder_that_disagrees_with_the_name(tmp_path: Path) -> None:
    tree(tmp_path, NAMES | {"test": ["PrivateTest_3", "PrivateTest_4"]})
    source = tmp_path / "test" / "sad" / "PrivateTest_35.jpg"
    source.rename(tmp_path / "train" / "sad" / source.name)
    manifest = read(tmp_path)
    assert manifest.split_sizes() == {"train": 7, "validation": 7, "test": 14}
    moved = manifest.samples.set_index("sample_id").loc["PrivateTest_35"]
    assert (moved["path"], moved["split"]) == ("train/sad/PrivateTest_35.jpg", "test")
    problem = problems(manifest)["split_disagreement"]
    assert (problem.severity, problem.count) == ("warning", 1)
    assert problem.examples == ("train/sad/PrivateTest_35.jpg",)


def test_foreign_names_among_original_ones(tmp_path: Path) -> None:
    tree(tmp_path, NAMES)
    for name in ("mine.jpg", "Training_x.jpg", "Training_1_copy.jpg"):
        save(Image.new("L", (48, 48)), tmp_path / "train" / "sad" / name)
    manifest = read(tmp_path)
    assert manifest.dropped == {"no original name": 3}
    assert manifest.split_sizes() == {"train": 7, "validation": 7, "test": 7}
    problem = problems(manifest)["foreign_name"]
    assert (problem.severity, problem.count) == ("warning", 3)
    assert "train/sad/mine.jpg" in problem.examples


@pytest.mark.parametrize("layout", [NAMES, {"train": ["a"], "test": ["b"]}])
@pytest.mark.parametrize(
    "folders",
    [
        ("0_angry", "1_disgust", "2_fear", "3_happy", "4_sad", "5_surprise", "6_neutral"),
        ("ANGRY", "Disgusted", "fearful", "Happiness", "Sadness", "surprised", " Neutral"),
    ],
)
def test_spellings_of_class_folders(
    tmp_path: Path, layout: Names, folders: tuple[str, ...]
) -> None:
    manifest = read(tree(tmp_path, layout, folders))
    assert manifest.counts()["train"] == dict.fromkeys(EXPRESSIONS[:7], 1)


def test_other_files_are_counted(tmp_path: Path) -> None:
    sad = tree(tmp_path / "root", NAMES) / "train" / "sad"
    (sad / "notes.txt").touch()
    (sad / ".DS_Store").touch()
    (sad / "link.jpg").symlink_to(sad / "Training_15.jpg")
    (sad / "Training_99.jpg").write_text("no image, which is seen when it is decoded")
    (tmp_path / "root" / "models").mkdir()
    (tmp_path / "root" / "README").touch()
    manifest = read(tmp_path / "root")
    assert manifest.dropped == {
        "not an image": 1,
        "system file": 1,
        "symbolic link: to an image counted already": 1,
        "unrelated folder": 1,
        "outside a class folder": 1,
    }
    assert "Training_99" in set(manifest.samples["sample_id"])


def test_long_and_foreign_names(tmp_path: Path) -> None:
    long = "ü" * 120  # 240 bytes
    tree(tmp_path, {"train": [long, "笑顔"], "test": ["b"]})
    assert read(tmp_path).split_sizes() == {"train": 14, "test": 7}
    assert f"train/neutral/{long}4.jpg" in set(read(tmp_path).samples["sample_id"])


def test_one_name_in_two_class_folders_is_two_images(tmp_path: Path) -> None:
    sad = tree(tmp_path, NAMES) / "train" / "sad" / "Training_15.jpg"
    shutil.copy(sad, tmp_path / "train" / "happy")
    samples = read(tmp_path).samples
    assert len(samples) == 22
    both = samples[samples["path"].str.endswith("/Training_15.jpg")]
    assert set(both["sample_id"]) == {"sadness/Training_15", "happiness/Training_15"}
    assert "Training_14" in set(samples["sample_id"])


@pytest.mark.parametrize("place", ["test/sad/Training_15.jpg", "train/sad/Training_15.png"])
def test_one_name_twice_in_a_class(tmp_path: Path, place: str) -> None:
    shutil.copy(tree(tmp_path, NAMES) / "train" / "sad" / "Training_15.jpg", tmp_path / place)
    with pytest.raises(DataError, match=rf"^{tmp_path}: 1 sample ids .* 'sadness/Training_15'"):
        read(tmp_path)


@pytest.mark.parametrize("parts", [("train",), ("test",), ("train", "validation", "test"), ("x",)])
def test_other_folders_without_original_names(tmp_path: Path, parts: tuple[str, ...]) -> None:
    tree(tmp_path, {part: ["a"] for part in parts})
    with pytest.raises(DataError, match=r"folders of classes are [\s\S]*dataset.name: folder"):
        read(tmp_path)


def test_a_class_without_a_folder(tmp_path: Path) -> None:
    tree(tmp_path, NAMES)
    shutil.rmtree(tmp_path / "validation" / "disgust")
    with pytest.raises(DataError, match="'validation' has no class folder for disgust"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "hint"), [("hapy", "Did you mean 'happy'"), ("contempt", "")])
def test_an_unknown_class_folder(tmp_path: Path, name: str, hint: str) -> None:
    (tree(tmp_path, NAMES) / "train" / name).mkdir()
    with pytest.raises(DataError, match=rf"unknown class folder 'train/{name}'[\s\S]*{hint}"):
        read(tmp_path)


# which layout it is ----------------------------------------------------------------------------


def test_nothing_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        DataError, match=r"found images, notes\.txt\.\nExpected fer2013\.csv .*PublicTest_1"
    ):
        read(tmp_path)


def test_two_layouts_at_once(tmp_path: Path) -> None:
    tree(table(tmp_path, *GOOD), NAMES)
    with pytest.raises(DataError, match="both a table and folders of images"):
        read(tmp_path)


def test_two_copies_at_once(tmp_path: Path) -> None:
    table(tmp_path / "a", *GOOD)
    table(tmp_path / "b", *GOOD)
    with pytest.raises(DataError, match="could be in any of 'a', 'b'"):
        read(tmp_path)


def test_the_counts_of_the_releases_add_up() -> None:
    official = {"train": 28_709, "validation": 3_589, "test": 3_589}
    assert sizes(adapter.RELEASES) == {
        "fer2013-csv": official,
        "fer2013-msambare": {"train": 28_709, "test": 7_178},
        "fer2013-original-names": official,
    }
    merged = adapter.RELEASES["fer2013-msambare"]["test"]
    in_csv_order = [merged[name] for _, name in sorted(CODES["fer2013"].items())]
    assert in_csv_order == [958, 111, 1024, 1774, 1247, 831, 1233]


def test_its_own_validation_split_is_used_when_asked_for(written: Written) -> None:
    layout = written(fer2013.csv, 3)
    with pytest.raises(DataError, match=r"Set dataset\.validation: validation"):
        load_manifest(Dataset(**layout.dataset))
    manifest = load_manifest(Dataset(**layout.dataset, validation="validation"))
    pd.testing.assert_frame_equal(by_id(manifest.samples), by_id(layout.samples))


# preparation -----------------------------------------------------------------------------------


def test_unpacking_a_table_writes_its_images_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(table(tmp_path / "source", *GOOD), tmp_path / "a.zip")
    prepare(tmp_path / "root", archive, False)
    monkeypatch.setattr(pixel_table, "_write_images", None)
    assert len(read(tmp_path / "root").samples) == len(GOOD)


def test_prepare_from_the_table(tmp_path: Path) -> None:
    source = table(tmp_path / "source", *GOOD) / "fer2013.csv"
    other = source.with_name("icml_face_data.csv")
    shutil.copy(source, other)
    prepare(tmp_path / "data" / "root", other, False)
    assert [path.name for path in (tmp_path / "data" / "root").iterdir()] == ["fer2013.csv"]
    with pytest.raises(DataError, match="Use --force"):
        prepare(tmp_path / "data" / "root", source, False)
    table(tmp_path / "source", *GOOD[:-1])
    prepare(tmp_path / "data" / "root", source, True)
    assert len(read(tmp_path / "data" / "root").samples) == len(GOOD) - 1


BAD_TABLES = {
    "no usable row": "emotion,pixels,Usage\n9,1 2 3,Training\n",
    "no row": "emotion,pixels,Usage\n",
    "other columns": "emotion,pixels\n0,1\n",
}


@pytest.mark.parametrize("content", BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_leaves_the_old_one(tmp_path: Path, content: str) -> None:
    root = table(tmp_path / "data" / "root", *GOOD)
    before = (root / "fer2013.csv").read_bytes()
    (tmp_path / "new.csv").write_text(content)
    with pytest.raises(DataError, match="csv"):
        prepare(root, tmp_path / "new.csv", True)
    assert (root / "fer2013.csv").read_bytes() == before
    assert [path.name for path in root.parent.iterdir()] == ["root"]
    assert len(read(root).samples) == len(GOOD)


def test_a_table_replaces_the_folders_of_images_that_were_there(tmp_path: Path) -> None:
    root = tree(tmp_path / "data" / "root", NAMES)
    prepare(root, table(tmp_path / "new", *GOOD) / "fer2013.csv", True)
    assert [path.name for path in root.iterdir()] == ["fer2013.csv"]


def test_the_table_in_the_folder_itself_is_not_replaced_by_itself(tmp_path: Path) -> None:
    root = table(tmp_path / "root", *GOOD)
    with pytest.raises(DataError, match="lies inside it"):
        prepare(root, root / "fer2013.csv", True)
    assert len(read(root).samples) == len(GOOD)


@pytest.mark.parametrize("name", ["fer2013.tar.gz", "fer2013", "fer2013.csv", "FER2013.CSV"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_tar_file_of_the_challenge_under_any_name(tmp_path: Path, name: str, mode: str) -> None:
    source = table(tmp_path / "source" / "fer2013", *GOOD)
    (source / "README").write_text("see the challenge")
    (source / "fer2013.bib").write_text("@misc{}")
    with tarfile.open(tmp_path / name, mode) as archive:  # type: ignore[call-overload]
        archive.add(source, "fer2013")
    prepare(tmp_path / "root", tmp_path / name, False)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["fer2013.csv"]
    assert len(read(tmp_path / "root").samples) == len(GOOD)


def test_a_table_without_a_suffix_is_copied(tmp_path: Path) -> None:
    source = table(tmp_path / "source", *GOOD) / "fer2013.csv"
    source = source.rename(source.with_name("fer2013"))
    prepare(tmp_path / "root", source, False)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["fer2013.csv"]


def test_a_tar_file_in_the_place_of_the_table_is_named(tmp_path: Path) -> None:
    source = table(tmp_path / "source", *GOOD)
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "fer2013.csv", "w") as archive:
        archive.add(source, "fer2013")
    with pytest.raises(DataError) as caught:
        read(root)
    says(caught.value, "'fer2013.csv'", "tar archive", "fer data prepare fer2013")


@pytest.mark.parametrize(
    "name", ["FER2013.CSV", "Fer2013.csv", "ICML_FACE_DATA.CSV", "icml_face_data.csv"]
)
def test_the_case_of_the_name_does_not_matter(tmp_path: Path, name: str) -> None:
    (table(tmp_path, *GOOD) / "fer2013.csv").rename(tmp_path / name)
    assert len(read(tmp_path).samples) == len(GOOD)


def test_tables_without_usage_and_an_archive_are_named(tmp_path: Path) -> None:
    """The download of the challenge, half unpacked."""
    (tmp_path / "train.csv").write_text("emotion,pixels\n0,1 2\n")
    (tmp_path / "test.csv").write_text("pixels\n1 2\n")
    (tmp_path / "icml_face_data.csv.zip").touch()
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    first, usage, unpacking, _ = str(caught.value).splitlines()
    assert "found icml_face_data.csv.zip, notes.csv, test.csv, train.csv" in first
    says(usage, "Usage", "test.csv, train.csv", "icml_face_data.csv")
    archive = tmp_path / "icml_face_data.csv.zip"
    assert f"fer data prepare fer2013 {archive} --root" in unpacking


def test_the_table_under_another_name_is_recognised(tmp_path: Path) -> None:
    (table(tmp_path, *GOOD) / "fer2013.csv").rename(tmp_path / "fer2013 (1).csv")
    with pytest.raises(DataError, match=r"\(1\)\.csv' is the table: rename it to fer2013\.csv"):
        read(tmp_path)


def test_prepare_refuses_files_that_are_not_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not downloaded automatically"):
        prepare(tmp_path / "root", None, False)
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        prepare(tmp_path / "root", tmp_path / "none.csv", False)
    (tmp_path / "test.csv").write_text("pixels\n1 2 3\n")
    with pytest.raises(DataError, match=r"'test\.csv' lacks the columns emotion, Usage"):
        prepare(tmp_path / "root", tmp_path / "test.csv", False)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be copied there"):
        prepare(tmp_path / "file" / "root", table(tmp_path / "t", *GOOD) / "fer2013.csv", False)
    assert not (tmp_path / "root").exists()
