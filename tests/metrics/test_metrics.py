"""Metrics against scikit-learn, against printed tables, and by their laws."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from printed_tables import REPORTS, SUPPORT
from scipy.stats import pearsonr
from sklearn import metrics as sklearn_metrics

from fer_bench.comparison.printed import CELLS
from fer_bench.metrics import measure, valence_arousal
from fer_bench.metrics.document import compute, confusion_matrix, headline, per_class
from fer_bench.metrics.expression import FROM_COUNTS, METRICS, PROPORTIONS
from fer_bench.metrics.intervals import stratified_weights, wilson
from fer_bench.metrics.predictions import Classification, Expression, Predictions, ValenceArousal
from fer_bench.metrics.weighting import Tally, weigh

NAMES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def make(labels: Any, probabilities: Any) -> Expression:
    """The most probable class is predicted."""
    matrix = np.asarray(probabilities, dtype=float)
    return Expression(
        classes=NAMES[: matrix.shape[1]],
        labels=np.asarray(labels, dtype=np.int64),
        predicted=matrix.argmax(axis=1),
        probabilities=matrix,
    )


def alone(expression: Expression) -> Predictions:
    """Predictions of nothing but the expression."""
    return Predictions(
        sample_ids=tuple(f"sample{index:05d}" for index in range(len(expression.labels))),
        label_names=np.array(expression.classes)[expression.labels],
        expression=expression,
    )


def of_axes(true: Any, predicted: Any, labels: Any = None) -> Predictions:
    """Predictions of nothing but valence and arousal, each of shape (n, 2)."""
    numbers = np.arange(len(true))
    return Predictions(
        sample_ids=tuple(f"sample{number:05d}" for number in numbers),
        label_names=np.array(NAMES)[numbers % 3 if labels is None else labels],
        valence_arousal=ValenceArousal(np.asarray(true, float), np.asarray(predicted, float)),
    )


def random_axes(seed: int, n: int = 60, unknown: float = 0.2) -> Predictions:
    """Random valence and arousal; a share of the true values of each axis is unknown."""
    random = np.random.default_rng(seed)
    true = random.uniform(-1, 1, (n, 2)).round(1)  # some are exactly 0
    predicted = np.tanh(true + random.normal(0.2, 0.5, (n, 2)))
    predicted[::5] = predicted[::5].round(0)
    true[random.random((n, 2)) < unknown] = np.nan
    return of_axes(true, predicted)


def plain_axes(true: Any, predicted: Any) -> dict[str, float]:
    """The metrics of valence and arousal, written out or from scipy and scikit-learn."""
    values = {}
    for axis, x, y in zip(("valence", "arousal"), np.transpose(true), predicted.T, strict=True):
        known = ~np.isnan(x)
        x, y = x[known], y[known]
        agreed = (x * y > 0) | ((x == 0) & (y == 0))
        between = np.mean((x - x.mean()) * (y - y.mean()))
        values[f"{axis}_rmse"] = sklearn_metrics.root_mean_squared_error(x, y)
        values[f"{axis}_ccc"] = 2 * between / (np.var(x) + np.var(y) + (x.mean() - y.mean()) ** 2)
        values[f"{axis}_pcc"] = pearsonr(x, y).statistic
        values[f"{axis}_sagr"] = agreed.mean()
    return values


def random_expression(
    seed: int, n: int = 60, classes: int = 4, *, ties: bool = False, absent: int = 0
) -> Expression:
    """Random predictions; the last `absent` classes have no label."""
    random = np.random.default_rng(seed)
    present = classes - absent
    labels = np.concatenate([np.arange(present), random.integers(0, present, n - present)])
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1
    if ties:
        logits = logits.round(0)
    return make(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def from_matrix(matrix: np.ndarray[Any, Any]) -> Expression:
    """Certain predictions with the given confusion matrix."""
    pairs = [
        pair for pair, count in np.ndenumerate(matrix.astype(int)) for pair in [pair] * int(count)
    ]
    labels, predicted = np.array(pairs).T
    return make(labels, np.eye(len(matrix))[predicted])


def with_weights(expression: Expression, weights: np.ndarray[Any, Any]) -> Expression:
    """Each sample physically repeated as often as its weight says."""
    rows = np.repeat(np.arange(len(weights)), weights.astype(int))
    return make(expression.labels[rows], expression.probabilities[rows])


def sklearn_values(expression: Expression) -> dict[str, float]:
    """The headline metrics that scikit-learn has; every class must occur in the labels."""
    true, predicted, probabilities = (
        expression.labels,
        expression.predicted,
        expression.probabilities,
    )
    codes = range(len(expression.classes))
    averages = {}
    for average in ("macro", "weighted"):
        parts = sklearn_metrics.precision_recall_fscore_support(
            true, predicted, labels=codes, average=average, zero_division=0
        )
        for part, value in zip(("precision", "recall", "f1"), parts, strict=False):
            averages[f"{average}_{part}"] = value
    average_precisions = [
        sklearn_metrics.average_precision_score(true == code, probabilities[:, code])
        for code in codes
    ]
    # With two classes these are all, which scikit-learn warns of.
    top_two = (
        sklearn_metrics.top_k_accuracy_score(true, probabilities, k=2, labels=codes)
        if len(codes) > 2
        else 1.0
    )
    likely = probabilities > 0.5
    one_hot = np.eye(len(codes))[true] > 0
    aucs = [sklearn_metrics.roc_auc_score(true == code, probabilities[:, code]) for code in codes]
    if len(codes) > 2:
        macro = sklearn_metrics.roc_auc_score(true, probabilities, multi_class="ovr")
        assert macro == pytest.approx(np.mean(aucs))
    return {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(true, predicted),
        **averages,
        "kappa": sklearn_metrics.cohen_kappa_score(true, predicted, labels=codes),
        "roc_auc_macro": float(np.mean(aucs)),
        "nll": sklearn_metrics.log_loss(true, probabilities, labels=codes),
        "brier": sklearn_metrics.brier_score_loss(
            true, probabilities, labels=codes, scale_by_half=False
        ),
        "average_precision_macro": float(np.mean(average_precisions)),
        "top2_accuracy": top_two,
        "micro_precision_at_half": sklearn_metrics.precision_score(
            one_hot, likely, average="micro", zero_division=0
        ),
        "micro_recall_at_half": sklearn_metrics.recall_score(one_hot, likely, average="micro"),
    }


def plain_ece(expression: Expression) -> float:
    """Expected calibration error, bin by bin."""
    confidence = expression.probabilities.max(axis=1)
    error = 0.0
    for upper in range(1, 16):
        inside = (confidence > (upper - 1) / 15) & (confidence <= upper / 15)
        if inside.any():
            gap = expression.correct[inside].mean() - confidence[inside].mean()
            error += inside.mean() * abs(gap)
    return error


def plain_ece_adaptive(expression: Expression) -> float:
    """The same over 15 bins of n samples, each sample first copied 15 times."""
    confidence = expression.probabilities.max(axis=1)
    gap = expression.correct - confidence
    # Samples of one confidence are exchangeable: each has their mean gap.
    exchangeable = np.array([gap[confidence == value].mean() for value in confidence])
    copies = np.repeat(exchangeable[np.argsort(confidence)], 15).reshape(15, -1)
    return float(np.abs(copies.mean(axis=1)).mean())


def expected_values(expression: Expression) -> dict[str, float]:
    return {
        **sklearn_values(expression),
        "ece": plain_ece(expression),
        "ece_adaptive": plain_ece_adaptive(expression),
    }


# Values ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.booleans())
@settings(max_examples=40)
def test_values_are_those_of_scikit_learn(seed: int, classes: int, ties: bool) -> None:
    expression = random_expression(seed, n=40, classes=classes, ties=ties)
    values = measure.values(alone(expression))
    assert values == pytest.approx(expected_values(expression), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_by_class_values_are_those_of_scikit_learn(seed: int) -> None:
    expression = random_expression(seed, ties=True, absent=1)
    expected = np.array(
        sklearn_metrics.precision_recall_fscore_support(
            expression.labels, expression.predicted, labels=range(4), zero_division=0
        )
    ).T
    by_class = per_class(expression)
    found = [
        [entry[part] for part in ("precision", "recall", "f1", "support")] for entry in by_class
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for code, entry in enumerate(by_class[:-1]):
        scores = expression.probabilities[:, code]
        auc = sklearn_metrics.roc_auc_score(expression.labels == code, scores)
        assert entry["auc"] == pytest.approx(auc)
        average = sklearn_metrics.average_precision_score(expression.labels == code, scores)
        assert entry["average_precision"] == pytest.approx(average)
    assert by_class[-1]["auc"] is by_class[-1]["average_precision"] is None


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    expression = random_expression(0)
    expected = sklearn_metrics.confusion_matrix(expression.labels, expression.predicted)
    np.testing.assert_array_equal(confusion_matrix(expression), expected)


def test_absent_classes_follow_the_stated_rule() -> None:
    expression = random_expression(1, classes=5, absent=2)
    values = measure.values(alone(expression))
    present: Any = per_class(expression)[:3]
    by_class = per_class(expression)
    assert values["balanced_accuracy"] == pytest.approx(np.mean([c["recall"] for c in present]))
    assert values["roc_auc_macro"] == pytest.approx(np.mean([c["auc"] for c in present]))
    averages: Any = [c["average_precision"] for c in present]
    assert values["average_precision_macro"] == pytest.approx(np.mean(averages))
    assert values["macro_f1"] == pytest.approx(np.mean([c["f1"] for c in by_class]))
    assert all(c["f1"] == 0 for c in by_class[3:])


def test_a_class_that_neither_occurs_nor_is_predicted_counts_as_0_in_macro_means() -> None:
    values = measure.values(alone(from_matrix(np.diag([5, 5, 0]))))
    for name in ("macro_f1", "macro_precision", "macro_recall"):
        assert values[name] == pytest.approx(2 / 3)
    for name in ("balanced_accuracy", "weighted_f1", "weighted_precision"):
        assert values[name] == pytest.approx(1)


def test_what_is_undefined_is_null() -> None:
    document: Any = compute(alone(make([1, 1, 1], [[0.1, 0.9]] * 3)), resamples=20)
    nothing = {"value": None, "low": None, "high": None}
    assert document["kappa"] == nothing
    assert document["roc_auc_macro"] == nothing
    assert document["accuracy"]["value"] == 1
    json.dumps(document, allow_nan=False)


def test_a_certain_mistake_costs_a_finite_likelihood() -> None:
    expression = make([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    expected = sklearn_metrics.log_loss(expression.labels, expression.probabilities)
    assert measure.values(alone(expression))["nll"] == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_micro_values_at_half_are_those_of_keras(seed: int) -> None:
    import keras

    expression = random_expression(seed, n=30)
    one_hot = np.eye(4)[expression.labels]
    values = measure.values(alone(expression))
    for name, reference in (
        ("micro_precision_at_half", keras.metrics.Precision()),
        ("micro_recall_at_half", keras.metrics.Recall()),
    ):
        reference.update_state(one_hot, expression.probabilities)
        assert values[name] == pytest.approx(float(reference.result()), abs=1e-6)


def test_nothing_above_half_has_precision_0() -> None:
    values = measure.values(alone(make([0, 1, 2], np.full((3, 4), 0.25))))
    assert values["micro_precision_at_half"] == values["micro_recall_at_half"] == 0


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20)
def test_the_order_of_samples_changes_nothing(seed: int, ties: bool) -> None:
    expression = random_expression(seed, ties=ties)
    order = np.random.default_rng(seed).permutation(len(expression.labels))
    shuffled = make(expression.labels[order], expression.probabilities[order])
    expected = measure.values(alone(expression))
    assert measure.values(alone(shuffled)) == pytest.approx(expected, abs=1e-9)


def test_calibration_is_perfect_where_confidence_is_the_share_of_hits() -> None:
    labels = [0] * 7 + [1] * 3 + [0] * 9 + [1]
    expression = make(labels, [[0.7, 0.3]] * 10 + [[0.9, 0.1]] * 10)
    values = measure.values(alone(expression))
    assert values["ece"] == pytest.approx(0, abs=1e-12)
    assert values["ece_adaptive"] == pytest.approx(0, abs=1e-12)
    surer = make(labels, [[0.9, 0.1]] * 10 + [[1, 0]] * 10)
    worse = measure.values(alone(surer))
    assert worse["ece"] == pytest.approx(0.15)
    assert worse["ece_adaptive"] == pytest.approx(0.15)


# Valence and arousal ---------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
@settings(max_examples=30)
def test_each_axis_is_measured_by_itself_where_it_is_known(seed: int, unknown: float) -> None:
    predictions = random_axes(seed, unknown=unknown)
    pairs = predictions.valence_arousal
    assert pairs is not None
    expected = plain_axes(pairs.true, pairs.predicted)
    assert measure.values(predictions) == pytest.approx(expected, abs=1e-12)
    concordance = valence_arousal.concordance(pairs.true, pairs.predicted)
    assert tuple(concordance) == pytest.approx((expected["valence_ccc"], expected["arousal_ccc"]))


def test_concordance_is_that_of_keras() -> None:
    import keras

    random = np.random.default_rng(0)
    true = random.uniform(-1, 1, (200, 2))
    predicted = np.tanh(true + random.normal(0.3, 0.5, true.shape))
    for axis, found in enumerate(valence_arousal.concordance(true, predicted)):
        reference = keras.metrics.ConcordanceCorrelation()
        reference.update_state(true[:, axis], predicted[:, axis])
        assert found == pytest.approx(float(reference.result()), abs=1e-5)


def test_concordance_falls_where_correlation_does_not() -> None:
    true = np.linspace(-0.5, 0.5, 20)
    for predicted in (true, true + 0.3, true / 2, -true):
        axes = np.stack([true, true], axis=1), np.stack([predicted, predicted], axis=1)
        values = measure.values(of_axes(*axes))
        assert abs(values["valence_pcc"]) == pytest.approx(1)
        assert (values["valence_ccc"] == pytest.approx(1)) == (predicted is true)
    assert values["arousal_ccc"] == pytest.approx(-1)


def test_the_sign_of_0_agrees_with_0_alone() -> None:
    true = [0, 0, 0, 0.1, -0.1, -0.1, 0.5, 0.1]
    predicted = [0, 0.1, -0.1, 0.9, -0.9, 0.1, 0, np.nan]
    columns = np.transpose([true, true]), np.transpose([predicted, predicted])
    columns[0][-1] = np.nan
    assert measure.values(of_axes(*columns))["valence_sagr"] == pytest.approx(3 / 7)


@pytest.mark.parametrize("true", [np.full(9, 0.1), np.linspace(-1, 1, 9), np.full(9, np.nan)])
@pytest.mark.parametrize("predicted", [np.full(9, 0.1), np.linspace(-0.7, 0.6, 9)])
def test_what_never_changes_has_no_correlation(true: Any, predicted: Any) -> None:
    columns = np.stack([true, true], axis=1), np.stack([predicted, predicted], axis=1)
    document: Any = compute(of_axes(*columns), resamples=20)
    json.dumps(document, allow_nan=False)
    known, spread = int(np.isfinite(true).sum()), [np.ptp(part) > 0 for part in (true, predicted)]
    valence = document["valence"]
    assert valence["n"] == known
    assert (valence["rmse"]["value"] is None) == (valence["sagr"]["value"] is None) == (not known)
    assert (valence["pcc"]["value"] is not None) == all(spread)
    if not known or not any(spread):
        assert valence["ccc"] == {"value": None, "low": None, "high": None}
    elif not all(spread):
        assert valence["ccc"]["value"] == 0


def test_a_resample_of_one_sample_only_has_no_correlation() -> None:
    true = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    one_each = 3 * np.eye(50)
    wrong = measure.measure(of_axes(true, true[::-1]), one_each)
    right = measure.measure(of_axes(true, true), one_each)
    assert np.isnan(wrong["valence_pcc"]).all()
    assert np.isnan(right["valence_pcc"]).all()
    assert (wrong["valence_ccc"] == 0).all()
    assert np.isnan(right["valence_ccc"]).all()


def test_a_small_spread_far_from_0_loses_no_digits() -> None:
    random = np.random.default_rng(1)
    true = random.uniform(-1, 1, (500, 2))
    predicted = 0.9 + 1e-5 * (true + random.normal(0, 0.5, true.shape))
    values = measure.values(of_axes(true, predicted))
    assert values == pytest.approx(plain_axes(true, predicted), rel=1e-8)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_weighted_axes_are_those_of_repeated_rows(seed: int) -> None:
    predictions = random_axes(seed)
    pairs = predictions.valence_arousal
    assert pairs is not None
    _, strata = np.unique(predictions.label_names, return_inverse=True)
    weights = stratified_weights(strata, 3, seed)
    found = measure.measure(predictions, weights)
    for index, row in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(row)), row)
        expected = plain_axes(pairs.true[rows], pairs.predicted[rows])
        drawn = {name: values[index] for name, values in found.items()}
        assert drawn == pytest.approx(expected, abs=1e-9)


def test_intervals_of_axes_are_those_of_brute_force_resampling() -> None:
    predictions = random_axes(4, n=45)
    pairs = predictions.valence_arousal
    assert pairs is not None
    random = np.random.default_rng(0)
    members = [np.flatnonzero(predictions.label_names == name) for name in NAMES[:3]]
    drawn = []
    for _ in range(300):
        rows = np.concatenate([random.choice(rows, len(rows)) for rows in members])
        drawn.append(plain_axes(pairs.true[rows], pairs.predicted[rows]))
    document: Any = compute(predictions, resamples=2000)
    for axis in ("valence", "arousal"):
        for name in valence_arousal.AXIS_METRICS:
            cell = document[axis][name]
            low, high = np.quantile([one[f"{axis}_{name}"] for one in drawn], [0.025, 0.975])
            assert cell["low"] < cell["value"] < cell["high"]
            assert (cell["low"], cell["high"]) == pytest.approx(
                (low, high), abs=0.15 * (high - low)
            )


def test_runs_of_either_kind_are_resampled_together() -> None:
    expression = random_expression(0, classes=3)
    axes = random_axes(1)
    same = replace(alone(expression), label_names=axes.label_names)
    both = replace(axes, expression=expression)
    drawn = measure.resampled([same, axes, both], ["macro_f1", "valence_ccc"], resamples=9)
    assert [list(one) for one in drawn] == [
        *(["macro_f1"], ["valence_ccc"], ["macro_f1", "valence_ccc"])
    ]
    for name, run in (("macro_f1", 0), ("valence_ccc", 1)):
        np.testing.assert_allclose(drawn[run][name], drawn[2][name], rtol=1e-12, atol=1e-12)


def test_document_of_axes_has_the_shape_of_the_contract() -> None:
    axes = random_axes(1)
    document: Any = compute(axes, resamples=20)
    assert list(document) == ["schema", "n", "valence", "arousal", "fingerprint", "interval"]
    for axis in ("valence", "arousal"):
        assert set(document[axis]) == {"n", "rmse", "ccc", "pcc", "sagr"}
        assert document[axis]["n"] < document["n"] == 60
        assert set(document[axis]["ccc"]) == {"value", "low", "high"}
    assert set(document["interval"]["methods"]) == {"valence", "arousal"}
    both = replace(axes, expression=random_expression(0))
    whole = compute(both, resamples=20)
    assert {name: whole[name] for name in ("valence", "arousal")} == {
        name: document[name] for name in ("valence", "arousal")
    }
    assert {*METRICS, "per_class", "confusion_matrix"} < set(whole)
    methods = {*METRICS, "per_class", "valence", "arousal"}
    assert set(whole["interval"]["methods"]) == methods


# Printed tables of prior work ------------------------------------------------------------------


def matrix_with(diagonal: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> Any:
    """Some matrix of counts with this diagonal and these sums.

    Mistakes are assigned greedily, the fullest row first and into the fullest columns, which uses
    up all of them if any such matrix exists for these inputs (checked below).
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


