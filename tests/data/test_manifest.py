from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fer_bench.data.manifest import Manifest, Problem, left_out, problem_of
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS

ROWS = [
    ("b", "b.png", "train", "fear"),
    ("a", "a.png", "train", "anger"),
    ("c", "c.png", "test", "fear"),
]
CLASSES = ("fear", "anger", "sadness")


def manifest(root: Path, rows: list[tuple[str, str, str, str]] = ROWS) -> Manifest:
    for _, path, _, _ in rows:
        (root / path).write_bytes(path.encode())
    samples = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
    return Manifest("tiny", "tiny-1", root, CLASSES, 1, samples)


def test_splits_and_counts(tmp_path: Path) -> None:
    tiny = manifest(tmp_path)
    assert tiny.split_sizes() == {"train": 2, "test": 1}
    assert tiny.counts() == {
        "train": {"fear": 1, "anger": 1, "sadness": 0},
        "test": {"fear": 1, "anger": 0, "sadness": 0},
    }
    assert list(tiny.split("train")["sample_id"]) == ["b", "a"]
    assert list(tiny.split("test").index) == [0]


def test_codes_follow_the_class_order(tmp_path: Path) -> None:
    codes = manifest(tmp_path).codes("train")
    assert codes.dtype == np.int32
    assert codes.tolist() == [0, 1]


def test_a_missing_split_names_the_present_ones(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no 'validation' split; it has train \(2\), test \(1\)"
    ):
        manifest(tmp_path).split("validation")


def test_a_missing_column_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks the columns"):
        Manifest("tiny", "1", tmp_path, CLASSES, 1, pd.DataFrame({"sample_id": ["a"]}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no images found for dataset 'tiny'"),
        ([ROWS[0], ROWS[0]], "1 sample ids occur twice, first 'b'"),
        ([("a", "a.png", "holdout", "fear")], "split 'holdout'; known: train, validation, test"),
        ([("a", "a.png", "train", "joy")], "label 'joy'; known: fear, anger, sadness"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[tuple[str, str, str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        manifest(tmp_path, rows)


def test_the_fingerprint_ignores_the_order(tmp_path: Path) -> None:
    assert manifest(tmp_path).fingerprint == manifest(tmp_path, ROWS[::-1]).fingerprint


@pytest.mark.parametrize("column", [0, 2, 3])
def test_the_fingerprint_sees_every_column(tmp_path: Path, column: int) -> None:
    changed = list(ROWS[0])
    changed[column] = {0: "z", 2: "validation", 3: "sadness"}[column]
    other = [(changed[0], changed[1], changed[2], changed[3]), *ROWS[1:]]
    assert manifest(tmp_path).fingerprint != manifest(tmp_path, other).fingerprint


def test_the_fingerprint_sees_the_file_size(tmp_path: Path) -> None:
    before = manifest(tmp_path).fingerprint
    after = manifest(tmp_path)
    (tmp_path / "a.png").write_bytes(b"another size")
    assert before != after.fingerprint


def test_the_fingerprint_ignores_where_the_folder_is(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert manifest(tmp_path / "one").fingerprint == manifest(tmp_path / "two").fingerprint


@pytest.mark.parametrize("names", ["", "a", "abcde", "abcdefg"])
def test_a_problem_of_what_is_named(names: str) -> None:
    expected = Problem("odd", "warning", len(names), tuple(names[:5]), "they are odd")
    found = problem_of("odd", "warning", iter(names), "they are odd")
    assert found == ([expected] if names else [])


def test_contempt_comes_last() -> None:
    assert EXPRESSIONS[7:] == ("contempt",)


def test_the_fingerprint_sees_which_part_of_an_image_is_used(tmp_path: Path) -> None:
    whole = manifest(tmp_path)
    boxes = dict.fromkeys(("face_x", "face_y", "face_width", "face_height"), 5)
    fingerprints = {
        replace(whole, samples=whole.samples.assign(**boxes | {"face_y": y})).fingerprint
        for y in (5, 6)
    }
    assert len(fingerprints | {whole.fingerprint}) == 3


def test_the_fingerprint_takes_the_size_of_the_source_where_the_file_is_not_it(
    tmp_path: Path,
) -> None:
    tiny = manifest(tmp_path)
    sizes = [(tmp_path / path).stat().st_size for path in tiny.samples["path"]]
    stated = replace(tiny, samples=tiny.samples.assign(bytes=sizes))
    assert stated.fingerprint == tiny.fingerprint
    (tmp_path / tiny.samples["path"][0]).write_bytes(b"encoded in another way")
    assert replace(stated).fingerprint == tiny.fingerprint


def test_what_a_user_should_know_is_a_line_with_examples(tmp_path: Path) -> None:
    problems = (
        Problem("label_disagreement", "error", 5, ("a", "b", "c", "d"), "two labels differ"),
        Problem("merged_test", "info", 1, (), "for those who ask"),
    )
    (line,) = replace(manifest(tmp_path), problems=problems).warnings()
    assert line == f"{tmp_path}: two labels differ: a; b; c; and 2 more"


@pytest.mark.parametrize(
    ("dropped", "text"),
    [
        ({}, "nothing"),
        ({"hidden": 0}, "nothing"),
        ({"hidden": 2, "not an image": 4_000}, "4,000 not an image, 2 hidden"),
        (
            {"format not supported: .avif": 1, "format not supported: .heic": 3, "hidden": 2},
            "2 hidden; format not supported: .heic 3, .avif 1",
        ),
    ],
)
def test_what_is_left_out_in_one_line(dropped: dict[str, int], text: str) -> None:
    assert left_out(dropped) == text


def test_a_warning_counts_files_that_may_be_images(tmp_path: Path) -> None:
    quiet = {"system file": 9, "hidden": 2, "unrelated folder": 1, "undersampled": 5}
    files = {"format not supported: .heic": 3, "not an image": 1, "name is not UTF-8": 0}
    assert replace(manifest(tmp_path), dropped=quiet).warnings() == []
    (line,) = replace(manifest(tmp_path), dropped=quiet | files).warnings()
    assert line.endswith("files were left out: 1 not an image; format not supported: .heic 3")
