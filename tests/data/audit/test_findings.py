import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import Face
from PIL import Image, ImageEnhance, ImageOps
from tiers import some_fast

from fer_bench.config.dataset import Dataset
from fer_bench.data.audit.findings import Audit, audit
from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import BOX, Manifest, Problem
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

SIZE = 64
LETTERS = "abcdefgh"
FACES = [Image.fromarray(draw_face(3, index, SIZE).image).convert("L") for index in range(8)]
BLANK = Image.new("L", (SIZE, SIZE), 128)
CLASSES = ("neutral", "anger", "fear")

# Sample id → image and label; the split is the first part of the id.
Pictures = dict[str, tuple[Image.Image, str]]
CLEAN: Pictures = {
    f"{split}/{letter}": (FACES[2 * index], CLASSES[index % 3])
    for index, (split, letter) in enumerate(
        [("train", "a"), ("train", "b"), ("validation", "c"), ("test", "d")]
    )
}


def write(root: Path, pictures: Pictures, suffix: str = ".png") -> Manifest:
    rows = []
    for name, (image, label) in pictures.items():
        path = f"images/{name}{suffix}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / path)
        rows.append((name, path, name.partition("/")[0], label))
    samples = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
    return Manifest("mine", "mine-1", root, CLASSES, 1, samples, image_size=(SIZE, SIZE))


def audited(root: Path, pictures: Pictures) -> Audit:
    return audit(write(root, pictures), {}, None)


def labelled(**images: Image.Image) -> Pictures:
    """`train_a=face` → `train/a`, all with one label."""
    return {name.replace("_", "/"): (image, "fear") for name, image in images.items()}


def kinds(found: Audit) -> dict[str, int]:
    return {problem.kind: problem.count for problem in found.problems}


def problem(found: Audit, kind: str) -> Problem:
    (match,) = [problem for problem in found.problems if problem.kind == kind]
    return match


def leaving(found: Audit) -> dict[str, tuple[str, str]]:
    table = found.quarantine
    assert list(table.columns) == ["sample_id", "path", "reason", "twin"]
    return {
        name: (reason, twin)
        for name, reason, twin in zip(
            table["sample_id"], table["reason"], table["twin"], strict=True
        )
    }


def groups(found: Audit) -> list[set[str]]:
    assert list(found.groups.columns) == ["sample_id", "group"]
    return [set(rows["sample_id"]) for _, rows in found.groups.groupby("group")]


def compressed(image: Image.Image) -> Image.Image:
    """A near copy: as after a JPEG, a little noise everywhere."""
    noise = np.random.default_rng(0).integers(-3, 4, (SIZE, SIZE))
    return Image.fromarray((np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8))


def in_pose(
    image: Image.Image, rows: tuple[float, float, float], columns: tuple[float, float, float]
) -> Image.Image:
    """The place (x, y) of the answer shows the place of the image that is linear in (x, y, 1)."""
    centre = (SIZE - 1) / 2
    matrix = np.array([columns, rows])
    offset = matrix[:, 2] + centre - matrix[:, :2] @ [centre, centre]
    values = np.column_stack([matrix[:, :2], offset]).ravel().tolist()
    return image.transform(image.size, Image.Transform.AFFINE, values, Image.Resampling.BILINEAR)


NEAR: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": compressed,
    "mirrored": ImageOps.mirror,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "cropped": lambda image: image.crop((1, 1, SIZE, SIZE)).resize((SIZE, SIZE)),
    "cropped by a tenth": lambda image: image.crop((6, 6, 58, 58)).resize((SIZE, SIZE)),
    "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
    "turned by 20 degrees": lambda image: image.rotate(-20, Image.Resampling.BICUBIC),
    "enlarged": lambda image: in_pose(image, (0, 1 / 1.15, 0), (1 / 1.15, 0, 0)),
    "shifted": lambda image: in_pose(image, (0, 1, 4), (1, 0, -5)),
    "sheared": lambda image: in_pose(image, (0, 1, 0), (1, 0.2, 0)),
    "mirrored and turned": lambda image: ImageOps.mirror(image).rotate(10),
}


