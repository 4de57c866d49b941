"""Predictions as they are written, read back and checked."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import says

from fer_bench.errors import RunError
from fer_bench.metrics import document, measure
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.runs import predictions
from fer_bench.runs.predictions import read_predictions

CLASSES = ("neutral", "happiness", "sadness", "surprise")
AXES = ("valence", "arousal")


def random_predictions(n: int = 60, expression: bool = True, axes: bool = False) -> Predictions:
    """Random predictions of what is asked for; some true values of an axis are unknown."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, n)
    probabilities = random.dirichlet(np.ones(4), size=n)
    true = random.uniform(-1, 1, (n, 2))
    true[::7, 1] = np.nan
    return Predictions(
        sample_ids=tuple(f"sample{index:05d}" for index in range(n)),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, probabilities.argmax(axis=1), probabilities)
        if expression
        else None,
        valence_arousal=ValenceArousal(true, random.uniform(-1, 1, (n, 2))) if axes else None,
    )


def as_table(predictions: Predictions) -> pd.DataFrame:
    """The table that a run saves."""
    table = pd.DataFrame({"sample_id": predictions.sample_ids, "label": predictions.label_names})
    expression, axes = predictions.expression, predictions.valence_arousal
    if expression:
        table["predicted"] = np.array(CLASSES)[expression.predicted]
        table[[f"p_{name}" for name in CLASSES]] = expression.probabilities
    if axes:
        table[list(AXES)] = axes.true
        table[[f"{axis}_predicted" for axis in AXES]] = axes.predicted
    return table


@pytest.mark.parametrize(("expression", "axes"), [(True, False), (False, True), (True, True)])
def test_reading_gives_back_what_was_written(expression: bool, axes: bool, tmp_path: Path) -> None:
    written = random_predictions(expression=expression, axes=axes)
    as_table(written).to_csv(tmp_path / "test.csv", index=False)
    found = read_predictions(tmp_path / "test.csv")
    assert found.fingerprint == written.fingerprint
    assert bool(found.expression) == expression
    assert bool(found.valence_arousal) == axes
    pd.testing.assert_frame_equal(as_table(found), as_table(written), rtol=0, atol=1e-12)
    if found.expression and written.expression:
        assert found.expression.classes == CLASSES
        np.testing.assert_array_equal(found.expression.labels, written.expression.labels)


def test_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    table = as_table(random_predictions(axes=True))
    documents = []
    for name, rows in (("straight", table), ("shuffled", table.sample(frac=1, random_state=1))):
        rows.to_csv(tmp_path / name, index=False)
        documents.append(document.compute(read_predictions(tmp_path / name), resamples=20))
    assert documents[0] == documents[1]


@given(st.permutations(range(12)))
@settings(max_examples=30)
def test_fingerprint_is_about_ids_and_labels_only(order: list[int]) -> None:
    first = random_predictions(n=12)
    turned = Predictions(
        sample_ids=tuple(first.sample_ids[index] for index in order),
        label_names=first.label_names[order],
        valence_arousal=ValenceArousal(np.zeros((12, 2)), np.zeros((12, 2))),
    )
    assert turned.fingerprint == first.fingerprint
    relabelled = Predictions(first.sample_ids, np.roll(first.label_names, 1), first.expression)
    assert relabelled.fingerprint != first.fingerprint


@pytest.mark.parametrize(("expression", "axes"), [(True, False), (False, True), (True, True)])
def test_a_selection_keeps_what_belongs_together(expression: bool, axes: bool) -> None:
    whole = random_predictions(expression=expression, axes=axes)
    keep = np.random.default_rng(1).random(60) < 0.4
    selected = whole.select(keep)
    expected = as_table(whole)[keep].reset_index(drop=True)
    pd.testing.assert_frame_equal(as_table(selected), expected)
    assert selected.fingerprint != whole.fingerprint
    assert whole.select(np.ones(60, dtype=bool)).fingerprint == whole.fingerprint
    if whole.expression and selected.expression:
        np.testing.assert_array_equal(selected.expression.labels, whole.expression.labels[keep])
        assert selected.expression.classes == CLASSES


def test_numbers_written_in_any_way_are_read_alike(tmp_path: Path) -> None:
    table = as_table(random_predictions(axes=True))
    table.to_csv(tmp_path / "plain.csv", index=False)
    columns = [str(name) for name in table.select_dtypes(float)]
    table[columns] = table[columns].map(lambda value: f"{value:.17e}")
    table.to_csv(tmp_path / "powers.csv", index=False)
    # Text in one cell has the whole file read as text.
    table["remark"], table["valence"] = "nan", table["valence"].replace("nan", "")
    table.to_csv(tmp_path / "text.csv", index=False, quoting=csv.QUOTE_ALL)
    plain, powers, text = (
        as_table(read_predictions(tmp_path / f"{name}.csv")) for name in ("plain", "powers", "text")
    )
    pd.testing.assert_frame_equal(powers, plain, rtol=0, atol=1e-15)
    pd.testing.assert_frame_equal(text, plain, rtol=0, atol=1e-15)


