from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    Face,
    Layout,
    Writer,
    Written,
    assert_samples,
    change,
    of_each,
    problems,
    save,
    sizes,
)
from layouts.rafdb import official, shuvoalok, tanishmittal, write
from messages import says
from pandas.testing import assert_frame_equal
from tiers import some_fast

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import rafdb
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS

WRITERS = (official, shuvoalok, tanishmittal)
LABELS = "basic/EmoLabel/list_patition_label.txt"
ALIGNED = "basic/Image/aligned"
MANUAL = "basic/Annotation/manual"
FIRST = "train_00001"

every_layout = pytest.mark.parametrize("layout", WRITERS, ids=lambda writer: writer.__name__)


@pytest.fixture(scope="module")
def few(faces: Sequence[Face]) -> list[Face]:
    """Of every expression, one for training and one for the test."""
    return of_each(2, faces)


def read(root: Path, **options: Any) -> Manifest:
    return rafdb.read(Dataset(name="rafdb", root=root, **options))


def assert_read_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setitem(rafdb.RELEASES, layout.release, layout.counts())
    manifest = rafdb.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout, check_dtype=False)
    assert manifest.samples["sample_id"].is_monotonic_increasing
    assert manifest.counts() == layout.counts()
    assert (manifest.name, manifest.release) == ("rafdb", layout.release)
    assert (manifest.classes, manifest.channels) == (EXPRESSIONS[:7], 3)
    assert (manifest.dropped, manifest.problems) == ({}, ())
    return manifest


@every_layout
def test_what_was_written_is_read_back(
    layout: Writer, tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = assert_read_back(layout(tmp_path, few), monkeypatch)
    assert manifest.split_sizes() == {"train": 7, "test": 7}
    assert manifest.image_size == (100, 100)
    assert ("race" in manifest.samples) == (layout is official)


@pytest.mark.parametrize(
    ("images", "size"), [("aligned", (100, 100)), ("original", None)], ids=("aligned", "original")
)
@pytest.mark.parametrize("only", [False, True])
def test_the_images_that_were_chosen(
    tmp_path: Path,
    few: Sequence[Face],
    images: str,
    size: tuple[int, int] | None,
    only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = official(tmp_path, few, images)
    if not only:
        official(tmp_path, few, "aligned" if images == "original" else "original")
    assert assert_read_back(layout, monkeypatch).image_size == size


def test_the_other_images_are_not_used_silently(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few, "original")
    with pytest.raises(DataError, match=r"'Image/aligned' is missing; found original\.\n.*images"):
        read(tmp_path)


@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
def test_the_copies_have_no_original_images(layout: Writer, written: Written) -> None:
    root = written(layout, 2).dataset["root"]
    with pytest.raises(DataError) as caught:
        read(root, images="original")
    says(caught.value, root, "dataset.images")
    assert len(read(root, images="aligned").samples) == 14


@pytest.mark.parametrize(
    ("layout", "inner"),
    [
        (official, "basic"),
        (shuvoalok, "DATASET"),
        (tanishmittal, "dataset"),
        (tanishmittal, "dataset/aligned"),
    ],
)
def test_the_root_may_be_an_inner_folder(
    layout: Writer, tmp_path: Path, few: Sequence[Face], inner: str
) -> None:
    layout(tmp_path, few)
    if layout is tanishmittal:
        for path in tmp_path.glob("*.csv"):
            path.rename(tmp_path / inner / path.name)
    manifest = read(tmp_path / inner)
    assert len(manifest.samples) == 14
    assert all((tmp_path / inner / path).is_file() for path in manifest.samples["path"])


def test_a_relative_root(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written(tanishmittal, 2).dataset["root"])
    assert len(read(Path()).samples) == 14


@every_layout
def test_samples_have_the_same_names_and_order_everywhere(layout: Writer, written: Written) -> None:
    columns = ["sample_id", "split", "label"]
    roots = [written(writer, 2).dataset["root"] for writer in (official, layout)]
    expected, found = (read(root).samples[columns] for root in roots)
    assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    "where", [".", "dataset", "dataset/aligned", "dataset/aligned/{split}"], ids=str
)
def test_places_of_the_lists_of_tanishmittal(
    tmp_path: Path, few: Sequence[Face], where: str
) -> None:
    tanishmittal(tmp_path, few, where)
    assert len(read(tmp_path).samples) == 14


def test_two_lists_for_one_split(tmp_path: Path, few: Sequence[Face]) -> None:
    tanishmittal(tmp_path, few)
    tanishmittal(tmp_path, few, "dataset")
    with pytest.raises(
        DataError, match=r"both 'dataset/train_labels\.csv' and 'train_labels\.csv'"
    ):
        read(tmp_path)


def test_the_correct_spelling_of_the_list(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few)
    label_list = tmp_path / LABELS
    correct = label_list.with_name("list_partition_label.txt")
    correct.write_bytes(label_list.read_bytes())
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'EmoLabel'", "list_patition_label.txt", "list_partition_label.txt")
    label_list.unlink()
    assert len(read(tmp_path).samples) == 14


# Attributes ------------------------------------------------------------------------------------


def test_no_attributes_without_their_folder(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few, attributes=False)
    manifest = read(tmp_path)
    assert list(manifest.samples) == ["sample_id", "path", "split", "label"]
    assert problems(manifest) == {}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"1.0\t2.0\n0\n3\n4\n",
        b"1.0\t2.0\n0\n1\n",
        b"1.0\t2.0\n3\n0\n0\n",
        b"1.0\t2.0\n0\n0\n5\n",
        b"\xff\xfe\n\x00",
    ],
)
def test_attributes_that_are_not_known(
    tmp_path: Path, few: Sequence[Face], content: bytes | None
) -> None:
    official(tmp_path, few)
    file = tmp_path / MANUAL / f"{FIRST}_manu_attri.txt"
    file.unlink()
    if content is not None:
        write(file, content)
    manifest = read(tmp_path)
    samples = manifest.samples.set_index("sample_id")[["gender", "race", "age"]]
    assert samples.isna().sum(axis=1).pipe(lambda n: n[n > 0]).to_dict() == {FIRST: 3}
    problem = problems(manifest)["attributes_missing"]
    assert (problem.severity, problem.count) == ("warning", 1)
    assert problem.examples == (f"{FIRST}_manu_attri.txt",)