def test_clean_data_has_no_problem(tmp_path: Path) -> None:
    found = audited(tmp_path, CLEAN)
    assert found.problems == ()
    assert not found.failed
    assert found.image_sizes == {"64x64": 4}
    assert leaving(found) == {}
    assert groups(found) == []


# Files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", some_fast(["train", "test"], "train"))
@pytest.mark.parametrize(
    ("damage", "kind", "severity"),
    [
        (lambda path: path.write_bytes(b""), "undecodable", "error"),
        (lambda path: path.write_text("no image"), "undecodable", "error"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "truncated", "error"),
        (lambda path: path.unlink(), "missing", "error"),
        (lambda path: BLANK.save(path), "blank", "warning"),
    ],
)
def test_a_useless_file_is_named_and_quarantined(
    tmp_path: Path, split: str, damage: Callable[[Path], object], kind: str, severity: str
) -> None:
    manifest = write(tmp_path, CLEAN | {f"{split}/x": (FACES[7], "fear")})
    damage(tmp_path / "images" / f"{split}/x.png")
    found = audit(manifest, {}, None)
    assert kinds(found) == {kind: 1}
    only = problem(found, kind)
    assert only.severity == severity
    assert only.examples[0].startswith(f"{split}/x (")
    assert found.failed == (severity == "error")
    assert leaving(found) == {f"{split}/x": (kind, "")}
    assert found.quarantine["path"].tolist() == [f"images/{split}/x.png"]


def test_a_bomb_is_named(tmp_path: Path) -> None:
    manifest = write(tmp_path, CLEAN)
    path = tmp_path / "images" / "test" / "d.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    found = audit(manifest, {}, None)
    assert kinds(found) == {"too_large": 1}
    assert problem(found, "too_large").severity == "error"
    assert leaving(found) == {"test/d": ("too_large", "")}


def test_a_wrong_size_is_a_warning(tmp_path: Path) -> None:
    found = audited(tmp_path, CLEAN | {"train/x": (FACES[7].resize((50, 40)), "fear")})
    assert kinds(found) == {"wrong_size": 1}
    only = problem(found, "wrong_size")
    assert (only.severity, only.examples) == ("warning", ("train/x (50x40)",))
    assert "not 64x64 as in mine-1" in only.text
    assert found.image_sizes == {"64x64": 4, "50x40": 1}
    assert leaving(found) == {}
    anything = replace(found.manifest, image_size=None)
    assert audit(anything, {}, None).problems == ()


def test_a_file_that_vanished_leaves_no_fingerprint(tmp_path: Path) -> None:
    manifest = write(tmp_path, CLEAN)
    (tmp_path / "images" / "test" / "d.png").unlink()
    assert audit(manifest, {}, None).to_json()["fingerprint"] is None


def test_blank_images_are_no_duplicates(tmp_path: Path) -> None:
    found = audited(tmp_path, labelled(train_a=BLANK, train_b=BLANK, test_c=BLANK))
    assert kinds(found) == {"blank": 3}
    assert groups(found) == []


def test_examples_are_five_at_most(tmp_path: Path) -> None:
    found = audited(tmp_path, {f"train/{letter}": (BLANK, "fear") for letter in LETTERS})
    assert problem(found, "blank").count == 8
    assert len(problem(found, "blank").examples) == 5


# Duplicates ------------------------------------------------------------------------------------


def test_an_exact_copy_in_another_split(tmp_path: Path) -> None:
    found = audited(tmp_path, CLEAN | labelled(train_x=FACES[7], test_y=FACES[7]))
    assert kinds(found) == {"exact_duplicate_across_splits": 2}
    only = problem(found, "exact_duplicate_across_splits")
    assert (only.severity, only.examples) == ("error", ("train/x = test/y",))
    assert only.text.endswith("set dataset.exclude to the quarantine file (train/test 2 = 1 + 1)")
    assert found.failed
    assert leaving(found) == {"train/x": ("exact duplicate in test", "test/y")}
    assert groups(found) == [{"train/x", "test/y"}]


