"""A model on a dataset with other classes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.evaluation.cross_dataset import answers, restricted, shared_classes
from fer_bench.labels import EXPRESSIONS


def manifest(*labels: str) -> Manifest:
    classes = tuple(name for name in EXPRESSIONS if name in labels)
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(labels))], "label": labels})
    samples = frame.assign(path="x", split="test")
    return Manifest("other", "v1", Path("data"), classes, 3, samples)


def test_what_the_model_does_not_know_is_left_out_and_counted() -> None:
    other = manifest("fear", "anger", "contempt", "fear", "contempt")
    shared = shared_classes(("neutral", "fear", "anger"), other)
    assert shared == ("fear", "anger")
    kept = restricted(other, shared)
    assert kept.classes == ("fear", "anger")
    assert list(kept.samples["sample_id"]) == ["s0", "s1", "s3"]
    assert list(kept.split("test").index) == [0, 1, 2]
    assert kept.dropped == {"class unknown to the model": 2}


def test_one_common_class_is_too_few() -> None:
    with pytest.raises(DataError, match=r"fear, contempt; the model has neutral"):
        shared_classes(("neutral", "fear"), manifest("fear", "contempt"))


KNOWN = ("neutral", "fear", "anger")


def test_intersection_leaves_every_answer() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1]])
    classes, kept = answers(probabilities, KNOWN, ("fear", "anger"), "intersection")
    assert classes == KNOWN
    np.testing.assert_array_equal(kept, probabilities)


@given(st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=1, max_size=5))
def test_masking_is_softmax_of_the_logits_that_stay(logits: list[list[float]]) -> None:
    classes, kept = answers(softmax(logits, axis=1), KNOWN, ("fear", "anger"), "mask_logits")
    assert classes == ("fear", "anger")
    np.testing.assert_allclose(kept, softmax(np.array(logits)[:, 1:], axis=1), rtol=1e-9)


def test_certainty_of_a_masked_class_still_gives_a_prediction() -> None:
    _, kept = answers(np.array([[1.0, 0.0, 0.0]]), KNOWN, ("fear", "anger"), "mask_logits")
    np.testing.assert_allclose(kept, [[0.5, 0.5]])
