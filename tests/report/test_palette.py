"""The palette: classes are distinguishable on any page and with colour-vision deficiencies.

Deficiencies after Machado, Oliveira and Fernandes (2009), of full severity; distances in CIE Lab.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_bench.labels import EXPRESSIONS
from fer_bench.report.palette import CLASSES, class_colours

DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE, DARK = "#ffffff", "#14181c"
Colour = NDArray[np.float64]


def linear(colour: str) -> Colour:
    shares = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(colour: Colour) -> Colour:
    share = TO_XYZ @ np.clip(colour, 0, 1) / [0.95047, 1, 1.08883]
    root = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    x, y, z = root
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it: 1 for the same, 21 for black on white."""
    dark, light = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_every_two_classes_are_distinguishable(deficiency: str) -> None:
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = {name: lab(matrix @ linear(c)) for name, c in CLASSES.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


@pytest.mark.parametrize("colour", CLASSES.values())
def test_every_colour_is_visible_on_a_white_and_on_a_dark_page(colour: str) -> None:
    assert contrast(colour, WHITE) > 2.2
    assert contrast(colour, DARK) > 3


def test_every_expression_has_its_own_colour() -> None:
    assert set(CLASSES) == set(EXPRESSIONS)
    assert len(set(CLASSES.values())) == len(CLASSES)


@given(st.lists(st.sampled_from([*EXPRESSIONS, "calm", "bored", "sleepy"]), unique=True))
def test_a_class_keeps_its_colour_beside_any_other(names: list[str]) -> None:
    colours = class_colours(names)
    assert list(colours) == names
    for name in names:
        assert colours[name] == CLASSES.get(name, colours[name])
    if len(names) <= len(CLASSES):
        assert len(set(colours.values())) == len(names)
