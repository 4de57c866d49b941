"""Accuracy on spoiled images: what the model gets, and what is computed from its answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import says
from numpy.typing import NDArray
from PIL import Image
from tiers import some_fast

from fer_bench.data import decoding, pipeline
from fer_bench.data.datasets import drawn
from fer_bench.data.manifest import Manifest
from fer_bench.device.machine import Cores
from fer_bench.errors import DataError, RunError
from fer_bench.evaluation import robustness
from fer_bench.evaluation.corruptions import column, conditions, corrupt, select
from fer_bench.evaluation.corruptions.effects import Pixels
from fer_bench.metrics.intervals import wilson
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal

CLASSES = ("neutral", "happiness", "sadness")


def predictions(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Predictions:
    probabilities = np.full((len(labels), len(CLASSES)), 0.1)
    probabilities[np.arange(len(labels)), predicted] = 0.8
    return Predictions(
        sample_ids=tuple(f"{index:04d}" for index in range(len(labels))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, predicted, probabilities),
    )


def answers(clean: Predictions, **correct: Any) -> pd.DataFrame:
    """A table in which the samples of each condition are correct as its array says."""
    wrong = np.roll(np.array(CLASSES), 1)
    code = {name: index for index, name in enumerate(CLASSES)}
    others = np.array([wrong[code[str(name)]] for name in clean.label_names])
    columns = {name: np.where(right, clean.label_names, others) for name, right in correct.items()}
    return pd.DataFrame({"sample_id": clean.sample_ids} | columns)


@pytest.fixture(scope="module")
def clean() -> Predictions:
    """240 samples, 70% of them right."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [160, 60, 20])
    return predictions(labels, np.where(generator.random(240) < 0.7, labels, (labels + 1) % 3))


# Summary ---------------------------------------------------------------------------------------


def test_one_condition_is_an_accuracy_with_its_wilson_interval(clean: Predictions) -> None:
    right = np.arange(240) < 90
    document: Any = robustness.summarise(answers(clean, fog_2=right), clean, resamples=50)
    low, high = wilson(90, 240)
    assert document["conditions"] == [
        {
            "corruption": "fog",
            "family": "weather",
            "severity": 2,
            "accuracy": {"value": 90 / 240, "low": low, "high": high},
        }
    ]


def test_means_are_over_the_given_conditions_and_never_over_occlusions(
    clean: Predictions,
) -> None:
    share = {"fog_1": 120, "fog_2": 60, "snow_5": 30, "eyes": 240}
    columns = {name: np.arange(240) < count for name, count in share.items()}
    document: Any = robustness.summarise(answers(clean, **columns), clean, resamples=50)
    assert document["mean_corruption_accuracy"]["value"] == pytest.approx(70 / 240)
    assert document["by_corruption"]["fog"]["value"] == pytest.approx(90 / 240)
    assert document["by_corruption"]["snow"]["value"] == pytest.approx(30 / 240)
    assert set(document["by_corruption"]) == {"fog", "snow"}
    expected = 1 - (70 / 240) / document["clean"]["value"]
    assert document["relative_drop"]["value"] == pytest.approx(expected)
    assert document["complete"] is False


def test_all_seventy_five_are_complete_with_or_without_occlusions(clean: Predictions) -> None:
    right = np.arange(240) % 2 == 0
    every = {column(*condition): right for condition in conditions()}
    graded = {name: right for name in every if name not in ("eyes", "mouth")}
    for columns, complete in ((every, True), (graded, True)):
        document = robustness.summarise(answers(clean, **columns), clean, resamples=20)
        assert document["complete"] is complete
    del graded["fog_3"]
    assert not robustness.summarise(answers(clean, **graded), clean, resamples=20)["complete"]


def test_occlusions_alone_have_no_mean(clean: Predictions) -> None:
    document: Any = robustness.summarise(
        answers(clean, eyes=np.ones(240, bool)), clean, resamples=20
    )
    nothing = {"value": None, "low": None, "high": None}
    assert document["mean_corruption_accuracy"] == document["relative_drop"] == nothing
    assert document["by_corruption"] == {}
    assert document["conditions"][0]["severity"] is None


def test_a_model_that_is_never_right_has_no_relative_drop() -> None:
    labels = np.repeat([0, 1], 10)
    hopeless = predictions(labels, 1 - labels)
    document: Any = robustness.summarise(
        answers(hopeless, fog_1=labels == 0), hopeless, resamples=20
    )
    assert document["relative_drop"] == {"value": None, "low": None, "high": None}
    assert document["clean"]["value"] == 0


