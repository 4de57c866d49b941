"""The description of a dataset: sizes of images, histograms, attributes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_bench.data.datasets import drawn
from fer_bench.data.manifest import Manifest, Problem
from fer_bench.data.summary import describe

CONTRACT = ["dataset", "release", "fingerprint", "classes", "counts", "dropped", "problems"]


@pytest.fixture
def manifest(copied_root: Path) -> Manifest:
    return drawn.read(copied_root)


def test_it_begins_with_the_keys_of_the_contract(manifest: Manifest) -> None:
    problem = Problem("label_disagreement", "error", 2, ("a", "b"), "two labels differ")
    document = describe(replace(manifest, problems=(problem,), dropped={"hidden": 3}))
    assert list(document)[:7] == CONTRACT
    assert document["counts"] == manifest.counts()
    assert document["fingerprint"] == manifest.fingerprint
    assert document["dropped"] == {"hidden": 3}
    (found,) = document["problems"]
    assert (found["kind"], found["severity"], found["count"], found["examples"]) == (
        *("label_disagreement", "error", 2),
        ["a", "b"],
    )


def test_image_sizes_are_counted_and_broken_files_are_unreadable(manifest: Manifest) -> None:
    first, second = (manifest.root / path for path in manifest.samples["path"].iloc[:2])
    Image.new("RGB", (31, 17)).save(first)
    second.write_bytes(b"")
    assert describe(manifest)["image_sizes"] == {"24x24": 142, "31x17": 1, "unreadable": 1}


def test_two_faces_of_one_photograph_are_one_image(manifest: Manifest) -> None:
    samples = manifest.samples.assign(path=manifest.samples["path"].iloc[0])
    assert describe(replace(manifest, samples=samples))["image_sizes"] == {"24x24": 1}


def test_histograms_count_what_is_known(manifest: Manifest) -> None:
    valence = np.full(len(manifest.samples), np.nan)
    valence[:3] = [-1, 0.25, 1]
    document = describe(replace(manifest, samples=manifest.samples.assign(valence=valence)))
    histogram = document["valence"]
    assert (histogram["known"], histogram["missing"]) == (3, len(valence) - 3)
    assert histogram["mean"] == pytest.approx(0.25 / 3)
    assert (histogram["edges"][0], histogram["edges"][-1]) == (-1, 1)
    filled = {low: n for low, n in zip(histogram["edges"], histogram["counts"], strict=False) if n}
    assert filled == {-1: 1, 0.2: 1, 0.9: 1}
    assert document["arousal"]["known"] == len(valence)


def test_without_any_value_the_mean_is_null(manifest: Manifest) -> None:
    document = describe(replace(manifest, samples=manifest.samples.assign(valence=np.nan)))
    assert document["valence"]["mean"] is None


def test_attributes_are_counted(manifest: Manifest) -> None:
    gender = pd.Series(["female", "male", None] * (len(manifest.samples) // 3))
    document = describe(replace(manifest, samples=manifest.samples.assign(gender=gender)))
    assert document["attributes"] == {"gender": {"female": 48, "male": 48}}