def test_blanks_and_line_ends_around_attributes(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few)
    content = b"\xef\xbb\xbf1.0\t2.0\r\n0 \r\n2\t\r\n4\r\n\r\n"
    write(tmp_path / MANUAL / f"{FIRST}_manu_attri.txt", content)
    row = read(tmp_path).samples.set_index("sample_id").loc[FIRST]
    assert (row["gender"], row["race"], row["age"]) == ("male", "Asian", "70+")


@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
@pytest.mark.parametrize("below", [".", "{inner}"])
def test_attributes_join_the_copies(
    layout: Writer, tmp_path: Path, few: Sequence[Face], below: str
) -> None:
    layout(tmp_path, few)
    expected = official(tmp_path / "elsewhere/official", few).samples
    inner = "DATASET" if layout is shuvoalok else "dataset"
    target = tmp_path / below.format(inner=inner) / "Annotation"
    (tmp_path / "elsewhere/official/basic/Annotation").rename(target)
    (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    columns = ["sample_id", "gender", "race", "age"]
    assert_frame_equal(
        read(tmp_path).samples[columns],
        expected.sort_values("sample_id", ignore_index=True)[columns],
        check_dtype=False,
    )


# Lists that are not as they should be ----------------------------------------------------------


def list_of(layout: Writer, root: Path) -> Path:
    return root / (LABELS if layout is official else "train_labels.csv")


def row(layout: Writer, name: str, code: str) -> bytes:
    """A line of the list of `layout`."""
    text = f"{name}.jpg {code}\n" if layout is official else f"{name}_aligned.jpg,{code}\n"
    return text.encode()


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
def test_a_comma_at_the_end_of_every_row(
    layout: Writer, tmp_path: Path, few: Sequence[Face]
) -> None:
    layout(tmp_path, few)
    path = list_of(layout, tmp_path)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{line}," for line in lines), ",,"]))
    assert len(read(tmp_path).samples) == 14


@every_layout
@pytest.mark.parametrize("name", ["../train_9", "/etc/train_9", r"C:\train_9"])
def test_a_path_out_of_the_folder(
    layout: Writer, tmp_path: Path, few: Sequence[Face], name: str
) -> None:
    layout(tmp_path, few)
    append(list_of(layout, tmp_path), row(layout, name, "4"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, list_of(layout, tmp_path).name, "train_9")


@every_layout
@pytest.mark.parametrize("name", ["face", "sub/train_1"])
def test_a_name_of_no_split(layout: Writer, tmp_path: Path, few: Sequence[Face], name: str) -> None:
    layout(tmp_path, few)
    append(list_of(layout, tmp_path), row(layout, name, "4"))
    with pytest.raises(DataError, match=f"image '{name}.*should start with train_"):
        read(tmp_path)


@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
def test_a_list_names_an_image_of_the_other_split(
    layout: Writer, tmp_path: Path, few: Sequence[Face]
) -> None:
    layout(tmp_path, few)
    append(tmp_path / "train_labels.csv", row(layout, "test_0001", "4"))
    with pytest.raises(DataError, match=r"'train_labels\.csv' has the image 'test_0001_aligned"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [(shuvoalok, "DATASET/train/4"), (tanishmittal, "dataset/aligned/train/train_images")],
)
def test_a_folder_holds_an_image_of_the_other_split(
    layout: Writer, tmp_path: Path, few: Sequence[Face], folder: str
) -> None:
    layout(tmp_path, few)
    (tmp_path / folder / "test_9999_aligned.jpg").touch()
    with pytest.raises(DataError, match=r"has the image 'test_9999_aligned\.jpg', whose name sho"):
        read(tmp_path)


@pytest.mark.parametrize("layout", [official, tanishmittal])
@pytest.mark.parametrize("code", ["0", "8", "4.5", "happy"])
def test_an_unknown_code(layout: Writer, tmp_path: Path, faces: Sequence[Face], code: str) -> None:
    written = layout(tmp_path, of_each(4, faces))
    label = written.samples.set_index("sample_id")["label"][FIRST]
    old = row(layout, FIRST, str(_code(label)))
    change(list_of(layout, tmp_path), old, row(layout, FIRST, code))
    manifest = read(tmp_path)
    assert manifest.dropped == {"label outside the map": 1}
    problem = problems(manifest)["label_unknown"]
    assert (problem.severity, problem.count) == ("error", 1)
    assert FIRST in problem.examples[0]
    assert repr(code) in problem.examples[0]
    assert len(manifest.samples) == 27
    assert FIRST not in set(manifest.samples["sample_id"])


def _code(label: str) -> int:
    order = ("", "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    return order.index(label)


@every_layout
def test_rows_without_a_file(layout: Writer, tmp_path: Path, few: Sequence[Face]) -> None:
    layout(tmp_path, few)
    long = "train_" + "x" * 300
    for name in ("train_99999", "train_日本", long):
        append(list_of(layout, tmp_path), row(layout, name, "4"))
    manifest = read(tmp_path)
    assert manifest.dropped == {"listed without a file": 3}
    problem = problems(manifest)["listed_without_file"]
    assert (problem.severity, problem.count, len(problem.examples)) == ("error", 3, 3)
    assert "train_99999" in problem.examples[0]
    assert len(manifest.samples) == 14


@pytest.mark.parametrize(
    ("layout", "folder"),
    [(official, ALIGNED), (tanishmittal, "dataset/aligned/train/train_images")],
)
def test_images_that_no_list_names(
    layout: Writer, tmp_path: Path, few: Sequence[Face], folder: str
) -> None:
    layout(tmp_path, few)
    for number in range(7):
        (tmp_path / folder / f"train_9000{number}_aligned.jpg").touch()
    (tmp_path / folder / "copy.JPG").touch()
    manifest = read(tmp_path)
    assert manifest.dropped == {"not listed": 8}
    problem = problems(manifest)["file_not_listed"]
    assert (problem.severity, problem.count, len(problem.examples)) == ("warning", 8, 5)
    assert problem.examples[0] == f"{folder}/copy.JPG"
    assert len(manifest.samples) == 14


@every_layout
def test_a_row_that_is_there_twice(layout: Writer, tmp_path: Path, few: Sequence[Face]) -> None:
    layout(tmp_path, few)
    path = list_of(layout, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    append(path, lines[3] + lines[4])
    manifest = read(tmp_path)
    assert (manifest.dropped, len(manifest.samples)) == ({"listed twice": 2}, 14)


@every_layout
def test_an_image_with_two_labels(layout: Writer, tmp_path: Path, few: Sequence[Face]) -> None:
    layout(tmp_path, few)
    append(list_of(layout, tmp_path), row(layout, FIRST, "99"))
    with pytest.raises(DataError, match=rf"1 images two labels, first '{FIRST}.*and '99'"):
        read(tmp_path)


def test_a_line_that_is_not_a_pair(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few)
    append(tmp_path / LABELS, b"train_9.jpg\n")
    with pytest.raises(
        DataError, match=r"line 15: expected a name and a label, found 1 value \('train_9"
    ):
        read(tmp_path)


def test_a_list_that_is_not_text(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few)
    text = (tmp_path / LABELS).read_text()
    (tmp_path / LABELS).write_bytes(b"\xff" + text.encode())
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'list_patition_label.txt'", "0xff")


def test_the_official_list_is_missing(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path, few)
    (tmp_path / LABELS).rename(tmp_path / "basic/EmoLabel/labels.txt")
    with pytest.raises(DataError, match=r"_patition_label\.txt' is missing; found labels\.txt"):
        read(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_list_of_tanishmittal_is_missing(tmp_path: Path, few: Sequence[Face], split: str) -> None:
    tanishmittal(tmp_path, few)
    (tmp_path / f"{split}_labels.csv").unlink()
    with pytest.raises(
        DataError, match=rf"'{split}_labels\.csv' is missing; found .* Looked in 'dataset/a"
    ):
        read(tmp_path)


# shuvoalok: folders and lists ------------------------------------------------------------------


def test_the_lists_of_shuvoalok_may_be_missing(tmp_path: Path, few: Sequence[Face]) -> None:
    shuvoalok(tmp_path, few)
    (tmp_path / "train_labels.csv").unlink()
    manifest = read(tmp_path)
    assert (manifest.dropped, len(manifest.samples)) == ({}, 14)
    assert set(problems(manifest)) == {"list_missing"}
    problem = problems(manifest)["list_missing"]
    assert (problem.severity, problem.examples) == ("info", ("train_labels.csv",))


def test_folder_and_list_of_shuvoalok_disagree(tmp_path: Path, few: Sequence[Face]) -> None:
    written = shuvoalok(tmp_path, few)
    labels = written.samples.set_index("sample_id")["label"]
    for name, code in (("train_00001", "3"), ("train_00002", "9")):
        assert labels[name] != "disgust"
        old = row(shuvoalok, name, str(_code(labels[name])))
        change(tmp_path / "train_labels.csv", old, row(shuvoalok, name, code))
    manifest = read(tmp_path)
    assert_frame_equal(
        manifest.samples, written.samples.sort_values("sample_id", ignore_index=True)
    )
    assert set(problems(manifest)) == {"label_disagreement"}
    problem = problems(manifest)["label_disagreement"]
    assert (problem.severity, problem.count) == ("error", 2)
    assert problem.examples[0] == (
        f"train_00001_aligned.jpg: folder {labels['train_00001']}, list '3'"
    )
    assert "28.57%" in problem.text  # 2 of 7


def test_files_that_the_lists_of_shuvoalok_do_not_name(tmp_path: Path, few: Sequence[Face]) -> None:
    shuvoalok(tmp_path, few)
    long = f"train_{'x' * 190}.jpg"
    for name in ("train_größe_aligned.jpg", long):
        (tmp_path / "DATASET/train/4" / name).touch()
    manifest = read(tmp_path)
    added = manifest.samples[manifest.samples["sample_id"].isin(["train_größe", long[:-4]])]
    assert added["label"].tolist() == ["happiness", "happiness"]
    assert manifest.dropped == {}
    problem = problems(manifest)["file_not_listed"]
    assert (problem.severity, problem.count) == ("warning", 2)


def test_an_image_in_two_class_folders(tmp_path: Path, few: Sequence[Face]) -> None:
    shuvoalok(tmp_path, few)
    for code in (4, 5):
        (tmp_path / f"DATASET/train/{code}/train_90000_aligned.jpg").touch()
    with pytest.raises(DataError, match=r"'DATASET/train/4/train_90000_.*' and 'DATASET/train/5/"):
        read(tmp_path)


@pytest.mark.parametrize("folder", ["0", "8", "happy"])
def test_an_unknown_class_folder(tmp_path: Path, few: Sequence[Face], folder: str) -> None:
    shuvoalok(tmp_path, few)
    (tmp_path / "DATASET/test" / folder).mkdir()
    with pytest.raises(DataError, match=f"unknown class folder 'test/{folder}'; known: 1 to 7"):
        read(tmp_path)


# What is missing, or not what it should be -----------------------------------------------------


def samples_of(
    layout: Writer, root: Path, split: str, label: str, few: Sequence[Face]
) -> list[Path]:
    samples = layout(root, few).samples
    chosen = samples[(samples["split"] == split) & (samples["label"] == label)]
    return [root / path for path in chosen["path"]]


@every_layout
@pytest.mark.parametrize(("split", "label"), [("train", "fear"), ("test", "neutral")])
def test_a_class_without_images(
    layout: Writer, tmp_path: Path, few: Sequence[Face], split: str, label: str
) -> None:
    for path in samples_of(layout, tmp_path, split, label, few):
        path.unlink()
    with pytest.raises(
        DataError, match=rf"no image of {split} {label}; left out: 1 listed without"
    ):
        read(tmp_path)


def test_a_missing_class_folder(tmp_path: Path, few: Sequence[Face]) -> None:
    images = samples_of(shuvoalok, tmp_path, "test", "anger", few)
    images[0].parent.rename(tmp_path / "anger")
    with pytest.raises(DataError, match="no image of test anger"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        (shuvoalok, "DATASET/test"),
        (tanishmittal, "dataset/aligned/test/test_images"),
        (tanishmittal, "dataset/aligned/train/train_images"),
    ],
)
def test_a_missing_split(layout: Writer, tmp_path: Path, few: Sequence[Face], folder: str) -> None:
    layout(tmp_path, few)
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no folder '\w+' in '\w+'; found "):
        read(tmp_path)


def test_another_layout(tmp_path: Path) -> None:
    for name in ("training/happy", "validation/happy", "train", "test/images"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"found test, train, training, validation\.\nExpected one"):
        read(tmp_path)


def test_two_layouts(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path / "rafdb", few)
    shuvoalok(tmp_path / "kaggle", few)
    with pytest.raises(
        DataError,
        match=r"rafdb-official in 'rafdb/basic', rafdb-shuvoalok in 'kaggle/DATASET'\.\nSet data",
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "place", "message"),
    [
        (official, "basic", r"found basic \(a link\)"),
        (official, ALIGNED, r"'Image/aligned' is missing; found aligned \(a link\), original"),
        (official, LABELS, r"txt' is missing; found list_patition_label\.txt \(a link\)"),
        (
            shuvoalok,
            "DATASET/train",
            r"no folder 'train' in 'DATASET'; found test, train \(a link\)",
        ),
        (tanishmittal, "train_labels.csv", r"'train_labels\.csv' is missing"),
    ],
)
def test_a_part_that_is_a_link(
    layout: Writer, tmp_path: Path, few: Sequence[Face], place: str, message: str
) -> None:
    layout(tmp_path / "root", few)
    part = tmp_path / "root" / place
    part.rename(tmp_path / "moved")
    part.symlink_to(tmp_path / "moved")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "root")


def test_a_link_among_the_attributes(tmp_path: Path, few: Sequence[Face]) -> None:
    official(tmp_path / "root", few)
    file = tmp_path / "root" / MANUAL / f"{FIRST}_manu_attri.txt"
    file.rename(tmp_path / "moved.txt")
    file.symlink_to(tmp_path / "moved.txt")
    manifest = read(tmp_path / "root")
    assert manifest.dropped == {"symbolic link: out of the root": 1}
    assert problems(manifest)["attributes_missing"].count == 1
    file.unlink()
    (tmp_path / "moved.txt").rename(tmp_path / "root" / "moved.txt")
    file.symlink_to(tmp_path / "root" / "moved.txt")
    assert "attributes_missing" not in problems(read(tmp_path / "root"))


# Lists and folders in other clothes ------------------------------------------------------------


def changed_lines(path: Path, change_line: Callable[[str], str]) -> None:
    path.write_text("".join(f"{change_line(line)}\n" for line in path.read_text().splitlines()))


def test_a_list_that_names_the_aligned_files(tmp_path: Path, few: Sequence[Face]) -> None:
    layout = official(tmp_path, few)
    changed_lines(tmp_path / LABELS, lambda line: line.replace(".jpg", "_aligned.jpg"))
    manifest = read(tmp_path)
    assert_samples(manifest, layout, check_dtype=False)
    assert (manifest.dropped, problems(manifest)) == ({}, {})


def test_a_list_that_names_the_aligned_files_for_the_original_images(
    tmp_path: Path, few: Sequence[Face]
) -> None:
    official(tmp_path, few, images="original")
    changed_lines(tmp_path / LABELS, lambda line: line.replace(".jpg", "_aligned.jpg"))
    assert len(read(tmp_path, images="original").samples) == 14


@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
def test_a_list_of_a_copy_that_does_not_name_the_aligned_files(
    layout: Writer, tmp_path: Path, few: Sequence[Face]
) -> None:
    layout(tmp_path, few)
    for split in ("train", "test"):
        changed_lines(
            tmp_path / f"{split}_labels.csv", lambda line: line.replace("_aligned.jpg", ".jpg")
        )
    manifest = read(tmp_path)
    assert len(manifest.samples) == 14
    assert (manifest.dropped, problems(manifest)) == ({}, {})


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", " ,\t", "   "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_of_the_list(
    tmp_path: Path, few: Sequence[Face], separator: str, encoding: str
) -> None:
    official(tmp_path, few)
    lines = (tmp_path / LABELS).read_text().split("\n")
    text = "\r\n\r\n".join(line.replace(" ", separator) for line in lines)
    (tmp_path / LABELS).write_bytes(text.encode(encoding))
    manifest = read(tmp_path)
    assert len(manifest.samples) == 14
    assert (manifest.dropped, problems(manifest)) == ({}, {})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train_00001.jpg 1 1", r"3 values \('train_00001\.jpg 1 1'\)"),
        ("train_00001.jpg,1,0.9,0.1", r"4 values \('train_00001\.jpg,1,0\.9,0\.1'\)"),
        ("train_00001.jpg", r"1 value \('train_00001\.jpg'\)"),
    ],
)
def test_a_list_with_another_number_of_columns(
    tmp_path: Path, few: Sequence[Face], line: str, found: str
) -> None:
    official(tmp_path, few)
    changed_lines(tmp_path / LABELS, lambda _: line)
    with pytest.raises(
        DataError,
        match=rf"'list_patition_label\.txt', line 1: expected a name and a label, found {found}",
    ):
        read(tmp_path)