def test_an_interval_of_a_mean_knows_that_the_images_are_the_same(clean: Predictions) -> None:
    # Five conditions that fail on the same images say no more than one of them.
    right = np.random.default_rng(1).random(240) < 0.5
    other = [np.random.default_rng(seed).random(240) < 0.5 for seed in range(2, 7)]

    def width(columns: list[NDArray[np.bool_]]) -> float:
        table = answers(clean, **{f"fog_{i}": of for i, of in enumerate(columns, start=1)})
        cell: Any = robustness.summarise(table, clean, resamples=400)["mean_corruption_accuracy"]
        return float(cell["high"] - cell["low"])

    assert width([right] * 5) == pytest.approx(width([right]), rel=1e-9)
    assert width(other) < 0.7 * width([right])


def test_no_drop_at_all_has_an_interval_of_no_width(clean: Predictions) -> None:
    assert clean.expression
    document: Any = robustness.summarise(answers(clean, fog_1=clean.expression.correct), clean)
    assert document["relative_drop"] == {"value": 0, "low": 0, "high": 0}


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_the_order_of_rows_and_columns_does_not_matter(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    labels, predicted = generator.integers(0, 3, (2, n))
    samples = predictions(labels, predicted)
    columns = {name: generator.random(n) < 0.5 for name in ("fog_1", "fog_2", "snow_1", "mouth")}
    table = answers(samples, **columns)
    shuffled = table.sample(frac=1, random_state=seed % 1000)[[*table.columns][::-1]]
    document: Any = robustness.summarise(table, samples, resamples=20)
    assert document == robustness.summarise(shuffled, samples, resamples=20)
    for cell in (document["mean_corruption_accuracy"], *document["by_corruption"].values()):
        assert 0 <= cell["low"] <= cell["high"] <= 1


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda table: table.iloc[1:], ("239", "240")),
        (lambda table: pd.concat([table, table[:1]]), ("241", "240")),
        (lambda table: table.assign(sample_id="x"), ("240",)),
        (lambda table: table.rename(columns={"fog_1": "smog_1"}), ("'smog_1'",)),
        (lambda table: table.drop(columns="sample_id"), ("sample_id",)),
    ],
)
def test_a_table_of_something_else_is_refused(
    damage: Callable[[pd.DataFrame], pd.DataFrame], parts: tuple[str, ...], clean: Predictions
) -> None:
    table = damage(answers(clean, fog_1=np.ones(240, bool)))
    with pytest.raises(RunError) as error:
        robustness.summarise(table, clean)
    says(error.value, *parts, "fer evaluate --corruptions")


def test_a_run_without_expressions_is_refused(clean: Predictions) -> None:
    table = answers(clean, fog_1=np.ones(240, bool))
    axes = ValenceArousal(np.zeros((240, 2)), np.zeros((240, 2)))
    with pytest.raises(RunError) as error:
        robustness.summarise(table, replace(clean, expression=None, valence_arousal=axes))
    says(error.value, "no expressions", "--corruptions", "model.targets")


# Measurement -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(drawn_root: Path) -> Manifest:
    return drawn.read(drawn_root)


@pytest.fixture(scope="module")
def known(manifest: Manifest) -> Predictions:
    """What a model would say that takes every face of the test split for a neutral one."""
    labels = manifest.codes("test").astype(np.int64)
    classes, n = manifest.classes, len(labels)
    probabilities = np.full((n, len(classes)), 0.5 / (len(classes) - 1))
    probabilities[:, 0] = 0.5
    rows = manifest.split("test")
    expression = Expression(classes, labels, np.zeros(n, np.int64), probabilities)
    names = rows["label"].to_numpy(np.str_)
    return Predictions(tuple(rows["sample_id"]), names, expression)


def by_brightness(split: decoding.Split) -> NDArray[np.float64]:
    """A model that takes dark images for the first class and bright ones for the last."""
    batches = [batch.numpy() for batch in pipeline.evaluation_batches(split, 16)]
    bright = np.concatenate(batches).mean(axis=(1, 2, 3)) / 256
    codes = (bright * 8).astype(int)
    probabilities: NDArray[np.float64] = np.eye(8)[codes]
    return probabilities


