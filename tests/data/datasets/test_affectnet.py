import itertools
import logging
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
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
from layouts.affectnet import (
    IMAGES,
    lists_2017,
    noamsegal,
    sets_2021,
    write_annotations,
)
from messages import says
from pandas.testing import assert_frame_equal

from fer_bench.config.dataset import Dataset
from fer_bench.data import contents
from fer_bench.data.contents import verifying
from fer_bench.data.datasets import affectnet
from fer_bench.data.datasets.affectnet import shared
from fer_bench.data.files.links import Links
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import BOX, Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.storage.cache import VARIABLE

WRITERS = (lists_2017, sets_2021, noamsegal)
NO_EXPRESSION = {"none": 2, "uncertain": 2, "non-face": 2}
TABLES = "affectnet-npy"

every_layout = pytest.mark.parametrize("layout", WRITERS, ids=lambda writer: writer.__name__)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def few(faces: Sequence[Face]) -> list[Face]:
    """Of every expression, two for training and one for the test."""
    return of_each(3, faces)


@pytest.fixture(scope="module")
def some(few: Sequence[Face]) -> list[Face]:
    """The same, of the first three expressions."""
    return [face for face in few if face.label in EXPRESSIONS[:3]]


def read(root: Path, **options: Any) -> Manifest:
    return affectnet.read(Dataset(name="affectnet", root=root, **options))


def summary(manifest: Manifest) -> dict[str, tuple[str, int, tuple[str, ...]]]:
    """Severity, count and examples of what was found, by kind."""
    found = problems(manifest)
    return {kind: (one.severity, one.count, one.examples) for kind, one in found.items()}


def change_row(path: Path, number: int, **cells: str) -> str:
    """Change cells of a list's row, counted from 0; returns its path. No cell holds a comma."""
    lines = path.read_text().split("\n")
    names, values = lines[0].split(","), lines[1 + number].split(",")
    row = dict(zip(names, values, strict=True)) | cells
    lines[1 + number] = ",".join(row.values())
    path.write_text("\n".join(lines))
    return row.get("subDirectory_filePath", row.get("pth", ""))


def with_bom_and_windows_lines(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


# What was written ------------------------------------------------------------------------------


def assert_read_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setitem(affectnet.RELEASES, layout.release, layout.counts())
    manifest = affectnet.read(Dataset(**layout.dataset))
    assert_samples(manifest, layout)
    assert (manifest.name, manifest.release) == ("affectnet", layout.release)
    assert (manifest.classes, manifest.channels) == (EXPRESSIONS, 3)
    assert manifest.problems == ()
    return manifest


def assert_properties(manifest: Manifest) -> None:
    """What only depends on the release."""
    expected = {
        "affectnet-2017-csv": (NO_EXPRESSION, None),
        "affectnet-2021-npy": ({}, (224, 224)),
        "affectnet-noamsegal": ({}, (96, 96)),
    }
    assert (manifest.dropped, manifest.image_size) == expected[manifest.release]


@every_layout
def test_what_was_written_is_read_back(
    layout: Writer, tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = assert_read_back(layout(tmp_path, few), monkeypatch)
    assert_properties(manifest)
    assert len(manifest.samples) == 24


@every_layout
def test_the_way_to_an_experiment(layout: Writer, written: Written) -> None:
    dataset = written(layout, 3).dataset
    eight = load_manifest(Dataset(**dataset))
    assert set(eight.split_sizes()) == {"train", "validation", "test"}
    seven = load_manifest(Dataset(**dataset, contempt="drop"))
    assert seven.classes == EXPRESSIONS[:7]
    assert seven.dropped["contempt"] == 3
    assert len(seven.samples) == len(eight.samples) - 3
    assert seven.fingerprint != eight.fingerprint


def test_the_counts_of_the_releases_add_up() -> None:
    assert sizes(affectnet.RELEASES) == {
        "affectnet-2017-csv": {"train": 287_652, "test": 4_000},
        "affectnet-2021-npy": {"train": 287_651, "test": 3_999},
        "affectnet-noamsegal": {"train": 29_042},
    }


# Which layout it is ----------------------------------------------------------------------------


def test_another_layout(tmp_path: Path) -> None:
    (tmp_path / "train" / "happy").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        DataError, match=r"no release of AffectNet; found train, notes.txt"
    ) as error:
        read(tmp_path)
    assert str(error.value).count("\n- affectnet-") == 3


def test_two_releases_side_by_side(tmp_path: Path, some: Sequence[Face]) -> None:
    lists_2017(tmp_path, some)
    sets_2021(tmp_path, some)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "affectnet-2017-csv", "affectnet-2021-npy")