@pytest.mark.parametrize("name", some_fast(["valid", "val", "validation", "testing"], "valid"))
@pytest.mark.parametrize("layout", [shuvoalok, tanishmittal])
@pytest.mark.parametrize("list_too", [False, True])
def test_the_test_split_under_another_name(
    layout: Writer, tmp_path: Path, few: Sequence[Face], name: str, list_too: bool
) -> None:
    written = layout(tmp_path, few)
    expected = read(tmp_path)
    fingerprint = expected.fingerprint
    if layout is shuvoalok:
        (tmp_path / "DATASET" / "test").rename(tmp_path / "DATASET" / name)
    else:
        aligned = tmp_path / "dataset" / "aligned"
        (aligned / "test").rename(aligned / name)
        (aligned / name / "test_images").rename(aligned / name / f"{name}_images")
    if list_too:
        (tmp_path / "test_labels.csv").rename(tmp_path / f"{name}_labels.csv")
    manifest = read(tmp_path)
    columns = ["sample_id", "split", "label"]
    assert manifest.samples[columns].equals(expected.samples[columns])
    assert manifest.fingerprint == fingerprint
    found = problems(manifest)
    assert set(found) == ({"validation_is_test"} if name.startswith("val") else set())
    assert len(written.samples) == len(manifest.samples)


