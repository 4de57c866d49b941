"""The figure of which layers train in which stage: its colours are checked."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiers import some_fast

from fer_bench.models.summary import FreezePlan
from fer_bench.report.figures.freezing import FROZEN, NORM, TRAINS, freeze_plan


def plan(
    layers: int, frees: list[int], *, decay: float = 1.0, norms: bool = False, has_neck: bool = True
) -> FreezePlan:
    """One stage per number of free layers; every third layer is a BatchNorm, frozen if `norms`."""
    is_norm = np.arange(layers) % 3 == 1
    scales = np.zeros((len(frees), layers))
    for row, free in enumerate(frees):
        scales[row, layers - free :] = decay ** np.arange(free, 0, -1)
        if norms:
            scales[row, is_norm] = 0
    blocks = ["", *(f"block{1 + 7 * layer // layers}" for layer in range(layers - 1))]
    return FreezePlan(
        tuple(f"layer_{layer}" for layer in range(layers)),
        tuple(blocks),
        is_norm,
        scales,
        tuple(
            {"name": f"stage {row}", "learning_rate": 0.1**row, "layers": free}
            for row, free in enumerate(frees)
        ),
        has_neck,
    )


def drawn(freezing: FreezePlan, path: Path) -> NDArray[np.int64]:
    """The pixels of the figure, each as one number."""
    freeze_plan(freezing, "some experiment", path)
    with Image.open(path) as image:
        assert (image.format, image.width) == ("PNG", 1650)
        colours: NDArray[np.int64] = np.asarray(image.convert("RGB")).astype(np.int64)
    return colours[..., 0] * 65536 + colours[..., 1] * 256 + colours[..., 2]


def count(pixels: NDArray[np.int64], colour: str) -> int:
    return int((pixels == int(colour[1:], 16)).sum())


def areas(pixels: NDArray[np.int64]) -> int:
    """The number of colours with a larger area than a letter."""
    return int((np.unique(pixels, return_counts=True)[1] > 2000).sum())


@pytest.mark.parametrize("layers", some_fast([20, 1028], 20))
def test_trained_layers_have_their_share_of_the_area(layers: int, tmp_path: Path) -> None:
    frees = [0, layers // 4, layers]
    together = drawn(plan(layers, frees), tmp_path / "new" / "together.png")
    head = drawn(plan(layers, [0, 0, 0]), tmp_path / "head.png")
    trains = count(together, TRAINS) - count(head, TRAINS)
    assert trains / (trains + count(together, FROZEN)) == pytest.approx(1.25 / 3, rel=0.05)
    assert count(together, NORM) == 0


@pytest.mark.slow
@pytest.mark.parametrize("layers", some_fast([20, 1028], 20))
def test_frozen_norms_are_marked_only_where_others_train(layers: int, tmp_path: Path) -> None:
    without = drawn(plan(layers, [0, 0], norms=True), tmp_path / "a.png")
    some = drawn(plan(layers, [0, layers // 2], norms=True), tmp_path / "b.png")
    more = drawn(plan(layers, [layers, layers], norms=True), tmp_path / "c.png")
    assert count(without, NORM) == 0
    assert 0 < 2 * count(some, NORM) < count(more, NORM)


@pytest.mark.slow
def test_layer_decay_has_colours_and_a_bar(tmp_path: Path) -> None:
    plain = drawn(plan(20, [20]), tmp_path / "plain.png")
    decayed = drawn(plan(20, [20], decay=0.8), tmp_path / "decayed.png")
    assert areas(decayed) >= areas(plain) + 15


@pytest.mark.parametrize("decay", some_fast([0.99, 0.5], 0.5))
def test_a_very_weak_or_strong_decay_can_be_drawn(decay: float, tmp_path: Path) -> None:
    pixels = drawn(plan(1028, [3, 1028], decay=decay, norms=True), tmp_path / "plan.png")
    assert count(pixels, NORM) > 0


@pytest.mark.slow
def test_many_stages_without_blocks_can_be_drawn(tmp_path: Path) -> None:
    many = plan(49, list(range(0, 48, 4)), has_neck=False)
    unnamed = FreezePlan(
        many.layers, ("",) * 49, many.norms, many.scales, many.stages, many.has_neck
    )
    freeze_plan(unnamed, "a very long title " * 12, tmp_path / "plan.png")
    with Image.open(tmp_path / "plan.png") as image:
        assert image.height > 900