@pytest.mark.parametrize("name", REPORTS)
def test_printed_tables_are_reproduced(name: str) -> None:
    report = REPORTS[name]
    matrix = matrix_with(report.true_positives, SUPPORT, report.predicted)
    assert (matrix >= 0).all()
    assert tuple(matrix.sum(axis=1)) == SUPPORT
    assert tuple(matrix.sum(axis=0)) == report.predicted
    expression = from_matrix(matrix)
    by_class = pd.DataFrame(per_class(expression))
    for part in CELLS:
        printed = [float(text) for text in getattr(report, part).split()]
        np.testing.assert_allclose(by_class[part], printed, atol=5.1e-5)
    values = measure.values(alone(expression))
    assert values["accuracy"] == report.correct / 306
    names = [f"{kind}_{part}" for part in CELLS for kind in ("macro", "weighted")]
    assert [values[name] for name in names] == pytest.approx(report.averages, abs=5.1e-5)


# Weights and resamples -------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=15)
def test_a_weighted_metric_is_the_metric_of_repeated_rows(seed: int, ties: bool) -> None:
    expression = random_expression(seed, ties=ties)
    weights = stratified_weights(expression.labels, 3, seed)
    weighted = weigh(expression, weights)
    found = {name: metric(weighted) for name, metric in METRICS.items()}
    for index in range(3):
        expected = expected_values(with_weights(expression, weights[index]))
        assert {name: drawn[index] for name, drawn in found.items()} == pytest.approx(
            expected, abs=1e-9
        )


