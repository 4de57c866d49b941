"""From a manifest to batches: every image decoded, order and augmentation pure functions."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fer_bench import cachedir, pipeline
from fer_bench.cache import Store
from fer_bench.config import Augment, Experiment
from fer_bench.datasets import load_manifest
from fer_bench.errors import DataError
from fer_bench.manifest import Manifest

EVERYTHING = Augment(
    flip=True, rotation=0.1, zoom=0.2, shear=0.1, shift=0.1, brightness=0.2, contrast=0.2
)


@pytest.fixture
def experiment(tiny: dict[str, Any]) -> Experiment:
    return Experiment.model_validate({"name": "tiny", **tiny})


@pytest.fixture
def training(experiment: Experiment) -> pipeline.Split:
    return pipeline.open_split(load_manifest(experiment.dataset), "train", experiment.image.size)


def batches(split: pipeline.Split, experiment: Experiment, *where: int) -> list[Any]:
    dataset = pipeline.training_batches(split, experiment, *where)
    return [(images.numpy(), targets["expression"].numpy()) for images, targets in dataset]


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second) > 0
    for (images, codes), (other_images, other_codes) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(codes, other_codes)


def decoded(split: pipeline.Split) -> NDArray[np.uint8]:
    """The pixels of a split that holds them."""
    assert split.pixels is not None
    return split.pixels


def open_both(manifest: Manifest) -> None:
    for split in ("train", "validation"):
        pipeline.open_split(manifest, split, 24)


def warped(image: Any, augment: Augment, maps: Any) -> Any:
    return pipeline._warped(tf.cast(image, tf.float32), maps, augment.fill).numpy()


def test_pixels_are_those_of_the_file(experiment: Experiment, training: pipeline.Split) -> None:
    with Image.open(str(training.paths[3])) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(training)[3], expected)


def test_evaluation_keeps_the_order_and_the_values(training: pipeline.Split) -> None:
    images = np.concatenate([x.numpy() for x in pipeline.evaluation_batches(training, 7)])
    np.testing.assert_array_equal(images, decoded(training).astype(np.float32))


def test_an_epoch_is_the_same_every_time(experiment: Experiment, training: pipeline.Split) -> None:
    assert_same(batches(training, experiment, 1), batches(training, experiment, 1))


@pytest.mark.parametrize("first_step", [1, 3])
def test_an_epoch_can_begin_at_any_step(
    experiment: Experiment, training: pipeline.Split, first_step: int
) -> None:
    whole = batches(training, experiment, 2)
    assert_same(whole[first_step:], batches(training, experiment, 2, first_step))


def test_epochs_and_seeds_differ(experiment: Experiment, training: pipeline.Split) -> None:
    other_seed = experiment.model_copy(update={"seed": experiment.seed + 1})
    first = batches(training, experiment, 0)[0][0]
    assert not np.array_equal(first, batches(training, experiment, 1)[0][0])
    assert not np.array_equal(first, batches(training, other_seed, 0)[0][0])


def test_images_are_rgb_between_0_and_255(experiment: Experiment, training: pipeline.Split) -> None:
    for images, codes in batches(training, experiment, 0):
        assert images.shape == (16, 24, 24, 3)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 255
        assert codes.shape == (16,)


def test_images_that_do_not_fit_in_memory_are_read_from_their_files(
    experiment: Experiment, training: pipeline.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MEMORY_BYTES", 0)
    manifest = load_manifest(experiment.dataset)
    streamed = pipeline.open_split(manifest, "train", experiment.image.size)
    assert streamed.pixels is None
    assert_same(batches(training, experiment, 0), batches(streamed, experiment, 0))


def test_grey_images_stay_one_channel_until_the_end(experiment: Experiment) -> None:
    manifest = replace(load_manifest(experiment.dataset), channels=1)
    split = pipeline.open_split(manifest, "train", experiment.image.size)
    assert decoded(split).shape[-1] == 1
    images, _ = batches(split, experiment, 0)[0]
    assert images.shape[-1] == 3
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_images_are_resized(experiment: Experiment) -> None:
    split = pipeline.open_split(load_manifest(experiment.dataset), "validation", 40)
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


def test_no_change_is_the_identity(training: pipeline.Split) -> None:
    maps = pipeline.draw_warps(4, Augment(), 24, np.random.default_rng(0))
    images = decoded(training)[:4]
    np.testing.assert_array_equal(
        warped(images, Augment(rotation=0.1), maps), images.astype(np.float32)
    )


def test_flip_mirrors_half_of_the_images(training: pipeline.Split) -> None:
    augment = Augment(flip=True)
    maps = pipeline.draw_warps(60, augment, 24, np.random.default_rng(0))
    image = decoded(training)[:1]
    results = warped(np.repeat(image, 60, axis=0), augment, maps)
    mirrored = [np.array_equal(result, image[0, :, ::-1]) for result in results]
    unchanged = [np.array_equal(result, image[0]) for result in results]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert 15 < sum(mirrored) < 45


def test_rotation_turns_around_the_centre() -> None:
    image = np.zeros((1, 25, 25, 1), np.uint8)
    image[0, 12, 20] = 255
    maps = np.array([[0, -1, 24, 1, 0, 0, 0, 0]], np.float32)  # a quarter turn, by hand
    expected = warped(image, Augment(rotation=0.5), maps)

    class Quarter:
        def uniform(self, *_: Any, size: tuple[int, int]) -> Any:
            draws = np.zeros(size)
            draws[:, 0] = 0.5
            return draws

    drawn: Any = pipeline.draw_warps(1, Augment(rotation=0.5), 25, Quarter())  # type: ignore[arg-type]
    np.testing.assert_allclose(warped(image, Augment(rotation=0.5), drawn), expected, atol=0.1)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_warps_stay_within_their_limits(seed: int) -> None:
    augment = Augment(flip=True, rotation=0.1, zoom=0.2, shift=0.1)
    maps = pipeline.draw_warps(50, augment, 48, np.random.default_rng(seed))
    linear = maps[:, [0, 1, 3, 4]].reshape(-1, 2, 2).astype(float)
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    assert ((scale >= 0.8 - 1e-6) & (scale <= 1.2 + 1e-6)).all()
    centre = np.array([23.5, 23.5, 1])
    moved = maps[:, :6].reshape(-1, 2, 3) @ centre - centre[:2]
    assert np.abs(moved).max() <= 4.8 + 1e-4


def test_contrast_and_brightness_stay_in_range(training: pipeline.Split) -> None:
    generator = np.random.default_rng(1)
    intensities = pipeline.draw_intensities(30, EVERYTHING, generator)
    images = tf.cast(decoded(training)[:30], tf.float32)
    changed = pipeline._intensified(images, intensities, EVERYTHING).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (np.abs(changed - images.numpy()).mean(axis=(1, 2, 3)) > 0).all()


codes = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(lambda x: np.array(x, np.int32))


@given(codes, st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_has_every_sample_once(labels: Any, seed: int, epoch: int) -> None:
    order = pipeline.epoch_order(labels, None, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(labels)))


@given(codes, st.integers(0, 99), st.integers(1, 60))
def test_oversampling_makes_classes_equal_and_uses_samples_evenly(
    labels: Any, seed: int, per_class: int
) -> None:
    order = pipeline.epoch_order(labels, per_class, seed=seed, epoch=0)
    assert set(np.bincount(labels[order], minlength=4)[np.unique(labels)]) == {per_class}
    for code in np.unique(labels):
        uses = np.bincount(order, minlength=len(labels))[labels == code]
        assert uses.max() - uses.min() <= 1


def test_a_class_that_is_larger_than_its_share_shows_other_samples_in_another_epoch() -> None:
    orders = [pipeline.epoch_order(np.zeros(40, np.int32), 10, seed=1, epoch=e) for e in (0, 1)]
    assert set(orders[0]) != set(orders[1])


affine = st.lists(st.floats(-2, 2, width=32), min_size=6, max_size=6)


@given(affine, affine, st.tuples(st.floats(0, 50), st.floats(0, 50)))
def test_composed_maps_do_one_after_the_other(
    first: list[float], then: list[float], point: tuple[float, float]
) -> None:
    maps = [np.array([[*values, 0, 0]], np.float32) for values in (first, then)]

    def apply(maps: Any, point: Any) -> Any:
        return maps[0, :6].astype(np.float64).reshape(2, 3) @ [*point, 1]

    expected = apply(maps[0], apply(maps[1], point))
    np.testing.assert_allclose(apply(pipeline.compose(*maps), point), expected, atol=1e-3)


def with_dataset(experiment: Experiment, **keys: Any) -> Experiment:
    return experiment.model_copy(update={"dataset": experiment.dataset.model_copy(update=keys)})


def test_expanding_adds_fixed_views_and_keeps_every_image(
    training: pipeline.Split, experiment: Experiment
) -> None:
    expanded = with_dataset(experiment, expand=100).dataset
    source, maps = pipeline.draw_views(len(training), expanded, 24)
    assert (len(source), len(maps)) == (100, 100)
    unchanged = (maps == maps[0]).all(axis=1)
    assert sorted(source[unchanged]) == list(range(72))
    assert len(set(source[~unchanged])) == 28
    again = pipeline.draw_views(len(training), expanded, 24)
    np.testing.assert_array_equal(maps, again[1])


def test_an_expanded_epoch_shows_the_same_views_in_another_order(
    training: pipeline.Split, experiment: Experiment
) -> None:
    still = experiment.image.model_copy(update={"augment": Augment()})
    config = with_dataset(experiment, expand=96).model_copy(update={"image": still})
    epochs = [batches(training, config, epoch) for epoch in (0, 1)]
    images = [np.concatenate([x for x, _ in epoch]) for epoch in epochs]
    assert len(images[0]) == 96 == pipeline.steps_per_epoch(training, config) * 16
    views = [sorted(image.tobytes() for image in epoch) for epoch in images]
    assert views[0] == views[1]
    assert len(set(views[0])) == 96
    originals = {image.tobytes() for image in decoded(training).astype(np.float32)}
    assert len(originals & set(views[0])) == 72
    assert not np.array_equal(images[0], images[1])


def test_the_validation_split_is_never_expanded(experiment: Experiment) -> None:
    manifest = load_manifest(with_dataset(experiment, expand=500).dataset)
    validation = pipeline.open_split(manifest, "validation", 24)
    images = [x.numpy() for x in pipeline.evaluation_batches(validation, 16)]
    assert sum(map(len, images)) == manifest.split_sizes()["validation"] == 24


def boxed(manifest: Manifest, *boxes: tuple[int, int, int, int]) -> Manifest:
    names = ("face_x", "face_y", "face_width", "face_height")
    samples = manifest.samples.copy()
    samples[list(names)] = [boxes[row % len(boxes)] for row in range(len(samples))]
    return replace(manifest, samples=samples)


def test_only_the_face_in_its_box_is_used(experiment: Experiment) -> None:
    manifest = load_manifest(experiment.dataset)
    face = pipeline.open_split(boxed(manifest, (3, 5, 10, 10)), "train", 10)
    with Image.open(str(face.paths[0])) as image:
        expected = np.asarray(image.convert("RGB"))[5:15, 3:13]
    np.testing.assert_array_equal(decoded(face)[0], expected)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((-5, -7, 20, 20), slice(0, 13), slice(0, 15)),
        ((20, 10, 30, 30), slice(10, 24), slice(20, 24)),
        ((99, 99, 5, 5), slice(23, 24), slice(23, 24)),
    ],
)
def test_a_box_that_leaves_the_image_is_cut_at_its_edge(
    experiment: Experiment, box: tuple[int, int, int, int], rows: slice, columns: slice
) -> None:
    image = np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)
    np.testing.assert_array_equal(pipeline._crop(tf.constant(image), box), image[rows, columns])


def test_images_that_do_not_fit_into_memory_are_decoded_each_time(
    experiment: Experiment, training: pipeline.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MEMORY_BYTES", 1000)
    from_files = pipeline.open_split(load_manifest(experiment.dataset), "train", 24)
    assert from_files.pixels is None
    assert_same(batches(from_files, experiment, 1), batches(training, experiment, 1))


def test_a_batch_is_never_larger_than_the_split(
    training: pipeline.Split, experiment: Experiment
) -> None:
    settings_ = experiment.training.model_copy(update={"batch_size": 10_000})
    large = experiment.model_copy(update={"training": settings_})
    assert pipeline.steps_per_epoch(training, large) == 1
    assert len(batches(training, large, 0)[0][1]) == len(training)


def test_steps_are_counted_as_they_are_made(
    training: pipeline.Split, experiment: Experiment
) -> None:
    for keys in ({}, {"balance": "oversample"}, {"expand": 113}, {"per_class": 5}):
        config = with_dataset(experiment, **({"balance": "oversample"} if keys else {}) | keys)
        assert pipeline.steps_per_epoch(training, config) == len(batches(training, config, 0))


def test_progress_reaches_the_end(experiment: Experiment) -> None:
    calls: list[tuple[int, int]] = []
    remember: Callable[[int, int], None] = lambda done, total: calls.append((done, total))  # noqa: E731
    pipeline.open_split(load_manifest(experiment.dataset), "train", 24, remember)
    assert calls[-1] == (72, 72)


def test_each_target_goes_with_its_image(experiment: Experiment) -> None:
    manifest = load_manifest(experiment.dataset)
    split = pipeline.open_split(manifest, "train", 24)
    still = experiment.image.model_copy(update={"augment": Augment()})
    both = experiment.model.model_copy(update={"targets": ("expression", "valence_arousal")})
    config = experiment.model_copy(update={"image": still, "model": both})
    rows = manifest.split("train")
    known = {decoded(split)[i].tobytes(): i for i in range(len(split))}
    for images, targets in pipeline.training_batches(split, config, 0):
        order = [known[image.astype(np.uint8).tobytes()] for image in images.numpy()]
        np.testing.assert_array_equal(targets["expression"], split.codes[order])
        expected = rows[["valence", "arousal"]].to_numpy(np.float32)[order]
        np.testing.assert_array_equal(targets["valence_arousal"], expected)


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

    def __call__(self, done: int, _: int) -> None:
        self.images += done  # all the images of a tiny split are one batch


def pixels(split: pipeline.Split) -> Any:
    return np.concatenate([batch.numpy() for batch in pipeline.evaluation_batches(split, 16)])


def test_with_a_store_the_second_start_decodes_nothing(
    experiment: Experiment, training: pipeline.Split, store: Store
) -> None:
    manifest, count = load_manifest(experiment.dataset), Decoded()
    first = pipeline.open_split(manifest, "train", 24, count, store=store)
    second = pipeline.open_split(manifest, "train", 24, count, store=store)
    assert count.images == 72
    assert first.digest == second.digest != ""
    for split in (first, second):
        np.testing.assert_array_equal(pixels(split), pixels(training))
        assert_same(batches(split, experiment, 1), batches(training, experiment, 1))


def test_every_size_and_kind_of_pixels_is_stored_apart(
    experiment: Experiment, store: Store
) -> None:
    manifest, count = load_manifest(experiment.dataset), Decoded()
    boxes = boxed(manifest, (3, 5, 10, 10))
    grey = replace(manifest, channels=1)
    for other, size in ((manifest, 24), (manifest, 20), (grey, 24), (boxes, 24)):
        plain = pipeline.open_split(other, "train", size)
        stored = pipeline.open_split(other, "train", size, count, store=store)
        assert stored.pixels is not None
        np.testing.assert_array_equal(stored.pixels, plain.pixels)
    assert count.images == 4 * 72


def test_an_image_changed_in_place_is_decoded_anew(
    experiment: Experiment, copied_root: Path, store: Store
) -> None:
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    before = pipeline.open_split(manifest, "train", 24, store=store)
    old = decoded(before)[0].tobytes()
    path = Path(str(before.paths[0]))
    size, stamp = path.stat().st_size, path.stat().st_mtime_ns
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # what follows the end is not read
    os.utime(path, ns=(stamp + 10**6, stamp + 10**6))
    assert path.stat().st_size == size
    after = pipeline.open_split(manifest, "train", 24, store=store)
    assert not decoded(after)[0].any()
    np.testing.assert_array_equal(decoded(after)[1:], decoded(before)[1:])
    assert after.digest != before.digest
    assert decoded(before)[0].tobytes() == old  # what a run has open stays as it was


def test_a_copy_of_the_dataset_elsewhere_is_found(
    experiment: Experiment, copied_root: Path, tmp_path: Path, store: Store
) -> None:
    count = Decoded()
    for root in (copied_root, shutil.copytree(copied_root, tmp_path / "elsewhere")):
        manifest = load_manifest(experiment.dataset.model_copy(update={"root": root}))
        pipeline.open_split(manifest, "validation", 24, count, store=store)
    assert count.images == 24


def test_too_large_for_the_store_is_checked_once_and_decoded_each_time(
    experiment: Experiment, training: pipeline.Split, own_cache: Path
) -> None:
    manifest, count, none = load_manifest(experiment.dataset), Decoded(), Store(1000, print)
    splits = [pipeline.open_split(manifest, "train", 24, count, store=none) for _ in range(2)]
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
    name = "train" if str(broken) in pipeline.split_files(manifest, "train", 24).paths else None
    for store in (Store(10**9, print), Store(0, print)):
        with pytest.raises(DataError, match=f"(?s){broken}.*cannot be decoded"):
            pipeline.open_split(manifest, name or "validation", 24, store=store)
    assert cachedir.entries() == []


def test_a_missing_image_is_named(experiment: Experiment, copied_root: Path, store: Store) -> None:
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    gone = Path(str(pipeline.split_files(manifest, "train", 24).paths[5]))
    gone.unlink()
    with pytest.raises(DataError, match=f"(?s){gone}.*cannot be read.*original archive"):
        pipeline.open_split(manifest, "train", 24, store=store)


def test_changed_images_are_never_stored(experiment: Experiment, store: Store) -> None:
    manifest = load_manifest(experiment.dataset)
    split = pipeline.open_split(
        manifest, "train", 24, store=store, change=lambda image, _: np.zeros_like(image)
    )
    assert not pixels(split).any()
    assert cachedir.entries() == []


# Rows in place of images -------------------------------------------------------------------------


def with_still_images(experiment: Experiment, **dataset: Any) -> Experiment:
    image = experiment.image.model_copy(update={"augment": Augment()})
    return with_dataset(experiment, **dataset).model_copy(update={"image": image})


def rows_of(split: pipeline.Split, config: Experiment, views: int = 1) -> pipeline.Rows:
    """The images themselves, as what a trunk that changes nothing would make of them."""
    _, shown = pipeline.trunk_views(split, config, views)
    return pipeline.Rows(np.concatenate([batch.numpy() for batch in shown(7)]), "float32")


@pytest.mark.parametrize(
    "dataset",
    [{}, {"balance": "oversample"}, {"expand": 100}, {"expand": 90, "balance": "oversample"}],
    ids=["plain", "oversample", "expand", "both"],
)
@pytest.mark.parametrize("first_step", [0, 2])
def test_rows_come_in_the_very_order_of_their_images(
    dataset: dict[str, Any], first_step: int, experiment: Experiment, training: pipeline.Split
) -> None:
    config = with_still_images(experiment, **dataset)
    expected = pipeline.training_batches(training, config, 1, first_step, epochs=2)
    found = pipeline.training_rows(
        rows_of(training, config), training, config, 1, first_step, epochs=2
    )
    as_arrays = [
        [(images.numpy(), targets["expression"].numpy()) for images, targets in each]
        for each in (expected, found)
    ]
    assert_same(*as_arrays)


def test_several_epochs_are_one_after_the_other(
    experiment: Experiment, training: pipeline.Split
) -> None:
    together = [
        (images.numpy(), targets["expression"].numpy())
        for images, targets in pipeline.training_batches(training, experiment, 1, 3, epochs=3)
    ]
    assert_same(
        together,
        [
            *batches(training, experiment, 1, 3),
            *batches(training, experiment, 2),
            *batches(training, experiment, 3),
        ],
    )


def test_views_take_turns_over_the_epochs(experiment: Experiment, training: pipeline.Split) -> None:
    views, number = 3, len(training)
    labels = np.arange(views * number, dtype=np.int32)[:, None]  # each row says which it is
    rows = pipeline.Rows(labels, "int32")
    single = with_dataset(experiment).model_copy(
        update={"training": experiment.training.model_copy(update={"batch_size": number})}
    )
    shown = np.array(
        [
            np.sort(next(iter(pipeline.training_rows(rows, training, single, epoch)))[0][:, 0])
            for epoch in range(6)
        ]
    )
    assert (np.sort(shown % number) == np.arange(number)).all()  # every image in every epoch
    view_of = np.zeros((6, number), int)
    for epoch, row in enumerate(shown):
        view_of[epoch, row % number] = row // number
    assert ((np.diff(view_of, axis=0) % views) == 1).all()
    assert len(set(view_of[0])) == views  # not all images show their first view at once


def test_views_are_different_and_fixed_whatever_the_seed(
    experiment: Experiment, training: pipeline.Split
) -> None:
    key, shown = pipeline.trunk_views(training, experiment, 3)
    images = np.concatenate([batch.numpy() for batch in shown(50)])
    assert images.shape == (3 * 72, 24, 24, 3)
    first, second, third = images.reshape(3, 72, -1)
    for one, other in ((first, second), (second, third), (first, third)):
        assert (np.abs(one - other).max(axis=1) > 1).all()
    assert images.min() >= 0
    assert images.max() <= 255
    other_seed = experiment.model_copy(update={"seed": experiment.seed + 1})
    other_key, again = pipeline.trunk_views(training, other_seed, 3)
    assert key == other_key
    np.testing.assert_array_equal(np.concatenate([b.numpy() for b in again(216)]), images)


def test_the_key_of_views_is_of_all_that_they_depend_on(
    experiment: Experiment, training: pipeline.Split
) -> None:
    stronger = experiment.image.augment.model_copy(update={"rotation": 0.06})
    other_image = experiment.image.model_copy(update={"augment": stronger})
    keys = [
        pipeline.trunk_views(split, config, views)[0]
        for split, config, views in (
            (training, experiment, 1),
            (training, experiment, 2),
            (training, experiment, 3),
            (training, experiment.model_copy(update={"image": other_image}), 2),
            (training, with_dataset(experiment, split_seed=1), 2),
            (training, with_dataset(experiment, expand=80), 2),
            (replace(training, digest="other"), experiment, 2),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_a_single_view_shows_the_images_themselves(
    experiment: Experiment, training: pipeline.Split
) -> None:
    rows = rows_of(training, experiment)  # whatever the experiment augments
    np.testing.assert_array_equal(rows.values, pixels(training))


def test_the_bits_of_bfloat16_come_back_as_numbers() -> None:
    numbers = tf.constant([[1.5], [-2.0], [1e30]], tf.bfloat16)
    rows = pipeline.Rows(tf.bitcast(numbers, tf.uint16).numpy(), "bfloat16")
    (batch,) = pipeline.evaluation_rows(rows, 8)
    assert batch.dtype == tf.bfloat16
    np.testing.assert_array_equal(batch.numpy(), numbers.numpy())
