"""Corruptions: the same every time, graded, and true to the shape of the image."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import Face
from messages import says

from fer_bench.errors import ConfigError
from fer_bench.evaluation.corruptions import (
    CORRUPTIONS,
    Condition,
    column,
    conditions,
    corrupt,
    select,
)
from fer_bench.evaluation.corruptions.catalogue import EYES, MOUTH
from fer_bench.evaluation.corruptions.effects import Pixels

GRADED = [name for name, kind in CORRUPTIONS.items() if kind.family != "occlusion"]
RANDOM = [
    *("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"),
    *("snow", "frost", "fog", "elastic_transform"),
]


@pytest.fixture(scope="module")
def images(faces: list[Face]) -> list[Pixels]:
    """Eight faces, one of each expression, enlarged to 48 px."""
    return [np.asarray(face.image.resize((48, 48))) for face in faces[:8]]


@pytest.fixture(scope="module")
def image(images: list[Pixels]) -> Pixels:
    return images[0]


def change(image: Pixels, corrupted: Pixels) -> float:
    return float(np.abs(corrupted.astype(float) - image).mean())


def test_there_are_fifteen_in_five_severities_and_two_occlusions() -> None:
    assert len(GRADED) == 15
    assert len(conditions()) == len(set(conditions())) == 15 * 5 + 2


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_image_comes_out_whatever_was_done_before(name: str, images: list[Pixels]) -> None:
    severity = CORRUPTIONS[name].severities[-1]
    forth = [corrupt(image, name, severity, str(key)) for key, image in enumerate(images)]
    back = [corrupt(images[key], name, severity, str(key)) for key in reversed(range(8))]
    np.testing.assert_array_equal(forth, back[::-1])


@pytest.mark.parametrize("name", RANDOM)
def test_another_sample_seed_or_severity_draws_other_numbers(name: str, image: Pixels) -> None:
    first = corrupt(image, name, 3, "a")
    assert not np.array_equal(first, corrupt(image, name, 3, "b"))
    assert not np.array_equal(first, corrupt(image, name, 3, "a", seed=1))
    assert not np.array_equal(first, corrupt(image, name, 4, "a"))


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - set(RANDOM)))
def test_corruptions_without_randomness_are_the_same_for_every_sample(
    name: str, image: Pixels
) -> None:
    severity = CORRUPTIONS[name].severities[0]
    np.testing.assert_array_equal(
        corrupt(image, name, severity, "a"), corrupt(image, name, severity, "b", seed=5)
    )


@pytest.mark.parametrize("name", GRADED)
def test_each_severity_changes_more_than_the_one_before(name: str, images: list[Pixels]) -> None:
    # With the same random numbers at each severity, so that no luck is in the difference.
    kind = CORRUPTIONS[name]
    changes = [0.0]
    for strength in kind.strengths:
        pixels = [
            kind.function(image / np.float32(255), np.random.default_rng(seed), *strength)
            for seed, image in enumerate(images)
        ]
        changes.append(change(np.array(images), np.clip(np.array(pixels), 0, 1) * 255))
    assert all(low < high for low, high in itertools.pairwise(changes))
    assert changes[1] > 1


@pytest.mark.parametrize("name", GRADED)
def test_the_worst_severity_still_shows_something(name: str, images: list[Pixels]) -> None:
    for key, image in enumerate(images):
        assert corrupt(image, name, 5, str(key)).std() > 1


@pytest.mark.parametrize("name", CORRUPTIONS)
@settings(max_examples=12)
@given(data=st.data())
def test_shape_and_type_are_kept_at_any_size(name: str, data: st.DataObject) -> None:
    severity = data.draw(st.sampled_from(CORRUPTIONS[name].severities))
    height, width = data.draw(st.tuples(st.integers(20, 70), st.integers(20, 70)))
    channels = data.draw(st.sampled_from([1, 3]))
    seed = data.draw(st.integers(0, 9))
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    before = noise.copy()
    corrupted = corrupt(noise, name, severity, "key")
    assert corrupted.shape == noise.shape
    assert corrupted.dtype == np.uint8
    np.testing.assert_array_equal(noise, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_large_oblong_images_can_be_corrupted(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (500, 260, 1), np.uint8)
    corrupted = corrupt(image, name, CORRUPTIONS[name].severities[0], "key")
    assert corrupted.shape == (500, 260, 1)
    assert change(image, corrupted) > 1


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_and_white_images_make_no_trouble(name: str, value: int) -> None:
    image = np.full((30, 24, 3), value, np.uint8)
    for severity in CORRUPTIONS[name].severities:
        assert corrupt(image, name, severity, "key").shape == image.shape


@pytest.mark.parametrize(
    "name", sorted(set(GRADED) - {"gaussian_noise", "shot_noise", "impulse_noise"})
)
def test_a_grey_image_of_three_channels_stays_grey(name: str, image: Pixels) -> None:
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    corrupted = corrupt(grey, name, 3, "key").astype(int)
    # JPEG rounds its colour channels.
    assert np.abs(corrupted - corrupted[:, :, :1]).max() <= 2


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur"])
def test_a_blur_keeps_the_light_and_lowers_the_contrast(name: str, image: Pixels) -> None:
    blurred = corrupt(image, name, 5, "key")
    assert blurred.mean() == pytest.approx(image.mean(), rel=0.05)
    assert blurred.std() < image.std()


@pytest.mark.parametrize("name", ["defocus_blur", "elastic_transform"])
def test_lengths_grow_with_the_image(name: str, image: Pixels) -> None:
    # The same face four times as large: the same part of it is blurred or moved.
    large = image.repeat(4, axis=0).repeat(4, axis=1)
    small_change = change(image, corrupt(image, name, 5, "key"))
    large_change = change(large, corrupt(large, name, 5, "key"))
    assert large_change == pytest.approx(small_change, rel=0.35)


@pytest.mark.parametrize(("name", "place"), [("eyes", EYES), ("mouth", MOUTH)])
def test_an_occlusion_covers_its_band_and_nothing_else(
    name: str, place: tuple[float, ...], image: Pixels
) -> None:
    top, bottom, left, right = (round(48 * share) for share in place)
    covered = corrupt(image, name, None, "key")
    assert (covered[top:bottom, left:right] == 128).all()
    elsewhere = np.ones((48, 48), bool)
    elsewhere[top:bottom, left:right] = False
    np.testing.assert_array_equal(covered[elsewhere], image[elsewhere])


def test_the_occlusions_lie_apart() -> None:
    assert EYES[1] < MOUTH[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fog:3", [("fog", 3)]),
        ("eyes", [("eyes", None)]),
        ("fog", [("fog", severity) for severity in range(1, 6)]),
        ("mouth, fog:2,fog:1 ,fog:2", [("fog", 1), ("fog", 2), ("mouth", None)]),
        ("noise:5", [("gaussian_noise", 5), ("shot_noise", 5), ("impulse_noise", 5)]),
        ("occlusion", [("eyes", None), ("mouth", None)]),
        ("all:1", [(name, 1) for name in GRADED]),
        ("all", conditions()),
        ("blur,all", conditions()),
    ],
)
def test_conditions_are_chosen_by_name(text: str, expected: list[Condition]) -> None:
    assert select(text) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("frog", ("'frog'", "Did you mean 'fog'")),
        ("wether", ("'wether'", "Did you mean 'weather'")),
        ("fog,,eyes", ("''", "jpeg_compression")),
        ("", ("''", "jpeg_compression")),
        ("fog:6", ("'fog'", "'6'", "1 to 5")),
        ("fog:", ("'fog'", "''", "1 to 5")),
        ("fog:two", ("'fog'", "'two'", "1 to 5")),
        ("eyes:3", ("'eyes'", "'3'", "alone")),
        ("eyes:None", ("'eyes'", "'None'", "alone")),
        ("occlusion:3", ("'occlusion'", "'3'")),
    ],
)
def test_a_wrong_name_is_explained(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        select(text)
    says(error.value, *parts)


@pytest.mark.parametrize(("name", "severity"), [("fog", None), ("fog", 0), ("eyes", 1)])
def test_a_severity_that_is_not_there_is_refused(
    name: str, severity: int | None, image: Pixels
) -> None:
    with pytest.raises(ConfigError, match=name):
        corrupt(image, name, severity, "key")


def test_every_condition_has_a_column_of_its_own() -> None:
    names = [column(*condition) for condition in conditions()]
    assert len(set(names)) == len(names)
    assert {"fog_3", "eyes"} < set(names)