@pytest.mark.parametrize("layout", [lists_2017, sets_2021])
def test_a_choice_of_labels_without_effect(layout: Writer, written: Written) -> None:
    with pytest.raises(DataError, match=r"dataset.labels has no effect on affectnet-20.*\nRemove"):
        read(written(layout, 3).dataset["root"], labels="folder")


# 2017 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "images"),
    [
        ("lists", IMAGES),
        ("", f"Manually_Annotated/{IMAGES}"),
        ("Manually_Annotated", f"Manually_Annotated/{IMAGES}"),
        ("Manually_Annotated_file_lists", f"Manually_Annotated/{IMAGES}"),
    ],
)
def test_places_of_lists_and_images(
    lists: str, images: str, tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_read_back(lists_2017(tmp_path, few, lists, images), monkeypatch)


@pytest.mark.parametrize("name", ["training.csv", "validation.csv"])
def test_a_missing_list(name: str, tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"'{name}' is missing"):
        read(tmp_path)


def test_missing_images(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    (tmp_path / IMAGES).rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=f"no folder '{IMAGES}' in .*; found pictures"):
        read(tmp_path)


def test_a_folder_of_images_of_another_name_beside_that_of_the_lists(
    tmp_path: Path, few: Sequence[Face]
) -> None:
    lists_2017(tmp_path, few, "Manually_Annotated_file_lists", "Manually_Annotated_compressed")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    first, second = str(caught.value).splitlines()
    assert (
        f"no folder '{IMAGES}' in '{tmp_path.name}'; found Manually_Annotated_compressed, " in first
    )
    says(second, "'Manually_Annotated_compressed'", "rename", f"'{IMAGES}'")
    (tmp_path / "Manually_Annotated_compressed").rename(tmp_path / IMAGES)
    assert len(read(tmp_path).samples) == 24


@pytest.mark.parametrize("name", ["Validation.csv", "validation (1).csv"])
def test_a_list_of_another_name(tmp_path: Path, few: Sequence[Face], name: str) -> None:
    lists_2017(tmp_path, few)
    (tmp_path / "validation.csv").rename(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert f"'validation.csv' is missing; found {IMAGES}, " in str(caught.value)
    says(caught.value, f"'{name}'", "rename it to 'validation.csv'")


def test_a_set_of_another_name(tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path, some)
    (tmp_path / "val_set").rename(tmp_path / "validation_set")
    with pytest.raises(
        DataError, match=r"no folder 'val_set' in .*; found train_set, valid"
    ) as one:
        read(tmp_path)
    says(one.value, "'validation_set'", "rename it to 'val_set'")
    (tmp_path / "validation_set").rename(tmp_path / "val_set")
    (tmp_path / "val_set" / "images").rename(tmp_path / "val_set" / "image")
    with pytest.raises(DataError, match=r"no folder 'images' in 'val_set'; found annotations, im"):
        read(tmp_path)


def test_a_list_beside_class_folders_of_another_name(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    (tmp_path / "labels.csv").rename(tmp_path / "list.csv")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "found anger, ", "labels.csv", "dataset.name: folder")


def test_links_are_reported_again_when_the_table_is_cached(
    tmp_path: Path, some: Sequence[Face], cache: Path
) -> None:
    sets_2021(tmp_path, some)
    images = tmp_path / "train_set" / "images"
    first = min(images.iterdir())
    (images / "9999.jpg").symlink_to(first.name)
    (images / "10000.jpg").symlink_to("/dev/null")
    for kind in ("exp", "val", "aro"):
        source = tmp_path / "train_set" / "annotations" / f"{first.stem}_{kind}.npy"
        shutil.copy(source, source.with_name(f"9999_{kind}.npy"))
    before, after = read(tmp_path), read(tmp_path)
    assert after.samples.equals(before.samples)
    assert "train/9999" not in set(after.samples["sample_id"])
    assert (after.dropped, after.problems) == (before.dropped, before.problems)
    assert after.dropped["symbolic link: to an image counted already"] == 1
    assert after.dropped["symbolic link: out of the root"] == 1
    assert any(cache.rglob("seen.json"))


def test_images_without_any_list(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    with pytest.raises(DataError, match=r"'training.csv' is missing"):
        read(tmp_path)


@pytest.mark.parametrize("path", ["../secret.jpg", "1/../../secret.jpg", "/etc/secret.jpg", ""])
def test_a_path_out_of_the_folder(path: str, tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    change_row(tmp_path / "training.csv", 3, subDirectory_filePath=path)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'training.csv'", repr(path))


def test_lists_without_rows(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    for path in tmp_path.glob("*.csv"):
        path.write_text(path.read_text().split("\n")[0] + "\n")
    with pytest.raises(DataError, match="no image with a label; left out: "):
        read(tmp_path)


def test_lists_of_nothing_that_shows_an_expression(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    for path in tmp_path.glob("*.csv"):
        lines = path.read_text().split("\n")
        path.write_text("\n".join([lines[0], *lines[-4:]]))
    with pytest.raises(DataError, match="no image with a label; left out: "):
        read(tmp_path)


def test_codes_without_an_expression(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    path = tmp_path / "training.csv"
    for number, code in enumerate(("8", "9", "9", "10", "11", "1.5", "-1", "happy", "")):
        change_row(path, number, expression=code)
    strange = [f"train/{change_row(path, number)}" for number in range(4, 9)]
    manifest = read(tmp_path)
    assert manifest.dropped == {"none": 3, "uncertain": 4, "non-face": 3, shared.OUTSIDE: 5}
    examples = (f"{strange[0]}: 11", f"{strange[1]}: 1.5", f"{strange[2]}: -1")
    found = problems(manifest)["label_unknown"]
    assert (found.severity, found.count, found.examples[:3]) == ("error", 5, examples)
    assert manifest.split_sizes() == {"train": 16 - 9, "test": 8}


def test_a_whole_number_may_have_a_point(
    tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = lists_2017(tmp_path, few)
    change_row(
        tmp_path / "training.csv",
        0,
        expression=f"{EXPRESSIONS.index(few[0].label)}.0",
        face_x="0.0",
    )
    assert_read_back(layout, monkeypatch)


def test_invalid_valence_and_arousal(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    path = tmp_path / "training.csv"
    given = [("-2", "-2"), ("0.5", "-2"), ("1.5", "0"), ("none", ""), ("-1", "1"), ("-2", "nan")]
    names = [
        f"train/{change_row(path, number, valence=valence, arousal=arousal)}"
        for number, (valence, arousal) in enumerate(given)
    ]
    manifest = read(tmp_path)
    assert summary(manifest) == {
        "valence_arousal_missing": ("info", 3, (names[0], names[1], names[5])),
        "valence_arousal_out_of_range": ("error", 3, (names[2], names[3], names[5])),
    }
    rows = manifest.samples.set_index("sample_id").loc[names]
    nan = np.nan
    np.testing.assert_array_equal(rows["valence"], [nan, 0.5, nan, nan, -1, nan])
    np.testing.assert_array_equal(rows["arousal"], [nan, nan, 0, nan, 1, nan])
    assert len(manifest.samples) == 24


def test_invalid_boxes(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    path = tmp_path / "training.csv"
    cells = [
        {"face_width": "0"},
        {"face_height": "-3"},
        {"face_x": "NULL"},
        {"face_y": ""},
        {"face_width": "inf"},
        {"face_x": "1e300"},
    ]
    names = [f"train/{change_row(path, number, **cell)}" for number, cell in enumerate(cells)]
    kept = f"train/{change_row(path, 6, face_x='-4')}"
    manifest = read(tmp_path)
    assert manifest.dropped == NO_EXPRESSION | {"face box unusable": 6}
    assert summary(manifest) == {"box_unusable": ("warning", 6, tuple(names[:5]))}
    rows = manifest.samples.set_index("sample_id")
    assert not set(names) & set(rows.index)
    assert rows.loc[kept, "face_x"] == -4
    assert all(rows[column].dtype.kind == "i" for column in BOX)


def test_formats_that_cannot_be_decoded(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    others = []
    for number, suffix in enumerate((".heic", ".HEIC", ".avif", "")):
        name = change_row(tmp_path / "training.csv", number)
        others.append(name.removesuffix(".jpg") + suffix)
        change_row(tmp_path / "training.csv", number, subDirectory_filePath=others[-1])
        (tmp_path / IMAGES / name).rename(tmp_path / IMAGES / others[-1])
    (tmp_path / IMAGES / others[0]).unlink()  # as unpacking only images leaves it
    manifest = read(tmp_path)
    assert manifest.dropped == NO_EXPRESSION | {
        "format not supported: .heic": 2,
        "format not supported: .avif": 1,
        "not an image": 1,
    }
    names = tuple(f"train/{name}" for name in others)
    assert summary(manifest) == {"format_not_supported": ("warning", 4, names)}
    assert len(manifest.samples) == 20


def test_the_release_is_recognised_by_its_lists_not_its_files(
    tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = lists_2017(tmp_path, few)
    monkeypatch.setitem(affectnet.RELEASES, layout.release, layout.counts())
    change_row(tmp_path / "training.csv", 0, subDirectory_filePath="1/a.heic", face_width="0")
    manifest = read(tmp_path)
    assert manifest.release == "affectnet-2017-csv"
    assert len(manifest.samples) == 23


def test_files_without_a_row_and_rows_without_a_file(tmp_path: Path, few: Sequence[Face]) -> None:
    outside = tmp_path / "outside.jpg"
    save(few[0].image, outside)
    tmp_path /= "root"
    lists_2017(tmp_path, few)
    gone = change_row(tmp_path / "validation.csv", 2)
    (tmp_path / IMAGES / gone).unlink()
    save(few[0].image, tmp_path / IMAGES / "7" / "ä new.jpg")
    (tmp_path / IMAGES / "7" / "notes.txt").touch()
    (tmp_path / IMAGES / ".DS_Store").touch()
    (tmp_path / IMAGES / "link.jpg").symlink_to(outside)
    manifest = read(tmp_path)
    assert manifest.dropped == NO_EXPRESSION | {
        "listed without a file": 1,
        "not listed": 1,
        "not an image": 1,
        "system file": 1,
        "symbolic link: out of the root": 1,
    }
    assert summary(manifest) == {
        "listed_without_file": ("error", 1, (f"test/{gone}",)),
        "file_not_listed": ("warning", 1, ("7/ä new.jpg",)),
        "link_not_followed": ("warning", 1, (f"{IMAGES}/link.jpg -> {outside}",)),
    }
    assert manifest.split_sizes() == {"train": 16, "test": 7}


def test_a_row_that_names_a_link_is_not_followed(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path / "root", few)
    name = change_row(tmp_path / "root" / "training.csv", 0)
    image = tmp_path / "root" / IMAGES / name
    image.rename(tmp_path / "secret.jpg")
    image.symlink_to(tmp_path / "secret.jpg")
    manifest = read(tmp_path / "root")
    assert f"train/{name}" not in set(manifest.samples["sample_id"])
    assert manifest.dropped["listed without a file"] == 1
    assert manifest.dropped["symbolic link: out of the root"] == 1


def test_a_row_that_comes_twice(tmp_path: Path, few: Sequence[Face]) -> None:
    layout = lists_2017(tmp_path, few)
    first = change_row(tmp_path / "training.csv", 0)
    second = change_row(tmp_path / "training.csv", 1, subDirectory_filePath=first)
    assert second == first
    manifest = read(tmp_path)
    assert manifest.dropped == NO_EXPRESSION | {"listed twice": 1, "not listed": 1}
    assert summary(manifest)["listed_twice"] == ("warning", 1, (f"train/{first}",))
    rows = manifest.samples.set_index("sample_id")
    expected = layout.samples.set_index("sample_id")
    assert rows.loc[f"train/{first}"].to_dict() == expected.loc[f"train/{first}"].to_dict()


def test_an_image_in_both_lists_is_two_samples(tmp_path: Path, few: Sequence[Face]) -> None:
    lists_2017(tmp_path, few)
    name = change_row(tmp_path / "training.csv", 0)
    change_row(tmp_path / "validation.csv", 0, subDirectory_filePath=name)
    assert {f"train/{name}", f"test/{name}"} <= set(read(tmp_path).samples["sample_id"])


def test_labels_made_by_a_program_are_not_used(tmp_path: Path, few: Sequence[Face]) -> None:
    layout = lists_2017(tmp_path, few)
    rows = (tmp_path / "training.csv").read_text().replace("\n1/", "\nautomatic/")
    (tmp_path / "automatically_annotated.csv").write_text(rows)
    manifest = read(tmp_path)
    assert summary(manifest) == {"list_not_used": ("info", 1, ("automatically_annotated.csv",))}
    assert len(manifest.samples) == len(layout.samples)


# 2021 ------------------------------------------------------------------------------------------


def test_every_way_to_store_a_value(
    tmp_path: Path, some: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: Iterator[Callable[[Any], Any]] = itertools.cycle(
        [
            str,
            lambda value: value,
            lambda value: str(value).encode(),
            lambda value: [str(float(value))],
            lambda value: np.array([value], ">f8"),
        ]
    )
    layout = sets_2021(tmp_path, some, lambda value: next(ways)(value))
    types = {np.load(path).dtype.kind for path in tmp_path.rglob("*_val.npy")}
    assert types == {"U", "S", "f"}
    assert_read_back(layout, monkeypatch)


def test_a_number_names_two_faces(written: Written) -> None:
    layout = written(sets_2021, 3)
    assert {"train/3", "test/3"} <= set(layout.samples["sample_id"])
    rows = read(layout.dataset["root"]).samples.set_index("sample_id")
    assert rows.loc["train/3", "path"] == "train_set/images/3.jpg"
    assert rows.loc["test/3", "path"] == "val_set/images/3.jpg"


def test_the_fingerprint_needs_no_look_at_the_images(written: Written) -> None:
    manifest = read(written(sets_2021, 3).dataset["root"])
    on_disk = replace(manifest, samples=manifest.samples.drop(columns="bytes"))
    assert manifest.fingerprint == on_disk.fingerprint


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def pickled(path: Path, trace: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array(Trap(trace), dtype=object), allow_pickle=True)


def test_a_pickle_is_not_opened(tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path / "root", some)
    annotations = tmp_path / "root" / "train_set" / "annotations"
    pickled(annotations / "3_exp.npy", tmp_path / "trace")
    (annotations / "6_val.npy").write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    manifest = read(tmp_path / "root")
    assert not (tmp_path / "trace").exists()
    assert manifest.dropped == {"annotation unreadable": 2}
    names = ("train/3", "train/6")
    assert summary(manifest) == {"annotation_unreadable": ("error", 2, names)}
    pickle.loads((annotations / "6_val.npy").read_bytes())
    assert (tmp_path / "trace").exists()  # the trap would have worked


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + (len(text) + 1).to_bytes(2, "little") + f"{text}\n".encode()


NUMBER = "{'descr': '<f8', 'fortran_order': False, 'shape': (), }"


DAMAGED = (
    b"",
    b"0.5",
    b"\x93NUMPY",
    header(NUMBER),
    header(NUMBER) + bytes(7),
    header(NUMBER) + bytes(9),
    header(NUMBER)[:-20],
    header(NUMBER, b"\x09\x00") + bytes(8),
    header(NUMBER.replace("()", "(2,)")) + bytes(16),
    header(NUMBER.replace("()", "(0,)")),
    header(NUMBER.replace("<f8", "<q9")) + bytes(8),
    header(NUMBER.replace("<f8", "<U0")),
    header("__import__('os').abort()") + bytes(8),
    header("{'descr': (((") + bytes(8),
    header("[" * 3000) + bytes(8),
)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_damaged_annotations(tmp_path: Path, few: Sequence[Face]) -> None:
    sets_2021(tmp_path, few)
    annotations = tmp_path / "train_set" / "annotations"
    (annotations / "3_aro.npy").write_bytes(header(NUMBER) + bytes(8))  # as short as a good one
    numbers = [3 * number for number in range(2, 2 + len(DAMAGED))]
    for number, content in zip(numbers, DAMAGED, strict=True):
        (annotations / f"{number}_aro.npy").write_bytes(content)
    manifest = read(tmp_path)
    assert manifest.dropped == {"annotation unreadable": len(DAMAGED)}
    names = tuple(f"train/{number}" for number in sorted(numbers, key=str))
    found = {"annotation_unreadable": ("error", len(DAMAGED), names[:5])}
    assert summary(manifest) == found
    assert manifest.split_sizes() == {"train": 1, "test": 8}
    assert manifest.split("train")["arousal"].tolist() == [0.0]


def test_missing_annotations(tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path, some)
    for name in ("3_exp", "6_val", "9_aro"):
        (tmp_path / "train_set" / "annotations" / f"{name}.npy").unlink()
    manifest = read(tmp_path)
    assert manifest.dropped == {"annotation missing": 3}
    names = ("train/3", "train/6", "train/9")
    assert summary(manifest) == {"annotation_unreadable": ("error", 3, names)}


def test_landmarks_are_not_read(
    tmp_path: Path, some: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = sets_2021(tmp_path, some)
    annotations = tmp_path / "train_set" / "annotations"
    (annotations / "3_lnd.npy").unlink()
    (annotations / "6_lnd.npy").write_bytes(b"nothing")
    assert_read_back(layout, monkeypatch)


def test_values_out_of_range(tmp_path: Path, few: Sequence[Face]) -> None:
    sets_2021(tmp_path, few)
    annotations = tmp_path / "train_set" / "annotations"
    values = {"3_exp": "11", "6_exp": "8", "9_exp": "x", "12_val": "-2", "15_aro": 1.01}
    values |= {"18_val": "nan", "21_val": np.datetime64("2021-03-01")}
    for name, value in values.items():
        np.save(annotations / f"{name}.npy", np.array(value))
    manifest = read(tmp_path)
    assert manifest.dropped == {shared.OUTSIDE: 2, "none": 1}
    assert summary(manifest) == {
        "label_unknown": ("error", 2, ("train/3: 11", "train/9: nan")),
        "valence_arousal_missing": ("info", 1, ("train/12",)),
        "valence_arousal_out_of_range": ("error", 3, ("train/15", "train/18", "train/21")),
    }
    rows = manifest.samples.set_index("sample_id")
    assert rows.loc[["train/12", "train/18", "train/21"], "valence"].isna().all()
    assert rows[["valence", "arousal"]].isna().sum().sum() == 4


def test_images_and_annotations_without_each_other(tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path, some)
    save(some[0].image, tmp_path / "train_set" / "images" / "4.jpg")
    save(some[0].image, tmp_path / "val_set" / "images" / "portrait.jpg")
    write_annotations(tmp_path / "val_set" / "annotations", 4, some[0])
    (tmp_path / "val_set" / "images" / "notes.txt").touch()
    (tmp_path / "val_set" / "images" / ".DS_Store").touch()
    (tmp_path / "val_set" / "annotations" / "3_ldn.npy").touch()
    expected = {
        "not listed": 2,
        "listed without a file": 1,
        "not an image": 1,
        "not an annotation": 1,
        "system file": 1,
    }
    for _ in ("the first time", "from the table"):
        manifest = read(tmp_path)
        assert manifest.dropped == expected
        assert summary(manifest) == {
            "file_not_listed": ("warning", 2, ("train/4", "test/portrait")),
            "listed_without_file": ("error", 1, ("test/4",)),
        }
        assert len(manifest.samples) == 9


@pytest.mark.parametrize("missing", ["train_set", "val_set/annotations", "train_set/images"])
def test_a_missing_folder(missing: str, tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path, some)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"no folder '{missing.split('/')[-1]}' in '\w+'; found "):
        read(tmp_path)


def test_the_second_start_uses_the_table(
    tmp_path: Path, some: Sequence[Face], caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    sets_2021(tmp_path, some)
    with caplog.at_level(logging.INFO, "fer_bench.data.datasets.affectnet"):
        first = read(tmp_path)
    (message,) = caplog.messages
    says(message, tmp_path, "9 images")
    # Written in place, so that the times of the folders stay as they are.
    damaged = list(tmp_path.rglob("*_exp.npy"))
    assert len(damaged) == 9
    for path in damaged:
        path.write_bytes(b"damaged")
    with verifying("none"):  # else some are read again
        second = read(tmp_path)
    assert_frame_equal(second.samples, first.samples)
    assert second.fingerprint == first.fingerprint
    assert (second.dropped, second.problems) == (first.dropped, first.problems)
    assert len(caplog.messages) == 1
    assert len(list((cache / TABLES).iterdir())) == 1


def test_an_annotation_that_changed_in_place_is_noticed(
    tmp_path: Path,
    some: Sequence[Face],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING, logger="fer_bench")
    sets_2021(tmp_path, some)
    first = read(tmp_path).samples
    assert_frame_equal(read(tmp_path).samples, first)
    assert caplog.messages == []
    path = sorted(tmp_path.glob("train_set/annotations/*_val.npy"))[2]
    number = path.name.partition("_")[0]
    np.save(path, np.array(0.125))
    monkeypatch.setattr(contents, "SAMPLE", 1)
    with verifying("all"):
        second = read(tmp_path).samples
    says(caplog.messages[0], "warning", path.with_name(f"{number}_"), "content changed")
    (row,) = np.flatnonzero(first["valence"] != second["valence"])
    assert second["sample_id"].iloc[row] == f"train/{number}"
    assert second["valence"].iloc[row] == 0.125


def test_the_table_is_made_again_after_an_image_is_added(
    tmp_path: Path, some: Sequence[Face]
) -> None:
    sets_2021(tmp_path, some)
    for number, folder in enumerate(("train_set", "val_set")):
        assert len(read(tmp_path).samples) == 9 + number
        save(some[5].image, tmp_path / folder / "images" / "1000.jpg")
        write_annotations(tmp_path / folder / "annotations", 1000, some[5])
    rows = read(tmp_path).samples.set_index("sample_id")
    assert len(rows) == 11
    assert rows.loc[["train/1000", "test/1000"], "label"].tolist() == [some[5].label] * 2


def test_the_table_is_made_again_after_an_annotation_is_removed(
    tmp_path: Path, some: Sequence[Face]
) -> None:
    sets_2021(tmp_path, some)
    assert len(read(tmp_path).samples) == 9
    (tmp_path / "val_set" / "annotations" / "3_val.npy").unlink()
    assert read(tmp_path).dropped == {"annotation missing": 1}


def test_two_roots_have_two_tables(tmp_path: Path, some: Sequence[Face]) -> None:
    sets_2021(tmp_path / "a", some)
    sets_2021(tmp_path / "b", some[1:])
    assert [len(read(tmp_path / name).samples) for name in ("a", "b", "a")] == [9, 8, 9]


def test_an_interrupted_first_pass_leaves_no_table(
    tmp_path: Path, some: Sequence[Face], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    layout = sets_2021(tmp_path, some)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Links, "below", interrupt)  # after the table was written
        with pytest.raises(KeyboardInterrupt):
            read(tmp_path)
    assert list((cache / TABLES).iterdir()) == []
    assert_read_back(layout, monkeypatch)


# Kaggle, noamsegal -----------------------------------------------------------------------------


def set_label(root: Path, number: int, label: str) -> str:
    return change_row(root / "labels.csv", number, label=label)


def test_the_list_decides(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    old, new = few[0].label, "fear" if few[0].label != "fear" else "anger"
    name = set_label(tmp_path, 0, new)
    manifest = read(tmp_path)
    assert summary(manifest) == {"label_disagreement": ("warning", 1, (f"{name}: {new}",))}
    text = problems(manifest)["label_disagreement"].text
    assert "1 of 24 images (4.2%)" in text
    assert text.endswith("dataset.labels: csv decides")
    assert manifest.samples.set_index("sample_id").loc[name, "label"] == new

    by_folder = read(tmp_path, labels="folder")
    assert by_folder.samples.set_index("sample_id").loc[name, "label"] == old
    assert problems(by_folder)["label_disagreement"].text.endswith("labels: folder decides")
    assert len(by_folder.samples) == len(manifest.samples) == 24


@pytest.mark.parametrize(("labels", "kept"), [("csv", 23), ("folder", 24)])
def test_the_release_is_recognised_by_its_folders(
    labels: str, kept: int, tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = noamsegal(tmp_path, few)
    monkeypatch.setitem(affectnet.RELEASES, layout.release, layout.counts())
    set_label(tmp_path, 0, "fear")
    set_label(tmp_path, 1, "bored")
    manifest = read(tmp_path, labels=labels)
    assert (manifest.release, len(manifest.samples)) == ("affectnet-noamsegal", kept)


def test_an_image_that_is_not_listed(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    save(few[0].image, tmp_path / "sad" / "image9.jpg")
    (tmp_path / "sad" / "notes.txt").touch()
    manifest = read(tmp_path)
    assert manifest.dropped == {"not listed": 1, "not an image": 1}
    assert summary(manifest) == {"file_not_listed": ("warning", 1, ("sad/image9.jpg",))}
    assert len(manifest.samples) == 24

    by_folder = read(tmp_path, labels="folder")
    assert by_folder.dropped == {"not an image": 1}
    assert summary(by_folder) == {"file_not_listed": ("info", 1, ("sad/image9.jpg",))}
    assert by_folder.samples.set_index("path").loc["sad/image9.jpg", "label"] == "sadness"


@pytest.mark.parametrize("labels", ["csv", "folder"])
def test_a_row_without_a_file(labels: str, tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    name = set_label(tmp_path, 2, few[2].label)
    (tmp_path / name).unlink()
    manifest = read(tmp_path, labels=labels)
    assert manifest.dropped == {"listed without a file": 1}
    assert summary(manifest) == {"listed_without_file": ("error", 1, (name,))}
    assert name not in set(manifest.samples["sample_id"])


def test_an_unknown_label(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    name = set_label(tmp_path, 0, "bored")
    manifest = read(tmp_path)
    assert manifest.dropped == {shared.OUTSIDE: 1}
    assert summary(manifest) == {"label_unknown": ("error", 1, (f"{name}: 'bored'",))}
    assert read(tmp_path, labels="folder").dropped == {}


def test_other_spellings_of_a_label(
    tmp_path: Path, few: Sequence[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = noamsegal(tmp_path, few)
    for number, face in enumerate(few):
        set_label(tmp_path, number, face.label.capitalize())
    with_bom_and_windows_lines(tmp_path / "labels.csv")
    assert_read_back(layout, monkeypatch)


@pytest.mark.parametrize("spelling", ["Happy", "happiness"])
def test_other_spellings_of_a_folder(spelling: str, tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    (tmp_path / "happy").rename(tmp_path / spelling)
    manifest = read(tmp_path)
    assert (manifest.dropped, problems(manifest)) == ({}, {})
    happy = manifest.samples[manifest.samples["label"] == "happiness"]
    assert len(happy) == 3
    assert happy["path"].str.startswith(f"{spelling}/").all()


@pytest.mark.parametrize(("folder", "hint"), [("hapy", "Did you mean 'happy'"), ("qqq", "Rename")])
def test_an_unknown_class_folder(
    folder: str, hint: str, tmp_path: Path, few: Sequence[Face]
) -> None:
    noamsegal(tmp_path, few)
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=rf"unknown class folder '.*/{folder}'[\s\S]*{hint}"):
        read(tmp_path)


def test_a_part_of_the_copy_has_the_classes_that_it_shows(
    tmp_path: Path, few: Sequence[Face]
) -> None:
    written = noamsegal(tmp_path, [face for face in few if face.label != "contempt"])
    manifest = read_release(Dataset.model_validate(written.dataset))
    assert manifest.classes == EXPRESSIONS[:7]
    kinds = {problem.kind for problem in manifest.problems}
    assert {"release_unrecognised", "class_absent"} <= kinds


def test_class_folders_without_their_list(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"found anger, [\s\S]*noamsegal: labels.csv beside eight"):
        read(tmp_path)


def test_a_list_without_its_columns(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    change(tmp_path / "labels.csv", b"pth,label", b"path,class")
    with pytest.raises(DataError, match=r"'labels.csv' lacks the columns pth, label"):
        read(tmp_path)


@pytest.mark.parametrize("path", ["../secret.jpg", "happy/../../x.jpg", "/etc/x.jpg", "C:\\x.jpg"])
def test_a_listed_path_out_of_the_folder(path: str, tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    change_row(tmp_path / "labels.csv", 3, pth=path)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    says(caught.value, "'labels.csv'", repr(path))


def test_an_image_that_is_listed_twice(tmp_path: Path, few: Sequence[Face]) -> None:
    noamsegal(tmp_path, few)
    first = change_row(tmp_path / "labels.csv", 0)
    change_row(tmp_path / "labels.csv", 1, pth=first, label="contempt")
    manifest = read(tmp_path)
    assert manifest.dropped == {"listed twice": 1, "not listed": 1}
    assert summary(manifest)["listed_twice"] == ("warning", 1, (first,))
    assert manifest.samples.set_index("sample_id").loc[first, "label"] == few[0].label


# From the archive ------------------------------------------------------------------------------