@pytest.mark.parametrize("change", some_fast(NEAR, "compressed", "mirrored and turned"))
def test_a_near_copy_in_another_split(tmp_path: Path, change: str) -> None:
    copy = NEAR[change](FACES[7])
    found = audited(tmp_path, CLEAN | labelled(validation_x=FACES[7], test_y=copy))
    assert kinds(found) == {"near_duplicate_across_splits": 2}
    only = problem(found, "near_duplicate_across_splits")
    assert (only.severity, only.examples) == ("error", ("validation/x = test/y",))
    assert "(validation/test 2 = 1 + 1)" in only.text
    assert leaving(found) == {"validation/x": ("near duplicate in test", "test/y")}
    assert groups(found) == [{"validation/x", "test/y"}]


@pytest.mark.slow
def test_rotated_copies_of_test_images_in_train_are_all_named(tmp_path: Path) -> None:
    """Augmented before the split: three test images, and of each four or five copies in train."""
    made: dict[str, Callable[[Image.Image], Image.Image]] = {
        "mirror": ImageOps.mirror,
        "turned5": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
        "turned15": lambda image: image.rotate(15, Image.Resampling.BILINEAR),
        "zoomed": lambda image: in_pose(image, (0, 1 / 1.15, 0), (1 / 1.15, 0, 0)),
        "shifted": lambda image: in_pose(image, (0, 1, 4), (1, 0, 4)),
    }
    images = {f"test/{number}": (FACES[number], "fear") for number in range(3)}
    copies = {
        f"train/{number}_{name}": (change(FACES[number]), "fear")
        for number in range(3)
        for name, change in made.items()
        if (number, name) != (2, "shifted")
    }
    found = audited(tmp_path, images | copies)
    assert len(copies) == 14
    assert leaving(found) == {
        name: ("near duplicate in test", f"test/{name[len('train/')]}") for name in copies
    }
    assert "turned" in problem(found, "near_duplicate_across_splits").text


def test_what_was_looked_for_is_reported_even_if_nothing_is_found(tmp_path: Path) -> None:
    said = audited(tmp_path, CLEAN).to_json()["copies"]
    assert "turned by up to 20 degrees" in " ".join(said["looked_for"])
    assert "turned or zoomed much farther" in " ".join(said["not_looked_for"])


@pytest.mark.parametrize("split", some_fast(["train", "validation", "test"], "train"))
def test_an_exact_copy_in_the_same_split(tmp_path: Path, split: str) -> None:
    copies = {f"{split}/{letter}": (FACES[7], "fear") for letter in "zyx"}
    found = audited(tmp_path, CLEAN | copies)
    assert kinds(found) == {"exact_duplicate": 3}
    only = problem(found, "exact_duplicate")
    assert only.severity == "warning"
    assert only.examples == (f"{split}/x = {split}/y", f"{split}/x = {split}/z")
    assert only.text.endswith(f"({split} 3)")
    kept = ("exact duplicate in train", "train/x")
    gone = {"train/y": kept, "train/z": kept} if split == "train" else {}
    assert leaving(found) == gone
    assert groups(found) == [set(copies)]


@pytest.mark.parametrize("change", some_fast(NEAR, "cropped", "shifted"))
def test_a_near_copy_in_the_same_split(tmp_path: Path, change: str) -> None:
    found = audited(tmp_path, CLEAN | labelled(train_x=FACES[7], train_y=NEAR[change](FACES[7])))
    assert kinds(found) == {"near_duplicate": 2}
    only = problem(found, "near_duplicate")
    assert (only.severity, only.examples) == ("info", ("train/x = train/y",))
    assert leaving(found) == {}
    assert groups(found) == [{"train/x", "train/y"}]


def test_exact_copies_with_different_labels(tmp_path: Path) -> None:
    copies: Pictures = {
        "train/x": (FACES[7], "fear"),
        "train/y": (FACES[7], "fear"),
        "train/z": (FACES[7], "anger"),
    }
    found = audited(tmp_path, CLEAN | copies)
    assert kinds(found) == {"exact_duplicate": 3, "exact_duplicate_labels_differ": 3}
    only = problem(found, "exact_duplicate_labels_differ")
    assert only.severity == "error"
    assert only.examples == (
        "train/x (fear) = train/z (anger)",
        "train/y (fear) = train/z (anger)",
    )
    reason = "duplicate with another label"
    assert leaving(found) == {
        "train/x": (reason, "train/z"),
        "train/y": (reason, "train/z"),
        "train/z": (reason, "train/x"),
    }