def test_a_third_part_of_a_copy_is_named(tmp_path: Path, few: Sequence[Face]) -> None:
    shuvoalok(tmp_path, few)
    save(few[0].image, tmp_path / "DATASET" / "valid" / "1" / "train_00009_aligned.jpg")
    manifest = read(tmp_path)
    assert manifest.split_sizes() == {"train": 7, "test": 7}
    problem = problems(manifest)["folder_not_used"]
    assert (problem.severity, problem.examples) == ("warning", ("valid",))


# Which release it is ---------------------------------------------------------------------------


def test_the_counts_of_the_releases_are_the_official_ones() -> None:
    assert set(rafdb.RELEASES) == set(rafdb.LAYOUTS)
    official_sizes = {"train": 12_271, "test": 3_068}
    assert sizes(rafdb.RELEASES) == dict.fromkeys(rafdb.LAYOUTS, official_sizes)
    for counts in rafdb.RELEASES.values():
        assert set(counts["train"]) == set(counts["test"]) == set(EXPRESSIONS[:7])
        assert (counts["train"]["happiness"], counts["test"]["happiness"]) == (4772, 1185)
        assert (counts["train"]["fear"], counts["test"]["anger"]) == (281, 162)


def test_validation_is_taken_from_train_and_the_test_split_stays(written: Written) -> None:
    layout = written(official, 6)
    manifest = load_manifest(Dataset(**layout.dataset, validation=1 / 3))
    assert manifest.split_sizes() == {"train": 14, "validation": 7, "test": 21}
    official_test = layout.samples.loc[layout.samples["split"] == "test", "sample_id"]
    assert set(manifest.split("test")["sample_id"]) == set(official_test)


# Preparation -----------------------------------------------------------------------------------
