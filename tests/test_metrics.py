"""Metrics against scikit-learn, against printed tables, and by their laws."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from fer_bench import metrics
from fer_bench.errors import RunError
from fer_bench.metrics import Predictions, Weighted
from fer_bench.statistics import stratified_weights

NAMES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def make(labels: Any, probabilities: Any) -> Predictions:
    """Predictions of the most probable class."""
    matrix = np.asarray(probabilities, dtype=float)
    return Predictions(
        sample_ids=tuple(f"sample{index:05d}" for index in range(len(labels))),
        classes=NAMES[: matrix.shape[1]],
        labels=np.asarray(labels, dtype=np.int64),
        predicted=matrix.argmax(axis=1),
        probabilities=matrix,
    )


def random_predictions(
    seed: int, n: int = 60, classes: int = 4, *, ties: bool = False, absent: int = 0
) -> Predictions:
    """Random predictions; the last `absent` classes have no label."""
    random = np.random.default_rng(seed)
    present = classes - absent
    labels = np.concatenate([np.arange(present), random.integers(0, present, n - present)])
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1
    if ties:
        logits = logits.round(0)
    return make(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def from_matrix(matrix: np.ndarray[Any, Any]) -> Predictions:
    """Certain predictions with the given confusion matrix."""
    pairs = [
        pair for pair, count in np.ndenumerate(matrix.astype(int)) for pair in [pair] * int(count)
    ]
    labels, predicted = np.array(pairs).T
    return make(labels, np.eye(len(matrix))[predicted])


def with_weights(predictions: Predictions, weights: np.ndarray[Any, Any]) -> Predictions:
    """Each sample physically repeated as often as its weight says."""
    rows = np.repeat(np.arange(len(predictions)), weights.astype(int))
    return make(predictions.labels[rows], predictions.probabilities[rows])


def sklearn_values(predictions: Predictions) -> dict[str, float]:
    """The headline metrics that scikit-learn has; every class must occur in the labels."""
    true, predicted, probabilities = (
        predictions.labels,
        predictions.predicted,
        predictions.probabilities,
    )
    codes = range(len(predictions.classes))
    f1 = {
        average: sklearn_metrics.f1_score(
            true, predicted, labels=codes, average=average, zero_division=0
        )
        for average in ("macro", "weighted")
    }
    aucs = [sklearn_metrics.roc_auc_score(true == code, probabilities[:, code]) for code in codes]
    if len(codes) > 2:
        macro = sklearn_metrics.roc_auc_score(true, probabilities, multi_class="ovr")
        assert macro == pytest.approx(np.mean(aucs))
    return {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(true, predicted),
        "macro_f1": f1["macro"],
        "weighted_f1": f1["weighted"],
        "kappa": sklearn_metrics.cohen_kappa_score(true, predicted, labels=codes),
        "roc_auc_macro": float(np.mean(aucs)),
        "nll": sklearn_metrics.log_loss(true, probabilities, labels=codes),
        "brier": sklearn_metrics.brier_score_loss(
            true, probabilities, labels=codes, scale_by_half=False
        ),
    }


def plain_ece(predictions: Predictions) -> float:
    """Expected calibration error, bin by bin."""
    confidence = predictions.probabilities.max(axis=1)
    error = 0.0
    for upper in range(1, 16):
        inside = (confidence > (upper - 1) / 15) & (confidence <= upper / 15)
        if inside.any():
            gap = predictions.correct[inside].mean() - confidence[inside].mean()
            error += inside.mean() * abs(gap)
    return error


# Values ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.booleans())
@settings(deadline=None, max_examples=40)
def test_values_are_those_of_scikit_learn(seed: int, classes: int, ties: bool) -> None:
    predictions = random_predictions(seed, n=40, classes=classes, ties=ties)
    values = metrics.values(predictions)
    assert values == pytest.approx(
        {**sklearn_values(predictions), "ece": plain_ece(predictions)}, abs=1e-9
    )


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_by_class_values_are_those_of_scikit_learn(seed: int) -> None:
    predictions = random_predictions(seed, ties=True, absent=1)
    expected = np.array(
        sklearn_metrics.precision_recall_fscore_support(
            predictions.labels, predictions.predicted, labels=range(4), zero_division=0
        )
    ).T
    by_class = metrics.per_class(predictions)
    found = [
        [entry[part] for part in ("precision", "recall", "f1", "support")] for entry in by_class
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for code, entry in enumerate(by_class[:-1]):
        scores = predictions.probabilities[:, code]
        auc = sklearn_metrics.roc_auc_score(predictions.labels == code, scores)
        assert entry["auc"] == pytest.approx(auc)
    assert by_class[-1]["auc"] is None


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    predictions = random_predictions(0)
    expected = sklearn_metrics.confusion_matrix(predictions.labels, predictions.predicted)
    np.testing.assert_array_equal(metrics.confusion_matrix(predictions), expected)


def test_absent_classes_follow_the_stated_rule() -> None:
    predictions = random_predictions(1, classes=5, absent=2)
    values = metrics.values(predictions)
    present = metrics.per_class(predictions)[:3]
    by_class = metrics.per_class(predictions)
    assert values["balanced_accuracy"] == pytest.approx(np.mean([c["recall"] for c in present]))
    assert values["roc_auc_macro"] == pytest.approx(np.mean([c["auc"] for c in present]))
    assert values["macro_f1"] == pytest.approx(np.mean([c["f1"] for c in by_class]))
    assert all(c["f1"] == 0 for c in by_class[3:])


def test_what_is_undefined_is_null() -> None:
    document = metrics.compute(make([1, 1, 1], [[0.1, 0.9]] * 3), resamples=20)
    nothing = {"value": None, "low": None, "high": None}
    assert document["kappa"] == nothing
    assert document["roc_auc_macro"] == nothing
    assert document["accuracy"]["value"] == 1
    json.dumps(document, allow_nan=False)


def test_a_certain_mistake_costs_a_finite_likelihood() -> None:
    predictions = make([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    expected = sklearn_metrics.log_loss(predictions.labels, predictions.probabilities)
    assert metrics.values(predictions)["nll"] == pytest.approx(expected)


# Printed tables of prior work ------------------------------------------------------------------

SUPPORT = (49, 39, 34, 43, 51, 35, 55)
# Correct and predicted counts by class; printed accuracy, macro F1, weighted F1 and, by class,
# precision, recall and F1.
PRINTED: dict[str, tuple[Any, ...]] = {
    "plain CNN": (
        (16, 25, 8, 18, 17, 9, 23),
        (52, 49, 45, 40, 46, 35, 39),
        (0.3791, 0.374, 0.3824, 0.3803, 0.3943),
        (0.3077, 0.5102, 0.1778, 0.45, 0.3696, 0.2571, 0.5897),
        (0.3265, 0.641, 0.2353, 0.4186, 0.3333, 0.2571, 0.4182),
        (0.3168, 0.5682, 0.2025, 0.4337, 0.3505, 0.2571, 0.4894),
    ),
    "early stopping": (
        (16, 27, 8, 19, 15, 8, 24),
        (52, 48, 45, 45, 40, 38, 38),
        (0.3824, 0.3767, 0.3858, 0.3839, 0.4001),
        (0.3077, 0.5625, 0.1778, 0.4222, 0.375, 0.2105, 0.6316),
        (0.3265, 0.6923, 0.2353, 0.4419, 0.2941, 0.2286, 0.4364),
        (0.3168, 0.6207, 0.2025, 0.4318, 0.3297, 0.2192, 0.5161),
    ),
    # The accuracy printed for this one, 0.3481, is its macro precision; 105 of 306 is 0.3431.
    "augmentation": (
        (9, 25, 5, 15, 16, 7, 28),
        (46, 51, 42, 42, 52, 37, 36),
        (0.3431, 0.3357, 0.35, 0.3481, 0.3699),
        (0.1957, 0.4902, 0.119, 0.3571, 0.3077, 0.1892, 0.7778),
        (0.1837, 0.641, 0.1471, 0.3488, 0.3137, 0.2, 0.5091),
        (0.1895, 0.5556, 0.1316, 0.3529, 0.3107, 0.1944, 0.6154),
    ),
    "augmentation and dropout": (
        (6, 17, 6, 29, 10, 9, 28),
        (22, 54, 39, 72, 25, 52, 42),
        (0.3431, 0.3215, 0.3341, 0.3406, 0.3638),
        (0.2727, 0.3148, 0.1538, 0.4028, 0.4, 0.1731, 0.6667),
        (0.1224, 0.4359, 0.1765, 0.6744, 0.1961, 0.2571, 0.5091),
        (0.169, 0.3656, 0.1644, 0.5043, 0.2632, 0.2069, 0.5773),
    ),
    # One prediction of this table fell on a class with nothing correct; which one changes nothing.
    "dropout and L2": (
        (0, 1, 29, 0, 8, 0, 0),
        (1, 6, 258, 0, 41, 0, 0),
        (0.1242, 0.0596, 0.0567, 0.0677, 0.0663),
        (0, 0.1667, 0.1124, 0, 0.1951, 0, 0),
        (0, 0.0256, 0.8529, 0, 0.1569, 0, 0),
        (0, 0.0444, 0.1986, 0, 0.1739, 0, 0),
    ),
    "VGG16 frozen": (
        (11, 28, 7, 22, 21, 18, 35),
        (37, 56, 28, 36, 34, 71, 44),
        (0.4641, 0.4527, 0.4677, 0.475, 0.4999),
        (0.2973, 0.5, 0.25, 0.6111, 0.6176, 0.2535, 0.7955),
        (0.2245, 0.7179, 0.2059, 0.5116, 0.4118, 0.5143, 0.6364),
        (0.2558, 0.5895, 0.2258, 0.557, 0.4941, 0.3396, 0.7071),
    ),
    "VGG16 fine-tuned": (
        (8, 29, 8, 22, 30, 18, 39),
        (28, 49, 27, 31, 63, 55, 53),
        (0.5033, 0.4818, 0.4933, 0.489, 0.5029),
        (0.2857, 0.5918, 0.2963, 0.7097, 0.4762, 0.3273, 0.7358),
        (0.1633, 0.7436, 0.2353, 0.5116, 0.5882, 0.5143, 0.7091),
        (0.2078, 0.6591, 0.2623, 0.5946, 0.5263, 0.4, 0.7222),
    ),
}


def matrix_with(diagonal: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> Any:
    """Some matrix of counts with this diagonal and these sums.

    Mistakes are handed out greedily, the fullest row first and into the fullest columns, which
    leaves nothing over as long as any such matrix exists for these inputs (checked below).
    """
    matrix = np.diag(diagonal)
    missing_rows = np.array(rows) - diagonal
    missing_columns = np.array(columns) - diagonal
    while missing_rows.sum():
        # The class with the most row and column mistakes together is the hardest to place.
        hardest = int(np.argmax(missing_rows + missing_columns))
        if missing_rows[hardest]:
            allowed = np.where(np.arange(len(rows)) == hardest, -1, missing_columns)
            row, column = hardest, int(np.argmax(allowed))
        else:
            row, column = int(np.argmax(missing_rows)), hardest
        matrix[row, column] += 1
        missing_rows[row] -= 1
        missing_columns[column] -= 1
    return matrix


@pytest.mark.parametrize("name", PRINTED)
def test_printed_tables_are_reproduced(name: str) -> None:
    correct, predicted, summary, precision, recall, f1 = PRINTED[name]
    matrix = matrix_with(correct, SUPPORT, predicted)
    assert (matrix >= 0).all()
    assert tuple(matrix.sum(axis=1)) == SUPPORT
    assert tuple(matrix.sum(axis=0)) == predicted
    predictions = from_matrix(matrix)
    by_class = pd.DataFrame(metrics.per_class(predictions))
    np.testing.assert_allclose(by_class["precision"], precision, atol=5.1e-5)
    np.testing.assert_allclose(by_class["recall"], recall, atol=5.1e-5)
    np.testing.assert_allclose(by_class["f1"], f1, atol=5.1e-5)
    values = metrics.values(predictions)
    found = (
        values["accuracy"],
        values["macro_f1"],
        values["weighted_f1"],
        by_class["precision"].mean(),
        np.average(by_class["precision"], weights=by_class["support"]),
    )
    assert found == pytest.approx(summary, abs=5.1e-5)


# Weights and resamples -------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=15)
def test_a_weighted_metric_is_the_metric_of_repeated_rows(seed: int, ties: bool) -> None:
    predictions = random_predictions(seed, ties=ties)
    weights = stratified_weights(predictions.labels, 3, seed)
    weighted = Weighted(predictions, weights)
    found = {name: metric(weighted) for name, metric in metrics.METRICS.items()}
    for index in range(3):
        repeated = with_weights(predictions, weights[index])
        expected = {**sklearn_values(repeated), "ece": plain_ece(repeated)}
        assert {name: drawn[index] for name, drawn in found.items()} == pytest.approx(
            expected, abs=1e-9
        )


def test_resamples_do_not_depend_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = random_predictions(0)
    whole = metrics.resampled([predictions], resamples=11)[0]
    monkeypatch.setattr(metrics, "_WEIGHTS_AT_A_TIME", 3 * len(predictions))
    parts = metrics.resampled([predictions], resamples=11)[0]
    for name in metrics.METRICS:
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-12)


def test_runs_are_resampled_together() -> None:
    first, second = metrics.resampled([random_predictions(0)] * 2, ["macro_f1"], resamples=9)
    np.testing.assert_array_equal(first["macro_f1"], second["macro_f1"])


def test_runs_on_different_samples_are_not_resampled_together() -> None:
    with pytest.raises(ValueError, match="same samples"):
        metrics.resampled([random_predictions(0), random_predictions(1)])


def test_intervals_hold_the_value_and_depend_on_the_seed_only() -> None:
    predictions = random_predictions(5, n=400)
    document = metrics.compute(predictions, seed=3, resamples=300)
    for name in metrics.METRICS:
        if name != "ece":  # resampling adds to it, see its docstring
            assert document[name]["low"] < document[name]["value"] < document[name]["high"]
    assert document == metrics.compute(predictions, seed=3, resamples=300)
    other = metrics.compute(predictions, seed=4, resamples=300)
    assert document["macro_f1"]["low"] != other["macro_f1"]["low"]
    assert document["accuracy"] == other["accuracy"]


def test_document_has_the_shape_of_the_contract() -> None:
    predictions = random_predictions(0)
    document = metrics.compute(predictions, resamples=20)
    assert list(document) == [
        *("n", "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "kappa"),
        *("roc_auc_macro", "nll", "brier", "ece", "per_class", "confusion_matrix"),
        *("fingerprint", "interval"),
    ]
    assert document["n"] == 60
    assert set(document["per_class"][0]) == {"name", "precision", "recall", "f1", "support", "auc"}
    assert np.array(document["confusion_matrix"]).sum() == 60
    assert document["interval"]["level"] == 0.95
    assert document["interval"]["resamples"] == 20
    assert set(document["interval"]["methods"]) == set(metrics.METRICS)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


# Reading ---------------------------------------------------------------------------------------


def as_table(predictions: Predictions) -> pd.DataFrame:
    """The table that a run saves."""
    names = np.array(predictions.classes)
    table = pd.DataFrame(
        {
            "sample_id": predictions.sample_ids,
            "label": names[predictions.labels],
            "predicted": names[predictions.predicted],
        }
    )
    for code, name in enumerate(names):
        table[f"p_{name}"] = predictions.probabilities[:, code]
    return table


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    written = random_predictions(0)
    as_table(written).to_csv(tmp_path / "test.csv", index=False)
    found = metrics.read_predictions(tmp_path / "test.csv")
    assert (found.sample_ids, found.classes) == (written.sample_ids, written.classes)
    np.testing.assert_array_equal(found.labels, written.labels)
    np.testing.assert_array_equal(found.predicted, written.predicted)
    np.testing.assert_allclose(found.probabilities, written.probabilities, atol=1e-12)


def test_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    table = as_table(random_predictions(0))
    documents = []
    for name, rows in (("straight", table), ("shuffled", table.sample(frac=1, random_state=1))):
        rows.to_csv(tmp_path / name, index=False)
        documents.append(metrics.compute(metrics.read_predictions(tmp_path / name), resamples=20))
    assert documents[0] == documents[1]


@given(st.permutations(range(12)))
@settings(deadline=None, max_examples=30)
def test_fingerprint_is_about_ids_and_labels_only(order: list[int]) -> None:
    first = random_predictions(0, n=12)
    turned = Predictions(
        sample_ids=tuple(first.sample_ids[index] for index in order),
        classes=first.classes,
        labels=first.labels[order],
        predicted=first.predicted,
        probabilities=first.probabilities,
    )
    assert turned.fingerprint == first.fingerprint
    relabelled = Predictions(
        first.sample_ids,
        first.classes,
        (first.labels + 1) % 4,
        first.predicted,
        first.probabilities,
    )
    assert relabelled.fingerprint != first.fingerprint


def test_ids_stay_as_written_and_rounding_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(
        "sample_id,label,predicted,p_none,p_fear,valence\n"
        "007,none,none,0.6667,0.3334,0.1\n"
        "NA,fear,none,0.5,0.5,\n"
    )
    found = metrics.read_predictions(path)
    assert found.sample_ids == ("007", "NA")
    assert found.classes == ("none", "fear")
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sample_id,label,p_a,p_b\nx,a,1,0\n", "lacks predicted; its columns are sample_id"),
        ("sample_id,label,predicted,p_a\nx,a,a,1\n", "lacks at least two probability columns"),
        ("sample_id,label,predicted,p_a,p_b\n", "has no rows"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1,0\nx,a,a,1,0\n", "1 sample ids occur twice"),
        ("sample_id,label,predicted,p_a,p_b\nx,c,a,1,0\n", "label 'c' is none of a, b"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,,1,0\n", "predicted '' is none of a, b"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,nan,0\n", "p_a is 'nan', not a number"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1.5,-0.5\n", r"p_a is '1.5', not a number"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,1,\n", "p_b is '', not a number"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,a,0.7,0.2\n", "first 'x' with 0.9000"),
        ("sample_id,label,predicted,p_a,p_b\nx,a,b,0.7,0.3\n", "not predicted as their most"),
        ("", "cannot be read as a table"),
        ('sample_id,label\n"x', "cannot be read as a table"),
    ],
)
def test_a_wrong_file_is_explained(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(RunError) as error:
        metrics.read_predictions(path)
    message = str(error.value)
    assert found in message
    assert message.startswith(str(path))
    assert message.endswith("Write the file again with `fer evaluate`.")


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        metrics.read_predictions(tmp_path / "test.csv")