def native(manifest: Manifest) -> list[Pixels]:
    paths = [manifest.root / path for path in manifest.split("test")["path"]]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def expected_classes(manifest: Manifest, name: str, severity: int | None) -> list[str]:
    ids = manifest.split("test")["sample_id"]
    pairs = zip(native(manifest), ids, strict=True)
    means = [corrupt(image, name, severity, key).mean() / 256 for image, key in pairs]
    return [manifest.classes[int(mean * 8)] for mean in means]


@pytest.mark.parametrize(
    "memory", some_fast([decoding.MEMORY_BYTES, 0], 0), ids=["kept", "streamed"]
)
def test_the_model_gets_every_image_corrupted(
    memory: int, manifest: Manifest, known: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY_BYTES", memory)
    chosen = select("brightness:5,gaussian_noise:3,eyes")
    frame, document = robustness.measure(manifest, "test", 24, by_brightness, chosen, known)
    assert list(frame) == ["sample_id", "gaussian_noise_3", "brightness_5", "eyes"]
    for name, severity in chosen:
        predicted = frame[column(name, severity)].tolist()
        assert predicted == expected_classes(manifest, name, severity)
    assert document == robustness.summarise(frame, known)
    assert document["n"] == 48


@pytest.mark.slow
def test_processes_and_a_thread_give_the_same(
    manifest: Manifest, known: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = select("snow:3,frost:2")
    alone, _ = robustness.measure(manifest, "test", 24, by_brightness, chosen, known)
    monkeypatch.setattr(robustness, "IMAGES_PER_PROCESS", 1)
    monkeypatch.setattr(robustness, "usable_cores", lambda: Cores(2, "as the test says"))
    together, _ = robustness.measure(manifest, "test", 24, by_brightness, chosen, known)
    pd.testing.assert_frame_equal(alone, together)


def test_progress_runs_over_all_conditions(manifest: Manifest, known: Predictions) -> None:
    calls: list[tuple[int, int]] = []
    robustness.measure(
        manifest,
        "test",
        24,
        by_brightness,
        select("occlusion"),
        known,
        lambda done, total: calls.append((done, total)),
    )
    assert calls == [(48, 96), (96, 96)]


def test_predictions_of_another_split_are_refused(manifest: Manifest, clean: Predictions) -> None:
    with pytest.raises(RunError, match=r"48.*240"):
        robustness.measure(
            manifest, "test", 24, lambda split: np.eye(3)[split.codes % 3], select("eyes"), clean
        )


# The change that the pipeline makes --------------------------------------------------------------


def first_pixel_is(index: int, image: Pixels) -> Pixels:
    changed = image.copy()
    changed[0, 0] = index
    return changed


def evaluated(split: decoding.Split) -> NDArray[np.float32]:
    return np.concatenate([batch.numpy() for batch in pipeline.evaluation_batches(split, 16)])


@pytest.mark.parametrize("memory", [decoding.MEMORY_BYTES, 0], ids=["kept", "streamed"])
def test_each_image_is_changed_with_its_own_index(
    memory: int, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY_BYTES", memory)
    split = decoding.open_split(
        manifest, "test", 24, change=lambda image, index: first_pixel_is(index, image)
    )
    images = evaluated(split)
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(48))
    np.testing.assert_array_equal(images[:, 1:], np.array(native(manifest))[:, 1:])


def test_the_change_comes_after_the_crop_and_before_the_resize(manifest: Manifest) -> None:
    samples = manifest.samples.assign(face_x=3, face_y=5, face_width=14, face_height=10)
    shapes: set[tuple[int, ...]] = set()

    def change(image: Pixels, _: int) -> Pixels:
        shapes.add(image.shape)
        return np.zeros_like(image)

    split = decoding.open_split(replace(manifest, samples=samples), "test", 20, change=change)
    assert shapes == {(10, 14, 3)}
    images = evaluated(split)
    assert images.shape == (48, 20, 20, 3)
    assert not images.any()


def test_a_broken_image_is_named_though_it_would_be_changed(copied_root: Path) -> None:
    manifest = drawn.read(copied_root)
    broken = copied_root / str(manifest.split("test")["path"].iloc[7])
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"{broken}.*cannot be decoded"):
        decoding.open_split(manifest, "test", 24, change=lambda image, _: image)


def test_a_change_that_fails_is_no_broken_image(manifest: Manifest) -> None:
    def fail(image: Pixels, _: int) -> Pixels:
        raise ZeroDivisionError("a bug in the change")

    with pytest.raises(ZeroDivisionError, match="a bug in the change"):
        decoding.open_split(manifest, "test", 24, change=fail)
