"""Every image of a split: decoded, cropped, resized, kept, and named where it is broken."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batches import assert_same, batches, decoded, pixels
from PIL import Image

from fer_bench.config.experiment import Experiment
from fer_bench.data import decoding, images
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.storage import cache
from fer_bench.storage.array_cache import Store


def open_both(manifest: Manifest) -> None:
    for split in ("train", "validation"):
        decoding.open_split(manifest, split, 24)


def test_images_are_resized(experiment: Experiment) -> None:
    split = decoding.open_split(load_manifest(experiment.dataset), "validation", 40)
    assert decoded(split).shape[1:] == (40, 40, 3)


@pytest.mark.parametrize("content", [b"", b"this is no image", None])
def test_a_broken_image_is_named(
    experiment: Experiment, copied_root: Path, content: bytes | None
) -> None:
    broken = sorted(copied_root.glob("train/*/*.png"))[40]
    broken.write_bytes(broken.read_bytes()[:900] if content is None else content)
    dataset = experiment.dataset.model_copy(update={"root": copied_root})
    manifest = load_manifest(dataset)
    with pytest.raises(DataError, match=f"(?s){broken}.*cannot be decoded.*bytes"):
        open_both(manifest)


def boxed(manifest: Manifest, *boxes: tuple[int, int, int, int]) -> Manifest:
    names = ("face_x", "face_y", "face_width", "face_height")
    samples = manifest.samples.copy()
    samples[list(names)] = [boxes[row % len(boxes)] for row in range(len(samples))]
    return replace(manifest, samples=samples)


def test_only_the_face_in_its_box_is_used(experiment: Experiment) -> None:
    manifest = load_manifest(experiment.dataset)
    face = decoding.open_split(boxed(manifest, (3, 5, 10, 10)), "train", 10)
    with Image.open(str(face.paths[0])) as image:
        expected = np.asarray(image.convert("RGB"))[5:15, 3:13]
    np.testing.assert_array_equal(decoded(face)[0], expected)


def test_a_face_outside_of_its_image_is_named(experiment: Experiment) -> None:
    manifest = boxed(load_manifest(experiment.dataset), (0, 0, 9, 9), (99, 99, 5, 5))
    second = decoding.split_files(manifest, "train", 10).paths
    with pytest.raises(DataError, match=r"(?s)png.*outside the 24x24 pixels") as found:
        decoding.open_split(manifest, "train", 10)
    assert str(found.value).partition(":")[0] in second


def test_the_first_broken_image_is_named(experiment: Experiment, copied_root: Path) -> None:
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    paths = [Path(path) for path in decoding.split_files(manifest, "train", 24).paths.tolist()]
    for path in paths[40:]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=str(paths[40])):
        decoding.open_split(manifest, "train", 24)


def test_progress_reaches_the_end(experiment: Experiment) -> None:
    calls: list[tuple[int, int]] = []
    remember: Callable[[int, int], None] = lambda done, total: calls.append((done, total))  # noqa: E731
    decoding.open_split(load_manifest(experiment.dataset), "train", 24, remember)
    assert calls[-1] == (72, 72)


# A store of decoded images -----------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone."""
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store(own_cache: Path) -> Store:
    return Store(10**9, print)