def turned(expression: Expression, predicted: Any) -> Expression:
    """The same labels over the same four classes in another order, and given predictions."""
    order = [2, 0, 3, 1]
    position = np.argsort(order)
    return Expression(
        classes=tuple(expression.classes[code] for code in order),
        labels=position[expression.labels],
        predicted=position[predicted],
        probabilities=expression.probabilities[:, order],
    )


def test_resamples_do_not_depend_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    expression = random_expression(0)
    whole = measure.resampled([alone(expression)], resamples=11)[0]
    monkeypatch.setattr(measure, "_WEIGHTS_AT_A_TIME", 3 * len(expression.labels))
    parts = measure.resampled([alone(expression)], resamples=11)[0]
    for name in METRICS:
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-12)


def test_runs_are_resampled_together() -> None:
    first, second = measure.resampled([alone(random_expression(0))] * 2, ["macro_f1"], resamples=9)
    np.testing.assert_allclose(first["macro_f1"], second["macro_f1"], rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
@settings(max_examples=5)
def test_draws_do_not_depend_on_threads_other_runs_or_the_order_of_classes(
    seed: int, threads: int
) -> None:
    first = random_expression(seed, classes=4, absent=1)
    second = turned(first, np.random.default_rng(seed).integers(0, 4, len(first.labels)))
    runs = [alone(first), alone(second), alone(turned(first, first.predicted))]
    together = measure.resampled(runs, FROM_COUNTS, seed % 99, 40, threads)
    for run, found in zip(runs, together, strict=True):
        (by_itself,) = measure.resampled([run], FROM_COUNTS, seed % 99, 40)
        for name in FROM_COUNTS:
            np.testing.assert_allclose(found[name], by_itself[name], rtol=1e-12)


def test_runs_with_different_classes_are_not_resampled_together() -> None:
    four, three = random_expression(0, classes=4, absent=1), random_expression(0, classes=3)
    with pytest.raises(ValueError, match="same classes"):
        Tally([four, three])


def test_metrics_of_probabilities_are_left_out_where_only_classes_are_known() -> None:
    expression = random_expression(0)
    known = Classification(expression.classes, expression.labels, expression.predicted)
    plain = alone(expression)
    answers = replace(plain, expression=None, classes_only=known)
    assert answers.classification is known
    assert measure.values(answers) == measure.values(plain, FROM_COUNTS)
    kept = answers.select(np.arange(len(plain)) < 5)
    assert kept.classification is not None
    assert len(kept.classification.labels) == len(kept) == 5


def test_runs_on_different_samples_are_not_resampled_together() -> None:
    with pytest.raises(ValueError, match="same samples"):
        measure.resampled([alone(random_expression(0)), alone(random_expression(1))])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_models_weighed_together_are_those_weighed_alone(seed: int) -> None:
    first = random_expression(seed, classes=4, absent=1)
    second = turned(first, np.random.default_rng(seed).integers(0, 4, len(first.labels)))
    weights = stratified_weights(first.labels, 4, seed)
    tally = Tally([first, second])
    counts = tally.count(weights)
    for index, expression in enumerate((first, second)):
        together = tally.of_model(index, expression, counts, weights)
        by_itself = weigh(expression, weights)
        for part in ("hits", "predicted", "support"):
            np.testing.assert_array_equal(getattr(together, part), getattr(by_itself, part))
        assert (together.total == len(first.labels)).all()
        expected = np.stack(
            [
                np.bincount(expression.labels, row * expression.correct, minlength=4)
                for row in weights
            ]
        )
        np.testing.assert_array_equal(together.hits, expected)


def test_intervals_hold_the_value_and_depend_on_the_seed_only() -> None:
    expression = random_expression(5, n=400)
    document: Any = compute(alone(expression), seed=3, resamples=300)
    for name in METRICS:
        if not name.startswith("ece"):  # resampling adds to it, see its docstring
            assert document[name]["low"] < document[name]["value"] < document[name]["high"]
    assert document == compute(alone(expression), seed=3, resamples=300)
    other: Any = compute(alone(expression), seed=4, resamples=300)
    assert document["macro_f1"]["low"] != other["macro_f1"]["low"]
    assert document["accuracy"] == other["accuracy"]


def test_the_headline_is_that_of_the_document() -> None:
    predictions = replace(random_axes(1), expression=random_expression(0))
    document: Any = compute(predictions, seed=2, resamples=30)
    names = ("accuracy", "macro_f1", "top2_accuracy", "valence_ccc")
    cells = headline(predictions, seed=2, resamples=30, names=names)
    assert list(cells) == list(names)
    assert cells["valence_ccc"] == document["valence"]["ccc"]
    assert all(cells[name] == document[name] for name in names[:3])
    assert set(headline(predictions, resamples=3)) == set(measure.NAMES)


def test_shares_of_all_samples_have_the_interval_of_wilson() -> None:
    expression = random_expression(0)
    document: Any = compute(alone(expression), resamples=20)
    for name, counted in PROPORTIONS.items():
        count = int(counted(expression).sum())
        assert document[name]["value"] == pytest.approx(count / 60)
        assert (document[name]["low"], document[name]["high"]) == wilson(count, 60)
        assert document["interval"]["methods"][name] == "wilson"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_intervals_of_a_class_hold_its_values(seed: int) -> None:
    expression = random_expression(seed, classes=5, absent=1)
    document: Any = compute(alone(expression), seed=seed, resamples=60)
    for entry in document["per_class"]:
        for part, bounds in entry["intervals"].items():
            if part == "auc":
                assert (bounds["low"] is None) == (entry["auc"] is None)
            elif bounds["low"] is None:  # never predicted, or without a sample
                assert entry[part] == 0
            else:
                assert bounds["low"] <= entry[part] + 1e-12
                assert entry[part] <= bounds["high"] + 1e-12
                assert bounds["high"] - bounds["low"] > 0.01


def test_intervals_of_a_class_are_those_of_its_counts() -> None:
    # Of the first class 6 hits, 8 predicted and 10 there: 12 are either.
    matrix = np.array([[6, 4], [2, 88]])
    (entry, _) = compute(alone(from_matrix(matrix)), resamples=20)["per_class"]
    found = {name: tuple(bounds.values()) for name, bounds in entry["intervals"].items()}
    assert found["precision"] == wilson(6, 8)
    assert found["recall"] == wilson(6, 10)
    assert found["f1"] == pytest.approx(tuple(2 * j / (1 + j) for j in wilson(6, 12)))


def test_document_has_the_shape_of_the_contract() -> None:
    expression = random_expression(0)
    document: Any = compute(alone(expression), resamples=20)
    assert list(document) == [
        *("schema", "n", "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "kappa"),
        *("roc_auc_macro", "nll", "brier", "ece", "ece_adaptive", "macro_precision"),
        *("macro_recall", "weighted_precision", "weighted_recall", "average_precision_macro"),
        *("top2_accuracy", "micro_precision_at_half", "micro_recall_at_half"),
        *("per_class", "confusion_matrix", "fingerprint", "interval"),
    ]
    assert document["n"] == 60
    assert set(document["per_class"][0]) == {
        *("name", "precision", "recall", "f1", "support", "auc", "average_precision"),
        "intervals",
    }
    assert set(document["per_class"][0]["intervals"]) == {"precision", "recall", "f1", "auc"}
    assert np.array(document["confusion_matrix"]).sum() == 60
    assert document["interval"]["level"] == 0.95
    assert document["interval"]["resamples"] == 20
    assert set(document["interval"]["methods"]) == {*METRICS, "per_class"}
    assert json.loads(json.dumps(document, allow_nan=False)) == document