def test_classes_may_be_known_that_no_label_shows(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("sample_id,label,predicted,p_a,p_b,p_c\nx,a,c,0.1,0.1,0.8\n")
    found = read_predictions(path)
    assert found.expression
    assert found.expression.classes == ("a", "b", "c")
    assert measure.values(found)["macro_f1"] == 0


def test_ids_stay_as_written_and_rounding_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(
        "sample_id,label,predicted,p_none,p_fear,usage\n"
        "007,none,none,0.6667,0.3334,0.1\n"
        "NA,fear,none,0.5,0.5,\n"
    )
    found = read_predictions(path)
    assert found.sample_ids == ("007", "NA")
    assert found.expression
    assert found.expression.classes == ("none", "fear")
    np.testing.assert_allclose(found.expression.probabilities.sum(axis=1), 1, atol=1e-15)


VALENCE_AROUSAL = "sample_id,label,valence,arousal,valence_predicted,arousal_predicted\n"


def test_a_true_value_may_be_unknown_and_rounding_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(f"{VALENCE_AROUSAL}x,a,,-1.0000001,1.0000001,0\ny,b,nan,0.5,0,-0.5\n")
    axes = read_predictions(path).valence_arousal
    assert axes
    np.testing.assert_array_equal(axes.true, [[np.nan, -1], [np.nan, 0.5]])
    np.testing.assert_array_equal(axes.predicted, [[1, 0], [0, -0.5]])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sample_id,label,p_a,p_b\nx,a,1,0\n", ["predicted", "sample_id, label, p_a, p_b"]),
        ("sample_id,label,predicted,p_a\nx,a,a,1\n", ["p_<class>", "p_a"]),
        ("sample_id,label,predicted,p_a,p_b\n", ["no rows"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1,0\nx,a,a,1,0\n", ["1 sample", "'x'"]),
        ("sample_id,label,predicted,p_a,p_b\nx,c,a,1,0\n", ["label 'c'", "a, b"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,,1,0\n", ["predicted ''", "a, b"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,nan,0\n", ["'x'", "p_a is 'nan'"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1.5,-0.5\n", ["'x'", "p_a is '1.5'", "[0, 1]"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1,\n", ["'x'", "p_b is ''"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,0.7,0.2\n", ["1 samples", "'x'", "0.9000"]),
        ("sample_id,label,predicted,p_a,p_b\nx,a,b,0.7,0.3\n", ["1 samples", "'x'", "'b'"]),
        ("sample_id,label\nx,a\n", ["predicted", "sample_id, label"]),
        (
            "sample_id,label,valence,predicted\nx,a,0,a\n",
            ["valence_predicted, arousal_"],
        ),
        (f"{VALENCE_AROUSAL}x,a,0,0,0,0\n".replace("label", "name"), ["label"]),
        (VALENCE_AROUSAL.replace(",arousal_predicted", "") + "x,a,0,0,0\n", ["arousal_pre"]),
        (
            VALENCE_AROUSAL.replace("valence,arousal,", "p_a,p_b,") + "x,a,1,0,0,0\n",
            ["predicted"],
        ),
        (f"{VALENCE_AROUSAL}x,a,0,0,0,0\nx,b,0,0,0,0\n", ["1 sample", "'x'"]),
        (VALENCE_AROUSAL, ["no rows"]),
        (f"{VALENCE_AROUSAL}x,a,0,-1.1,0,0\n", ["'x'", "arousal is '-1.1'", "[-1, 1]"]),
        (f"{VALENCE_AROUSAL}x,a,low,0,0,0\n", ["'x'", "valence is 'low'", "[-1, 1]"]),
        (f"{VALENCE_AROUSAL}x,a,0,0,,0\n", ["'x'", "valence_predicted is ''"]),
        (f"{VALENCE_AROUSAL}x,a,0,0,0,inf\n", ["'x'", "arousal_predicted is 'inf'"]),
        ("", ["table"]),
        ('sample_id,label\n"x', ["table"]),
    ],
)
def test_a_wrong_file_is_explained(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(RunError) as raised:
        read_predictions(path)
    says(raised.value, f"{path}: ", *parts, f"fer evaluate {path.parent.parent.name}")


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        read_predictions(tmp_path / "test.csv")
    says(raised.value, tmp_path / "test.csv", "No such file")


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "LARGEST_BYTES", 10)
    (tmp_path / "test.csv").write_text("sample_id,label\n")
    with pytest.raises(RunError) as raised:
        read_predictions(tmp_path / "test.csv")
    says(raised.value, tmp_path / "test.csv", "16 bytes", 10)