def test_a_contradiction_inside_the_test_split_cannot_be_mended(tmp_path: Path) -> None:
    copies: Pictures = {"test/x": (FACES[7], "fear"), "test/y": (FACES[7], "anger")}
    found = audited(tmp_path, CLEAN | copies)
    assert kinds(found) == {"exact_duplicate": 2, "exact_duplicate_labels_differ": 2}
    assert problem(found, "exact_duplicate_labels_differ").severity == "warning"
    assert leaving(found) == {}
    assert not found.failed


def test_near_copies_with_different_labels(tmp_path: Path) -> None:
    copies: Pictures = {
        "train/x": (FACES[7], "fear"),
        "train/y": (compressed(FACES[7]), "anger"),
    }
    found = audited(tmp_path, CLEAN | copies)
    assert kinds(found) == {"near_duplicate": 2, "near_duplicate_labels_differ": 2}
    only = problem(found, "near_duplicate_labels_differ")
    assert (only.severity, only.examples) == ("warning", ("train/x (fear) = train/y (anger)",))
    assert leaving(found) == {}


def test_one_copy_in_each_split(tmp_path: Path) -> None:
    found = audited(
        tmp_path,
        labelled(train_x=FACES[7], validation_y=FACES[7], test_z=FACES[7], test_a=FACES[0]),
    )
    text = problem(found, "exact_duplicate_across_splits").text
    assert "(train/validation 2 = 1 + 1, train/test 2 = 1 + 1, validation/test 2 = 1 + 1)" in text
    assert leaving(found) == {
        "train/x": ("exact duplicate in test", "test/z"),
        "validation/y": ("exact duplicate in test", "test/z"),
    }


def test_all_copies_in_train_leave_for_the_one_in_test(tmp_path: Path) -> None:
    images = labelled(train_x=FACES[7], train_y=FACES[7], test_z=FACES[7], test_w=FACES[7])
    images["train/y"] = (FACES[7], "anger")
    found = audited(tmp_path, images)
    reason = ("exact duplicate in test", "test/w")
    assert leaving(found) == {"train/x": reason, "train/y": reason}


def test_a_copy_stays_where_its_twin_leaves(tmp_path: Path) -> None:
    # Turned by 40 degrees each: x and y are near, y and z are, x and z are too far apart.
    cuts = [FACES[7].rotate(turn, Image.Resampling.BILINEAR) for turn in (0, 40, 80)]
    found = audited(tmp_path, labelled(train_x=cuts[0], validation_y=cuts[1], test_z=cuts[2]))
    assert problem(found, "near_duplicate_across_splits").examples == (
        "validation/y = test/z",
        "train/x = validation/y",
    )
    assert leaving(found) == {"validation/y": ("near duplicate in test", "test/z")}
    assert groups(found) == [{"train/x", "validation/y", "test/z"}]


def test_an_exact_twin_is_named_before_a_near_one(tmp_path: Path) -> None:
    near = compressed(FACES[7])
    found = audited(tmp_path, labelled(train_x=FACES[7], validation_y=FACES[7], test_z=near))
    assert leaving(found)["train/x"] == ("near duplicate in test", "test/z")
    found = audited(tmp_path, labelled(train_x=FACES[7], test_b=FACES[7], test_a=near))
    assert leaving(found)["train/x"] == ("exact duplicate in test", "test/b")


def test_exact_and_near_copies_form_one_group(tmp_path: Path) -> None:
    images = labelled(
        train_a=FACES[7],
        train_b=compressed(FACES[7]),
        test_c=ImageOps.mirror(FACES[7]),
        test_d=FACES[7],
        train_e=FACES[0],
        train_f=FACES[0],
        train_g=FACES[1],
    )
    found = audited(tmp_path, images)
    assert groups(found) == [{"train/a", "train/b", "test/c", "test/d"}, {"train/e", "train/f"}]
    # A group is named by the first of its samples.
    assert set(found.groups["group"]) == {"test/c", "train/e"}


def test_one_split_only(tmp_path: Path) -> None:
    found = audited(tmp_path, labelled(train_a=FACES[0], train_b=FACES[0], train_c=FACES[1]))
    assert kinds(found) == {"exact_duplicate": 2}