class Decoded:
    """Counts the images that are decoded."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, done: int, total: int) -> None:
        self.images += total if done == total else 0


def test_with_a_store_the_second_start_decodes_nothing(
    experiment: Experiment, training: decoding.Split, store: Store
) -> None:
    manifest, count = load_manifest(experiment.dataset), Decoded()
    first = decoding.open_split(manifest, "train", 24, count, store=store)
    second = decoding.open_split(manifest, "train", 24, count, store=store)
    assert count.images == 72
    assert first.digest == second.digest != ""
    for split in (first, second):
        np.testing.assert_array_equal(pixels(split), pixels(training))
        assert_same(batches(split, experiment, 1), batches(training, experiment, 1))


def test_every_size_and_kind_of_pixels_has_its_own_entry(
    experiment: Experiment, store: Store
) -> None:
    manifest, count = load_manifest(experiment.dataset), Decoded()
    boxes = boxed(manifest, (3, 5, 10, 10))
    grey = replace(manifest, channels=1)
    for other, size in ((manifest, 24), (manifest, 20), (grey, 24), (boxes, 24)):
        plain = decoding.open_split(other, "train", size)
        stored = decoding.open_split(other, "train", size, count, store=store)
        assert stored.pixels is not None
        np.testing.assert_array_equal(stored.pixels, plain.pixels)
    assert count.images == 4 * 72


def test_an_image_changed_in_place_is_decoded_again(
    experiment: Experiment, copied_root: Path, store: Store
) -> None:
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    before = decoding.open_split(manifest, "train", 24, store=store)
    old = decoded(before)[0].tobytes()
    path = Path(str(before.paths[0]))
    size, stamp = path.stat().st_size, path.stat().st_mtime_ns
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # what follows the end is not read
    os.utime(path, ns=(stamp + 10**6, stamp + 10**6))
    assert path.stat().st_size == size
    after = decoding.open_split(manifest, "train", 24, store=store)
    assert not decoded(after)[0].any()
    np.testing.assert_array_equal(decoded(after)[1:], decoded(before)[1:])
    assert after.digest != before.digest
    assert decoded(before)[0].tobytes() == old  # what a run has open stays as it was


@pytest.mark.parametrize("limit", [10**9, 1000])  # of which the second keeps a digest only
def test_images_of_an_older_decoder_are_not_used(
    experiment: Experiment, own_cache: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    manifest, count, store = load_manifest(experiment.dataset), Decoded(), Store(limit, print)
    with monkeypatch.context() as older:
        older.setattr(decoding, "VERSION", images.VERSION - 1)
        decoding.open_split(manifest, "train", 24, count, store=store)
    decoding.open_split(manifest, "train", 24, count, store=store)
    assert count.images == 2 * 72


def test_a_copy_of_the_dataset_elsewhere_is_found(
    experiment: Experiment, copied_root: Path, tmp_path: Path, store: Store
) -> None:
    count = Decoded()
    for root in (copied_root, shutil.copytree(copied_root, tmp_path / "elsewhere")):
        manifest = load_manifest(experiment.dataset.model_copy(update={"root": root}))
        decoding.open_split(manifest, "validation", 24, count, store=store)
    assert count.images == 24


def test_too_large_for_the_store_is_checked_once_and_decoded_each_time(
    experiment: Experiment, training: decoding.Split, own_cache: Path
) -> None:
    manifest, count, none = load_manifest(experiment.dataset), Decoded(), Store(1000, print)
    splits = [decoding.open_split(manifest, "train", 24, count, store=none) for _ in range(2)]
    assert count.images == 72
    for split in splits:
        assert split.pixels is None
        assert split.digest == splits[0].digest != ""
        np.testing.assert_array_equal(pixels(split), pixels(training))


def test_a_broken_image_leaves_nothing_in_the_store(
    experiment: Experiment, copied_root: Path, own_cache: Path
) -> None:
    broken = sorted(copied_root.glob("train/*/*.png"))[40]
    broken.write_bytes(b"no image")
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    name = "train" if str(broken) in decoding.split_files(manifest, "train", 24).paths else None
    for store in (Store(10**9, print), Store(0, print)):
        with pytest.raises(DataError, match=f"(?s){broken}.*cannot be decoded"):
            decoding.open_split(manifest, name or "validation", 24, store=store)
    assert cache.entries() == []


def test_a_missing_image_is_named(experiment: Experiment, copied_root: Path, store: Store) -> None:
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    gone = Path(str(decoding.split_files(manifest, "train", 24).paths[5]))
    gone.unlink()
    with pytest.raises(DataError, match=f"(?s){gone}.*cannot be read.*original archive"):
        decoding.open_split(manifest, "train", 24, store=store)


def test_changed_images_are_never_stored(experiment: Experiment, store: Store) -> None:
    manifest = load_manifest(experiment.dataset)
    split = decoding.open_split(
        manifest, "train", 24, store=store, change=lambda image, _: np.zeros_like(image)
    )
    assert not pixels(split).any()
    assert cache.entries() == []
