import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import says
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import drawn
from fer_bench.data.datasets.drawn import face as face_module
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

TRAIN, TEST, SIZE = 32, 16, 24


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "faces"
    drawn.draw(root, seed=5, train=TRAIN, test=TEST, size=SIZE)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "faces"))


def change_labels(root: Path, **columns: Any) -> None:
    labels = pd.read_csv(root / drawn.LABELS_FILE)
    labels.assign(**columns).to_csv(root / drawn.LABELS_FILE, index=False)


def test_a_prototype_for_every_expression() -> None:
    assert tuple(face_module.PROTOTYPES) == EXPRESSIONS
    for prototype in face_module.PROTOTYPES.values():
        assert set(prototype.units) <= set(face_module.ACTION_UNITS)


def test_a_face_does_not_depend_on_those_drawn_before() -> None:
    forwards = [face_module.draw_face(1, index, SIZE).image for index in range(9)]
    backwards = [face_module.draw_face(1, index, SIZE).image for index in reversed(range(9))]
    np.testing.assert_array_equal(forwards, backwards[::-1])


def test_seed_and_index_change_the_face() -> None:
    faces = [
        face_module.draw_face(*which, SIZE).image.tobytes() for which in ((0, 0), (0, 8), (1, 0))
    ]
    assert len(set(faces)) == 3


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), index=st.integers(0, 10**6), size=st.sampled_from((16, 33, 64)))
def test_properties_of_any_face(seed: int, index: int, size: int) -> None:
    face = face_module.draw_face(seed, index, size)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    assert face.image.std() > 5
    assert face.label == EXPRESSIONS[index % len(EXPRESSIONS)]
    assert -1 <= face.valence <= 1
    assert -1 <= face.arousal <= 1
    assert set(face.units) == set(face_module.ACTION_UNITS)
    assert all(0 <= activation <= 1 for activation in face.units.values())


@given(index=st.integers(0, 400))
@settings(max_examples=20)
def test_valence_and_arousal_grow_with_intensity(index: int) -> None:
    face = face_module.draw_face(0, index, 16)
    prototype = face_module.PROTOTYPES[face.label]
    low, high = face_module.INTENSITY
    assert low <= face.intensity <= high or face.label == "neutral"
    assert face.valence == prototype.valence * face.intensity
    assert face.arousal == prototype.arousal * face.intensity


def test_a_neutral_face_has_no_valence_and_no_arousal() -> None:
    face = face_module.draw_face(0, EXPRESSIONS.index("neutral"), 16)
    assert (face.intensity, face.valence, face.arousal) == (0, 0, 0)


@pytest.mark.parametrize("expression", EXPRESSIONS[1:])
def test_the_units_of_an_expression_are_its_prototype(expression: str) -> None:
    prototype = face_module.PROTOTYPES[expression].units
    index = EXPRESSIONS.index(expression)
    faces = [face_module.draw_face(2, index + 8 * turn, 16) for turn in range(10)]
    mean = {
        name: np.mean([face.units[name] for face in faces]) for name in face_module.ACTION_UNITS
    }
    assert min(mean[name] for name in prototype) > max(
        mean[name] for name in face_module.ACTION_UNITS if name not in prototype
    )


def test_read_returns_what_was_drawn(original: Path) -> None:
    manifest = drawn.read(original)
    assert (manifest.name, manifest.release, manifest.channels) == ("drawn", "drawn-v1", 3)
    assert manifest.classes == EXPRESSIONS
    assert manifest.split_sizes() == {"train": TRAIN, "test": TEST}
    assert list(manifest.samples) == list(drawn.COLUMNS)
    for index, sample in enumerate(manifest.samples.itertuples()):
        face = face_module.draw_face(5, index, SIZE)
        with Image.open(original / str(sample.path)) as image:
            np.testing.assert_array_equal(np.asarray(image), face.image)
        assert sample.label == face.label
        assert sample.valence == pytest.approx(face.valence)
        assert sample.arousal == pytest.approx(face.arousal)


