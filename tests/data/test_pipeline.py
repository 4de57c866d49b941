"""From decoded images to batches: order and augmentation are pure functions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from batches import assert_same, batches, decoded, pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiers import some_fast

from fer_bench.config.experiment import Experiment
from fer_bench.config.model import Augment
from fer_bench.data import decoding, pipeline
from fer_bench.data.load import load_manifest
from fer_bench.data.pipeline import SOFT_LABELS
from fer_bench.device.collective import LOST

EVERYTHING = Augment(
    flip=True, rotation=0.1, zoom=0.2, shear=0.1, shift=0.1, brightness=0.2, contrast=0.2
)


def test_pixels_are_those_of_the_file(experiment: Experiment, training: decoding.Split) -> None:
    with Image.open(str(training.paths[3])) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(training)[3], expected)


def test_evaluation_keeps_the_order_and_the_values(training: decoding.Split) -> None:
    images = np.concatenate([x.numpy() for x in pipeline.evaluation_batches(training, 7)])
    np.testing.assert_array_equal(images, decoded(training).astype(np.float32))


def test_an_epoch_is_the_same_every_time(experiment: Experiment, training: decoding.Split) -> None:
    assert_same(batches(training, experiment, 1), batches(training, experiment, 1))


@pytest.mark.parametrize("first_step", [1, 3])
def test_an_epoch_can_begin_at_any_step(
    experiment: Experiment, training: decoding.Split, first_step: int
) -> None:
    whole = batches(training, experiment, 2)
    assert_same(whole[first_step:], batches(training, experiment, 2, first_step))


def test_epochs_and_seeds_differ(experiment: Experiment, training: decoding.Split) -> None:
    other_seed = experiment.model_copy(update={"seed": experiment.seed + 1})
    first = batches(training, experiment, 0)[0][0]
    assert not np.array_equal(first, batches(training, experiment, 1)[0][0])
    assert not np.array_equal(first, batches(training, other_seed, 0)[0][0])


def test_images_are_rgb_between_0_and_255(experiment: Experiment, training: decoding.Split) -> None:
    for images, codes in batches(training, experiment, 0):
        assert images.shape == (16, 24, 24, 3)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 255
        assert codes.shape == (16,)


def test_images_that_do_not_fit_in_memory_are_read_from_their_files(
    experiment: Experiment, training: decoding.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 0)
    manifest = load_manifest(experiment.dataset)
    streamed = decoding.open_split(manifest, "train", experiment.image.size)
    assert streamed.pixels is None
    assert_same(batches(training, experiment, 0), batches(streamed, experiment, 0))


def test_a_file_that_breaks_during_training_is_named_and_not_taken_for_a_lost_worker(
    experiment: Experiment, copied_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 0)
    manifest = load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))
    streamed = decoding.open_split(manifest, "train", 24)
    broken = Path(str(streamed.paths[30]))
    broken.write_bytes(b"no image")
    with pytest.raises(tf.errors.OpError, match=str(broken)) as found:
        batches(streamed, experiment, 0)
    assert not isinstance(found.value, LOST)


def test_grey_images_stay_one_channel_until_the_end(experiment: Experiment) -> None:
    manifest = replace(load_manifest(experiment.dataset), channels=1)
    split = decoding.open_split(manifest, "train", experiment.image.size)
    assert decoded(split).shape[-1] == 1
    images, _ = batches(split, experiment, 0)[0]
    assert images.shape[-1] == 3
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


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


def with_dataset(experiment: Experiment, **keys: Any) -> Experiment:
    return experiment.model_copy(update={"dataset": experiment.dataset.model_copy(update=keys)})


def test_expanding_adds_fixed_views_and_keeps_every_image(
    training: decoding.Split, experiment: Experiment
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
    training: decoding.Split, experiment: Experiment
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
    validation = decoding.open_split(manifest, "validation", 24)
    images = [x.numpy() for x in pipeline.evaluation_batches(validation, 16)]
    assert sum(map(len, images)) == manifest.split_sizes()["validation"] == 24


@pytest.mark.slow
def test_images_that_do_not_fit_into_memory_are_decoded_each_time(
    experiment: Experiment, training: decoding.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 1000)
    from_files = decoding.open_split(load_manifest(experiment.dataset), "train", 24)
    assert from_files.pixels is None
    assert_same(batches(from_files, experiment, 1), batches(training, experiment, 1))


def test_a_batch_is_never_larger_than_the_split(
    training: decoding.Split, experiment: Experiment
) -> None:
    settings_ = experiment.training.model_copy(update={"batch_size": 10_000})
    large = experiment.model_copy(update={"training": settings_})
    assert pipeline.steps_per_epoch(training, large) == 1
    assert len(batches(training, large, 0)[0][1]) == len(training)


def test_steps_are_counted_as_they_are_made(
    training: decoding.Split, experiment: Experiment
) -> None:
    for keys in ({}, {"balance": "oversample"}, {"expand": 113}, {"per_class": 5}):
        config = with_dataset(experiment, **({"balance": "oversample"} if keys else {}) | keys)
        assert pipeline.steps_per_epoch(training, config) == len(batches(training, config, 0))


def test_each_target_goes_with_its_image(experiment: Experiment) -> None:
    manifest = load_manifest(experiment.dataset)
    split = decoding.open_split(manifest, "train", 24)
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


# Rows in place of images -------------------------------------------------------------------------


def with_still_images(experiment: Experiment, **dataset: Any) -> Experiment:
    image = experiment.image.model_copy(update={"augment": Augment()})
    return with_dataset(experiment, **dataset).model_copy(update={"image": image})


def rows_of(split: decoding.Split, config: Experiment, views: int = 1) -> decoding.Rows:
    """The images themselves, as what a trunk that changes nothing would make of them."""
    _, shown = pipeline.trunk_views(split, config, views)
    return decoding.Rows(np.concatenate([batch.numpy() for batch in shown(7)]), "float32")


@pytest.mark.parametrize(
    "dataset",
    [{}, {"balance": "oversample"}, {"expand": 100}, {"expand": 90, "balance": "oversample"}],
    ids=["plain", "oversample", "expand", "both"],
)
@pytest.mark.parametrize("first_step", some_fast([0, 2], 2))
def test_rows_come_in_the_order_of_their_images(
    dataset: dict[str, Any], first_step: int, experiment: Experiment, training: decoding.Split
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


# Soft labels -----------------------------------------------------------------------------------


def softened(split: decoding.Split) -> decoding.Split:
    """The split with a soft label of its own for each image."""
    shares = np.random.default_rng(0).dirichlet(np.ones(8), len(split)).astype(np.float32)
    return replace(split, soft_labels=shares)


@pytest.mark.parametrize("keys", [{}, {"balance": "oversample"}, {"expand": 150}])
def test_each_soft_label_goes_with_its_image(
    experiment: Experiment, training: decoding.Split, keys: dict[str, Any]
) -> None:
    split = softened(training)
    assert split.soft_labels is not None
    config = with_still_images(experiment, **keys)
    of_images = pipeline.training_batches(split, config, 1)
    of_rows = pipeline.training_rows(rows_of(split, config), split, config, 1)
    source = {tuple(row): code for row, code in zip(split.soft_labels, split.codes, strict=True)}
    for (_, targets), (_, same) in zip(of_images, of_rows, strict=True):
        np.testing.assert_array_equal(targets[SOFT_LABELS], same[SOFT_LABELS])
        np.testing.assert_array_equal(targets["expression"], same["expression"])
        codes = [source[tuple(row)] for row in targets[SOFT_LABELS].numpy()]
        np.testing.assert_array_equal(targets["expression"], codes)


def test_soft_labels_change_neither_images_nor_order(
    experiment: Experiment, training: decoding.Split
) -> None:
    assert_same(batches(training, experiment, 1), batches(softened(training), experiment, 1))


def test_an_epoch_of_soft_labels_can_begin_at_any_step(
    experiment: Experiment, training: decoding.Split
) -> None:
    split = softened(training)
    whole, rest = (
        [
            targets[SOFT_LABELS].numpy()
            for _, targets in pipeline.training_batches(split, experiment, 2, n)
        ]
        for n in (0, 2)
    )
    assert len(rest) == len(whole) - 2 > 0
    for first, second in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(first, second)


def test_without_the_expression_there_is_no_soft_label(
    experiment: Experiment, training: decoding.Split
) -> None:
    model = experiment.model.model_copy(update={"targets": ("valence_arousal",)})
    config = experiment.model_copy(update={"model": model})
    _, targets = next(iter(pipeline.training_batches(softened(training), config, 0)))
    assert set(targets) == {"valence_arousal"}


# Several epochs and views ----------------------------------------------------------------------


def test_several_epochs_are_one_after_the_other(
    experiment: Experiment, training: decoding.Split
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


def test_views_take_turns_over_the_epochs(experiment: Experiment, training: decoding.Split) -> None:
    views, number = 3, len(training)
    labels = np.arange(views * number, dtype=np.int32)[:, None]  # each row says which it is
    rows = decoding.Rows(labels, "int32")
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


def test_views_are_different_and_do_not_depend_on_the_seed(
    experiment: Experiment, training: decoding.Split
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
    experiment: Experiment, training: decoding.Split
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
    experiment: Experiment, training: decoding.Split
) -> None:
    rows = rows_of(training, experiment)  # whatever the experiment augments
    np.testing.assert_array_equal(rows.values, pixels(training))


def test_the_bits_of_bfloat16_come_back_as_numbers() -> None:
    numbers = tf.constant([[1.5], [-2.0], [1e30]], tf.bfloat16)
    rows = decoding.Rows(tf.bitcast(numbers, tf.uint16).numpy(), "bfloat16")
    (batch,) = pipeline.evaluation_rows(rows, 8)
    assert batch.dtype == tf.bfloat16
    np.testing.assert_array_equal(batch.numpy(), numbers.numpy())