def test_nothing_but_useless_files(tmp_path: Path) -> None:
    found = audited(tmp_path, labelled(train_a=BLANK))
    assert kinds(found) == {"blank": 1}


def test_two_faces_of_one_photograph_are_two_images(tmp_path: Path) -> None:
    photograph = Image.new("L", (2 * SIZE, SIZE))
    photograph.paste(FACES[0], (0, 0))
    photograph.paste(FACES[1], (SIZE, 0))
    manifest = write(tmp_path, labelled(train_a=photograph, test_b=photograph))
    manifest = replace(manifest, image_size=None)
    assert kinds(audit(manifest, {}, None)) == {"exact_duplicate_across_splits": 2}
    boxes = pd.DataFrame([(0, 0, SIZE, SIZE), (SIZE, 0, SIZE, SIZE)], columns=list(BOX))
    boxed = replace(manifest, samples=pd.concat([manifest.samples, boxes], axis=1))
    assert audit(boxed, {}, None).problems == ()


def test_an_unknown_box_means_the_whole_image(tmp_path: Path) -> None:
    manifest = write(tmp_path, labelled(train_a=FACES[0], test_b=FACES[0]))
    boxes = pd.DataFrame([(0, 0, SIZE, SIZE), [np.nan] * 4], columns=list(BOX))
    boxed = replace(manifest, samples=pd.concat([manifest.samples, boxes], axis=1))
    assert kinds(audit(boxed, {}, None)) == {"exact_duplicate_across_splits": 2}


# The whole -------------------------------------------------------------------------------------

MIXED: Pictures = CLEAN | {
    "train/m": (FACES[7], "fear"),
    "test/n": (FACES[7], "anger"),
    "train/o": (FACES[5], "fear"),
    "train/p": (FACES[5], "anger"),
    "train/q": (compressed(FACES[3]), "fear"),
    "validation/r": (ImageOps.mirror(FACES[3]), "fear"),
    "train/s": (FACES[1], "fear"),
    "train/t": (FACES[1], "fear"),
    "train/u": (BLANK, "fear"),
}


def test_what_the_manifest_says_comes_first(tmp_path: Path) -> None:
    known = Problem("label_disagreement", "info", 3, ("x",), "what")
    manifest = replace(write(tmp_path, CLEAN | {"train/u": (BLANK, "fear")}), problems=(known,))
    found = audit(manifest, {"other": "half of it"}, None)
    assert [problem.kind for problem in found.problems] == [
        "label_disagreement",
        "blank",
        "known_contamination",
    ]
    last = found.problems[-1]
    assert (last.severity, last.count, last.examples) == ("warning", 1, ("other",))
    assert "shares images with dataset other: half of it" in last.text


def test_an_error_of_the_manifest_fails_the_audit(tmp_path: Path) -> None:
    known = Problem("bad_list", "error", 3, (), "what")
    assert audit(replace(write(tmp_path, CLEAN), problems=(known,)), {}, None).failed


def test_json(tmp_path: Path) -> None:
    manifest = replace(write(tmp_path, MIXED), dropped={"hidden": 2})
    found = audit(manifest, {"other": "half of it"}, None)
    document = json.loads(json.dumps(found.to_json()))
    assert list(document) == [
        *("dataset", "release", "fingerprint", "classes", "counts", "dropped", "problems"),
        *("soft_labels", "copies", "image_sizes", "quarantined"),
    ]
    assert (document["dataset"], document["release"]) == ("mine", "mine-1")
    assert document["fingerprint"] == manifest.fingerprint
    assert document["classes"] == list(CLASSES)
    assert document["counts"] == manifest.counts()
    assert document["dropped"] == {"hidden": 2}
    assert document["image_sizes"] == {"64x64": len(MIXED)}
    assert document["quarantined"] == len(found.quarantine) == 6
    assert {problem["kind"] for problem in document["problems"]} == set(kinds(found))
    for shown in document["problems"]:
        assert list(shown) == ["kind", "severity", "count", "examples", "text"]