def test_labels_are_balanced(original: Path) -> None:
    counts = drawn.read(original).counts()
    assert counts["train"] == dict.fromkeys(EXPRESSIONS, TRAIN // 8)
    assert counts["test"] == dict.fromkeys(EXPRESSIONS, TEST // 8)


def test_folders_are_named_after_split_and_class(original: Path) -> None:
    found = Counter(path.parent.relative_to(original) for path in original.rglob("*.png"))
    assert set(found) == {Path(s, label) for s in ("train", "test") for label in EXPRESSIONS}


def test_two_drawings_have_one_fingerprint(original: Path, tmp_path: Path) -> None:
    drawn.draw(tmp_path / "again", seed=5, train=TRAIN, test=TEST, size=SIZE)
    drawn.draw(tmp_path / "other", seed=6, train=TRAIN, test=TEST, size=SIZE)
    fingerprint = drawn.read(original).fingerprint
    assert drawn.read(tmp_path / "again").fingerprint == fingerprint
    assert drawn.read(tmp_path / "other").fingerprint != fingerprint


def test_more_training_faces_leave_the_test_faces(original: Path, tmp_path: Path) -> None:
    drawn.draw(tmp_path / "more", seed=5, train=TRAIN + 8, test=TEST, size=SIZE)
    expected, found = (drawn.read(folder).split("test") for folder in (original, tmp_path / "more"))
    pd.testing.assert_frame_equal(found, expected)


def test_interrupted_drawing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = face_module.draw_face

    def interrupted(seed: int, index: int, size: int) -> face_module.DrawnFace:
        if index == 10:
            raise KeyboardInterrupt
        return whole(seed, index, size)

    monkeypatch.setattr(drawn, "draw_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn.draw(tmp_path / "faces", train=TRAIN, test=TEST, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_redrawing_keeps_the_old_faces(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn.read(root).fingerprint
    monkeypatch.setattr(drawn, "draw_face", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn.draw(root, train=TRAIN, test=TEST, size=SIZE, force=True)
    assert drawn.read(root).fingerprint == before
    assert list(root.parent.iterdir()) == [root]


KILLED = """
import os, signal, sys
from pathlib import Path
from fer_bench.data.datasets import drawn
whole = drawn.draw_face
def killing(seed, index, size):
    if index == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(seed, index, size)
drawn.draw_face = killing
drawn.prepare(Path(sys.argv[1]), None, True)
"""


@pytest.mark.slow
def test_a_kill_while_redrawing_keeps_the_old_faces(root: Path) -> None:
    before = drawn.read(root).fingerprint
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(root)]
    killed = subprocess.run(command, check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert drawn.read(root).fingerprint == before
    drawn.draw(root, train=8, test=8, size=SIZE, force=True)
    assert list(root.parent.iterdir()) == [root]  # what was left behind is gone


def test_an_existing_folder_is_replaced_only_by_force(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        drawn.draw(root, train=8, test=8, size=SIZE)
    says(caught.value, root, "already exists", "--force")
    drawn.draw(root, train=8, test=8, size=SIZE, force=True)
    assert drawn.read(root).split_sizes() == {"train": 8, "test": 8}
    assert list(root.parent.iterdir()) == [root]


def test_force_spares_a_folder_that_was_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError) as caught:
        drawn.draw(tmp_path, train=8, test=8, size=SIZE, force=True)
    says(caught.value, tmp_path, "labels.csv", "is not replaced")
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be drawn there"):
        drawn.draw(tmp_path / "file" / "faces", train=8, test=8, size=SIZE)


def test_too_few_faces_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 8 expressions"):
        drawn.draw(tmp_path / "faces", train=7, test=8)


@pytest.fixture
def few_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"train": TRAIN, "test": TEST, "size": SIZE}
    assert drawn.draw.__kwdefaults__ is not None
    for name, value in few.items():
        monkeypatch.setitem(drawn.draw.__kwdefaults__, name, value)


@pytest.mark.usefixtures("few_defaults")
def test_a_missing_folder_is_drawn_at_the_first_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data" / "faces"
    with caplog.at_level(logging.INFO):
        manifest = drawn.read(root)
    assert manifest.split_sizes() == {"train": TRAIN, "test": TEST}
    assert str(root) in caplog.text


@pytest.mark.usefixtures("few_defaults")
def test_two_first_readings_at_once(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "faces"
    whole = face_module.draw_face

    def overtaken(seed: int, index: int, size: int) -> face_module.DrawnFace:
        if index == 10:
            shutil.copytree(original, root)
        return whole(seed, index, size)

    monkeypatch.setattr(drawn, "draw_face", overtaken)
    assert drawn.read(root).fingerprint == drawn.read(original).fingerprint
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.usefixtures("few_defaults")
def test_registered_under_its_name(tmp_path: Path) -> None:
    spec = DATASETS["drawn"]
    spec.prepare(tmp_path / "faces", None, False)
    spec.prepare(tmp_path / "faces", None, True)
    config = Dataset(name="drawn", root=tmp_path / "faces")
    assert spec.read(config).name == "drawn"
    assert spec.source


def test_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        drawn.prepare(tmp_path / "faces", tmp_path / "faces.zip", False)
    says(caught.value, "faces.zip", "'drawn'")


@pytest.mark.parametrize("column", drawn.COLUMNS)
def test_a_missing_column_is_named(root: Path, column: str) -> None:
    labels = pd.read_csv(root / drawn.LABELS_FILE).drop(columns=column)
    labels.to_csv(root / drawn.LABELS_FILE, index=False)
    with pytest.raises(DataError, match=column) as caught:
        drawn.read(root)
    assert str(root / drawn.LABELS_FILE) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1'])
def test_unreadable_labels(root: Path, content: bytes) -> None:
    (root / drawn.LABELS_FILE).write_bytes(content)
    with pytest.raises(DataError, match=drawn.LABELS_FILE):
        drawn.read(root)


def test_a_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path / drawn.LABELS_FILE)):
        drawn.read(tmp_path)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"valence": 1.5}, "valence must lie in .* found 1.5"),
        ({"arousal": "high"}, "arousal must lie in .* found high"),
        ({"valence": None}, "blank cells in the columns valence"),
        ({"label": "boredom"}, "label 'boredom'"),
        ({"label": "anger"}, "train split shows no neutral"),
        ({"split": "train"}, "test split shows no neutral"),
        ({"split": "exam"}, "split 'exam'"),
        ({"sample_id": "one"}, "sample ids occur twice"),
        ({"path": None, "split": None}, "blank cells in the columns path, split"),
    ],
)
def test_wrong_labels(root: Path, columns: dict[str, Any], complaint: str) -> None:
    change_labels(root, **columns)
    with pytest.raises(DataError, match=complaint) as caught:
        drawn.read(root)
    assert str(root) in str(caught.value)


def test_missing_images_are_counted(root: Path) -> None:
    shutil.rmtree(root / "train" / "anger")
    with pytest.raises(DataError, match=f"{root}: 4 of 48 images are missing, first train/anger/"):
        drawn.read(root)


@pytest.mark.slow
def test_pixels_alone_do_not_give_the_expression_away() -> None:
    faces = [face_module.draw_face(0, index, 32) for index in range(1100)]
    pixels = np.stack([face.image.reshape(-1) for face in faces]).astype(np.float32)
    labels = [face.label for face in faces]
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1000))
    model.fit(pixels[300:], labels[300:])
    assert 0.25 < model.score(pixels[:300], labels[:300]) < 0.8