def same(one: Audit, other: Audit) -> bool:
    pd.testing.assert_frame_equal(one.quarantine, other.quarantine)
    pd.testing.assert_frame_equal(one.groups, other.groups)
    return (one.problems, one.image_sizes) == (other.problems, other.image_sizes)


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    manifest = write(tmp_path, MIXED)
    calls: list[tuple[int, int]] = []
    together = audit(manifest, {}, 2, lambda done, total: calls.append((done, total)))
    assert same(audit(manifest, {}, 1), together)
    assert calls == [(len(MIXED), len(MIXED))]


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    manifest = write(tmp_path, MIXED)
    order = list(range(len(MIXED)))
    random.Random(1).shuffle(order)
    shuffled = replace(manifest, samples=manifest.samples.iloc[order].reset_index(drop=True))
    assert same(audit(manifest, {}, 1), audit(shuffled, {}, 1))


def write_release(root: Path, pictures: Sequence[tuple[str, str, Image.Image]]) -> Dataset:
    """The layout of OpenCV Emotion, from (split folder, class, image)."""
    for number, (split, label, image) in enumerate(pictures):
        path = root / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert("L").resize((48, 48)).save(path)
    return Dataset(name="opencv_emotion", root=root, validation=0.5)


@pytest.mark.slow
def test_without_the_quarantine_no_error_is_left(tmp_path: Path) -> None:
    labels = EXPRESSIONS[:7]
    faces = [Image.fromarray(draw_face(9, index, 48).image) for index in range(35)]
    pictures = [
        ("training" if index < 28 else "validation", labels[index % 7], face)
        for index, face in enumerate(faces)
    ]
    pictures += [
        ("training", "anger", faces[28]),  # exact, in test
        ("training", "fear", ImageOps.mirror(faces[30])),  # near, in test
        ("training", "fear", faces[0]),  # exact, with another label
        ("training", labels[1], faces[1]),  # exact
        ("training", labels[2], ImageOps.mirror(faces[2])),  # near
        ("training", "sadness", BLANK),
        ("validation", "sadness", faces[33]),  # exact, inside the test split
    ]
    dataset = write_release(tmp_path / "data", pictures)
    broken = tmp_path / "data" / "training" / "neutral" / "broken.png"
    broken.write_bytes(b"no image")

    first = audit(read_release(dataset), DATASETS["opencv_emotion"].overlaps, None)
    assert first.failed
    assert len(first.quarantine) == 7
    first.quarantine.to_csv(tmp_path / "quarantine.csv", index=False)
    first.groups.to_csv(tmp_path / "groups.csv", index=False)

    files = {"exclude": tmp_path / "quarantine.csv", "groups": tmp_path / "groups.csv"}
    clean = dataset.model_copy(update=files)
    second = audit(read_release(clean), {}, None)
    assert not second.failed
    assert {"exact_duplicate", "near_duplicate"} <= set(kinds(second))
    assert leaving(second) == {}

    split = load_manifest(clean).samples.set_index("sample_id")["split"]
    assert set(split) == {"train", "validation", "test"}
    assert len(groups(second)) == 2
    for group in groups(second):
        assert len({split[name] for name in group}) == 1


@pytest.mark.slow
@pytest.mark.real_data
def test_real_faces(tmp_path: Path, real_faces: Sequence[Face]) -> None:
    faces = [face.image.convert("L").resize((SIZE, SIZE)) for face in real_faces]
    pictures: Pictures = {
        f"{'test' if number % 4 == 0 else 'train'}/{number}": (face, "fear")
        for number, face in enumerate(faces)
    }
    before = audited(tmp_path / "before", pictures)
    assert not set(kinds(before)) & {"undecodable", "truncated", "blank", "wrong_size"}
    assert "near_duplicate_across_splits" not in kinds(before)

    pictures |= {f"train/copy{number}": (faces[number], "fear") for number in range(0, 40, 4)}
    mirrored = range(40, 80, 4)
    pictures |= {f"train/m{n}": (ImageOps.mirror(faces[n]), "fear") for n in mirrored}
    found = audited(tmp_path / "after", pictures)
    assert kinds(found)["exact_duplicate_across_splits"] == 20
    assert kinds(found)["near_duplicate_across_splits"] == 20
    expected = {f"train/copy{n}": ("exact duplicate in test", f"test/{n}") for n in range(0, 40, 4)}
    expected |= {f"train/m{n}": ("near duplicate in test", f"test/{n}") for n in mirrored}
    assert expected.items() <= leaving(found).items()
