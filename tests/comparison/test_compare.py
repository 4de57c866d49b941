"""Comparison of hand-written run directories that follow the public contract."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from messages import says
from tiers import some_fast

import fer_bench.comparison.pairs
from fer_bench.comparison.collect import collect
from fer_bench.errors import ConfigError, RunError
from fer_bench.metrics import expression
from fer_bench.metrics.document import compute
from fer_bench.runs import answers
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions

CLASSES = ("neutral", "happiness", "anger")
WriteRun = Callable[..., Path]


def predictions_table(n: int, skill: float, seed: int, prefix: str) -> pd.DataFrame:
    """Random predictions; the labels depend on `n` and `prefix` only."""
    labels = np.arange(n) % len(CLASSES)
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, len(CLASSES)))
    logits[np.arange(n), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "sample_id": [f"{prefix}{index:04d}" for index in range(n)],
            "label": [CLASSES[code] for code in labels],
            "predicted": [CLASSES[code] for code in probabilities.argmax(axis=1)],
        }
    )
    for code, name in enumerate(CLASSES):
        table[f"p_{name}"] = probabilities[:, code].round(6)
    return table


def add_axes(table: pd.DataFrame, noise: float, seed: int) -> pd.DataFrame:
    """Valence and arousal: true values that depend on the size only, and noisy predictions."""
    true = np.random.default_rng(0).uniform(-1, 1, (len(table), 2))
    predicted = np.tanh(true + np.random.default_rng(seed).normal(0, noise, true.shape))
    true[::9, 1] = np.nan
    for index, axis in enumerate(("valence", "arousal")):
        table[axis], table[f"{axis}_predicted"] = true[:, index], predicted[:, index]
    return table


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """A function that writes one finished, evaluated run below `tmp_path`."""

    def write(
        name: str,
        seed: int = 1,
        *,
        n: int = 90,
        skill: float | None = 1.5,
        noise: float | None = None,
        prefix: str = "test/",
        status: str = "finished",
        published: list[dict[str, Any]] | None = None,
    ) -> Path:
        config = {
            "seed": seed,
            "dataset": {"name": "drawn"},
            "image": {"size": 48},
            "model": {"backbone": name, "weights": "none"},
            "published": published or [],
        }
        folder = tmp_path / f"{name}-s{seed}-unhashed"
        for part in ("predictions", "metrics"):
            (folder / part).mkdir(parents=True)
        table = predictions_table(n, skill or 0, seed=seed + 100 * len(name), prefix=prefix)
        if noise is not None:
            table = add_axes(table, noise, seed=seed + 100 * len(name))
        if skill is None:
            table = table.drop(columns=[name for name in table if str(name).startswith("p")])
        table.sample(frac=1, random_state=seed).to_csv(folder / "predictions/test.csv", index=False)
        saved = read_predictions(folder / "predictions/test.csv")
        document = compute(saved, resamples=50)
        (folder / "metrics/test.json").write_text(json.dumps(document))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        record = {
            "run_id": folder.name,
            "name": name,
            "seed": seed,
            "status": status,
            "dataset": {"name": "drawn", "classes": list(CLASSES)},
            "model": {"backbone": name, "weights": "none", "parameters": 1_234},
            "best": {"epoch": 3, "metric": "val_macro_f1", "value": 0.5},
            "images_per_second": 321.0,
            "seconds": 12.5,
        }
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return write


def test_runs_on_the_same_samples_form_one_group(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("weak", skill=0.2)
    write_run("strong", skill=3.0)
    write_run("other", prefix="elsewhere/")
    comparison = collect(tmp_path)
    groups = {tuple(row.name for row in group.runs) for group in comparison.groups}
    assert groups == {("strong", "weak"), ("other",)}
    assert all(group.n == 90 for group in comparison.groups)
    assert comparison.left_out == ()


def test_row_says_what_the_run_says(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run("cnn", seed=7)
    row = collect(tmp_path).groups[0].runs[0]
    assert (row.run_id, row.name, row.seed) == (folder.name, "cnn", 7)
    assert (row.dataset, row.backbone, row.weights) == ("drawn", "cnn", "none")
    assert (row.parameters, row.image_size, row.selection_metric) == (1_234, 48, "val_macro_f1")
    assert (row.images_per_second, row.seconds, row.n) == (321.0, 12.5, 90)
    document = json.loads((folder / "metrics/test.json").read_text())
    assert row.metrics["accuracy"] == document["accuracy"]


def test_half_width_is_that_of_the_best_accuracy(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("weak", skill=0.2)
    write_run("strong", skill=3.0)
    group = collect(tmp_path).groups[0]
    best = group.runs[0].metrics["accuracy"]
    assert best["low"] is not None
    assert best["high"] is not None
    assert group.half_width == pytest.approx((best["high"] - best["low"]) / 2)


def test_pairs_find_a_large_difference_and_no_difference(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("strong", skill=4.0)
    write_run("stronk", seed=2, skill=4.0)
    write_run("weak", skill=0.0)
    group = collect(tmp_path).groups[0]
    assert len(group.pairs) == 3 * 2
    for pair in group.pairs:
        assert pair.low <= pair.difference <= pair.high
        assert pair.p <= pair.p_holm <= 1
        assert ("weak" in pair.b) == (pair.p_holm < 0.01)
    tests = {(pair.metric, pair.test) for pair in group.pairs}
    assert tests == {
        ("accuracy", "exact McNemar"),
        ("macro_f1", "paired stratified bootstrap"),
    }


def test_identical_predictions_do_not_differ(write_run: WriteRun, tmp_path: Path) -> None:
    first, second = write_run("aa"), write_run("bb")
    for part in ("predictions/test.csv", "metrics/test.json"):
        (second / part).write_text((first / part).read_text())
    for pair in collect(tmp_path).groups[0].pairs:
        assert (pair.difference, pair.low, pair.high, pair.p, pair.p_holm) == (0, 0, 0, 1, 1)


def test_pairing_does_not_depend_on_the_order_of_classes(
    write_run: WriteRun, tmp_path: Path
) -> None:
    first, second = write_run("aa"), write_run("bb")
    table = pd.read_csv(first / "predictions/test.csv")
    turned = [*table.columns[:3], *reversed(table.columns[3:])]
    table[turned].to_csv(second / "predictions/test.csv", index=False)
    (second / "metrics/test.json").write_text((first / "metrics/test.json").read_text())
    for pair in collect(tmp_path).groups[0].pairs:
        assert (pair.low, pair.high) == pytest.approx((0, 0), abs=1e-12)


# What keeps runs apart --------------------------------------------------------------------------


def protocol(run: Path, **changes: Any) -> None:
    """Write how a run was evaluated into its metrics."""
    path = run / "metrics/test.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"protocol": {"views": "none", **changes}}))


def add_class(run: Path) -> None:
    """Let a model know one class more, which it never answers."""
    table = pd.read_csv(run / "predictions/test.csv")
    rewrite(run, table.assign(p_contempt=0.0))


APART: dict[str, Callable[[Path], None]] = {
    "different classes": add_class,
    "different test-time views": lambda run: protocol(run, views="flip"),
    "different rules for missing classes": lambda run: protocol(run, class_rule="mask_logits"),
    "the models of one were chosen on the test split": lambda run: protocol(
        run, selection="test_split"
    ),
}


@pytest.mark.parametrize("reason", APART)
def test_runs_on_the_same_images_are_apart_by_protocol(
    reason: str, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("aa")
    APART[reason](write_run("bb"))
    comparison = collect(tmp_path)
    first, second = comparison.groups
    assert first.test_fingerprint == second.test_fingerprint
    assert first.pairs == second.pairs == ()
    (entry,) = comparison.to_json()["not_comparable"]
    assert entry == {"groups": (0, 1), "reason": f"not comparable: {reason}"}


def test_other_images_are_the_only_reason_given(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("aa")
    protocol(write_run("bb", prefix="elsewhere/"), views="flip")
    (entry,) = collect(tmp_path).not_comparable
    assert entry.reason == "not comparable: different test images"


def test_a_protocol_is_shown_with_the_run_and_its_group(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("aa")
    protocol(write_run("bb"), views="flip", class_rule="intersection", selection="test_split")
    plain, other = collect(tmp_path).groups
    assert (plain.views, plain.class_rule, plain.selection) == ("none", None, "validation")
    row = other.runs[0]
    assert (row.views, row.class_rule, row.selection) == ("flip", "intersection", "test_split")
    assert (other.views, other.class_rule, other.selection) == (
        "flip",
        "intersection",
        "test_split",
    )
    assert plain.classes == tuple(sorted(CLASSES))


def test_predictions_from_elsewhere_stand_beside_the_others(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("ours")
    protocol(write_run("theirs"), selection="unknown")
    (group,) = collect(tmp_path).groups
    assert {row.name: row.selection for row in group.runs} == {
        "ours": "validation",
        "theirs": "unknown",
    }


def test_a_run_without_expressions_joins_the_larger_group(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("aa")
    write_run("bb")
    add_class(write_run("cc"))
    write_run("axes", skill=None, noise=0.2)
    assert sorted(sorted(row.name for row in group.runs) for group in collect(tmp_path).groups) == [
        ["aa", "axes", "bb"],
        ["cc"],
    ]


# Letters, and which pairs are tested ------------------------------------------------------------


def test_runs_that_cannot_be_told_from_the_best_share_its_letter(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("strong", skill=4.0)
    write_run("stronk", seed=2, skill=4.0)
    write_run("weak", skill=0.0)
    write_run("axes", skill=None, noise=0.2)
    group = collect(tmp_path).groups[0]
    assert [row.letter for row in group.runs] == ["a", "a", "b", ""]


@pytest.mark.parametrize("number", [3, 26])
def test_in_a_large_group_pairs_with_the_best_are_tested(
    number: int, write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fer_bench.comparison.pairs, "PAIR_RESAMPLES", 199)
    for seed in range(number - 1):
        write_run("cnn", seed=seed, skill=3.0, noise=0.2 if seed < 2 else None)
    write_run("weak", skill=0.0)
    group = collect(tmp_path).groups[0]
    expected = number if number == 3 else number - 1
    assert sum(pair.metric == "accuracy" for pair in group.pairs) == expected
    assert group.pairs_with == ("all" if number == 3 else "best")
    assert group.runs[0].letter == "a"
    assert group.runs[-1].letter == ("b" if number == 3 else "")


def test_the_choice_of_pairs_can_be_made(write_run: WriteRun, tmp_path: Path) -> None:
    for name, noise in (("aa", 0.5), ("bb", 0.2), ("cc", 0.9)):
        write_run(name, skill=2.0, seed=ord(name[0]), noise=noise)
    group = collect(tmp_path, pairs="best").groups[0]
    best = group.runs[0].run_id
    tested = {(pair.a, pair.b) for pair in group.pairs if pair.metric == "accuracy"}
    assert tested == {(best, row.run_id) for row in group.runs[1:]}
    rated = {(pair.a, pair.b) for pair in group.pairs if pair.metric == "valence_ccc"}
    assert len(rated) == 2
    assert all(any("bb" in run_id for run_id in pair) for pair in rated)
    positions = {row.run_id: index for index, row in enumerate(group.runs)}
    assert all(positions[pair.a] < positions[pair.b] for pair in group.pairs)


# Which runs, and in which order -----------------------------------------------------------------


def test_runs_can_be_chosen_before_they_are_tested(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("aa", "bb", "cc"):
        write_run(name)
    (write_run("dd") / "predictions/test.csv").write_text("not read at all")
    comparison = collect(tmp_path, where="name=aa or backbone~B")
    (group,) = comparison.groups
    assert {row.name for row in group.runs} == {"aa", "bb"}
    assert len(group.pairs) == 2
    assert (comparison.where, comparison.not_chosen) == ("name=aa or backbone~B", 2)
    assert comparison.left_out == ()


def test_a_condition_also_applies_to_runs_that_are_left_out(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("aa")
    for name in ("bb", "cc"):
        _unfinished(write_run(name))
    (write_run("dd") / "run.json").write_text("{")  # of which nothing is known
    comparison = collect(tmp_path, where="name=aa or backbone=bb")
    assert [run.run_id for run in comparison.left_out] == ["bb-s1-unhashed", "dd-s1-unhashed"]
    assert comparison.not_chosen == 1
    by_metric = collect(tmp_path, where="accuracy>=0")
    assert [run.run_id for run in by_metric.left_out] == ["dd-s1-unhashed"]


def test_a_run_alone_in_its_group_has_no_letter(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("aa")
    write_run("bb", prefix="elsewhere/")
    write_run("axes", skill=None, noise=0.2)
    for group in collect(tmp_path).groups:
        assert {row.letter for row in group.runs} == {""}


def test_runs_can_be_chosen_by_a_metric(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("strong", skill=4.0)
    write_run("weak", skill=0.0)
    (group,) = collect(tmp_path, where="accuracy>80%").groups
    assert [row.name for row in group.runs] == ["strong"]


def test_a_choice_of_no_run_is_an_error(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("cnn")
    with pytest.raises(RunError) as error:
        collect(tmp_path, where="name=none")
    says(error.value, "--where name=none", "none of the 1 runs", tmp_path)


@pytest.mark.parametrize(
    "sort", some_fast(["nll", "ece", "macro_f1", "seed", "name", "parameters"], "nll", "name")
)
def test_runs_can_be_sorted(sort: str, write_run: WriteRun, tmp_path: Path) -> None:
    for seed, name in ((3, "aa"), (1, "cc"), (2, "bb")):
        write_run(name, seed=seed)
    write_run("axes", seed=9, skill=None, noise=0.2)
    group = collect(tmp_path, sort=sort).groups[0]
    values = [row.columns()[sort] for row in group.runs if sort in row.columns()]
    assert values == sorted(values, reverse=sort == "macro_f1")
    if sort in expression.METRICS:
        assert group.runs[-1].name == "axes"
    letters = {row.run_id: row.letter for row in collect(tmp_path).groups[0].runs}
    assert {row.run_id: row.letter for row in group.runs} == letters


def test_an_unknown_column_is_named(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("cnn")
    with pytest.raises(ConfigError) as error:
        collect(tmp_path, sort="macro_fl")
    says(error.value, "--sort macro_fl", "Did you mean 'macro_f1'")
    with pytest.raises(ConfigError) as error:
        collect(tmp_path, where="datset=drawn")
    says(error.value, "'datset'", "Did you mean 'dataset'")


# Valence and arousal ---------------------------------------------------------------------------


def test_runs_with_different_targets_stand_in_one_group(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("expression", skill=3.0)
    write_run("both", skill=1.0, noise=0.1)
    write_run("poor_axes", skill=None, noise=2.0)
    folder = write_run("good_axes", skill=None, noise=0.3)
    comparison = collect(tmp_path)
    (group,) = comparison.groups
    assert [row.name for row in group.runs] == ["expression", "both", "good_axes", "poor_axes"]
    assert group.half_width
    *_, good, _ = group.runs
    assert "accuracy" not in good.metrics
    document = json.loads((folder / "metrics/test.json").read_text())
    assert good.metrics["arousal_ccc"] == document["arousal"]["ccc"]
    assert good.value("valence_sagr") == document["valence"]["sagr"]["value"]
    tested = {(pair.a.split("-")[0], pair.b.split("-")[0], pair.metric) for pair in group.pairs}
    axes = [("both", "good_axes"), ("both", "poor_axes"), ("good_axes", "poor_axes")]
    assert tested == {
        *(("expression", "both", metric) for metric in ("accuracy", "macro_f1")),
        *((*pair, metric) for pair in axes for metric in ("valence_ccc", "arousal_ccc")),
    }
    json.dumps(comparison.to_json(), allow_nan=False)


def test_concordance_is_tested_by_the_paired_bootstrap(write_run: WriteRun, tmp_path: Path) -> None:
    for name, noise in (("good", 0.2), ("goof", 0.2), ("poor", 2.0)):
        write_run(name, seed=len(name) + ord(name[3]), skill=None, noise=noise)
    (group,) = collect(tmp_path).groups
    assert group.half_width is None
    assert len(group.pairs) == 3 * 2
    for pair in group.pairs:
        assert pair.test == "paired stratified bootstrap"
        assert pair.low <= pair.difference <= pair.high
        assert pair.p <= pair.p_holm <= 1
        assert ("poor" in pair.b) == (pair.p_holm < 0.01)


def test_an_undefined_concordance_is_shown_but_not_tested(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("sound", skill=None, noise=0.2)
    folder = write_run("undefined", skill=None, noise=0.2)
    table = pd.read_csv(folder / "predictions/test.csv").assign(arousal=np.nan)
    rewrite(folder, table)
    (group,) = collect(tmp_path).groups
    assert group.runs[1].metrics["arousal_ccc"]["value"] is None
    assert [pair.metric for pair in group.pairs] == ["valence_ccc"]


def test_concordance_is_not_compared_over_different_true_values(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("sound", skill=None, noise=0.2)
    folder = write_run("relabelled", skill=None, noise=0.2)
    table = pd.read_csv(folder / "predictions/test.csv")
    table["valence"] = np.where(table.index == 0, 0.123, table["valence"])
    rewrite(folder, table)
    (group,) = collect(tmp_path).groups
    assert len(group.runs) == 2
    assert [pair.metric for pair in group.pairs] == ["arousal_ccc"]


def rewrite(run: Path, table: pd.DataFrame) -> None:
    """Save other predictions, and their metrics."""
    table.to_csv(run / "predictions/test.csv", index=False)
    saved = read_predictions(run / "predictions/test.csv")
    (run / "metrics/test.json").write_text(json.dumps(compute(saved, resamples=50)))


def test_seeds_of_runs_without_expressions(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run("axes", seed=seed, skill=None, noise=0.2)
    (group,) = collect(tmp_path).groups
    assert set(group.seeds[0].metrics) == {"valence_ccc", "arousal_ccc"}


def test_the_table_has_columns_of_axes_where_a_run_predicts_them(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("expression")
    assert not [name for name in collect(tmp_path).to_frame().columns if "valence" in str(name)]
    write_run("axes", skill=None, noise=0.2)
    frame = collect(tmp_path).to_frame().set_index("name")
    assert frame.loc["axes", ["valence_rmse", "arousal_ccc_high"]].notna().all()
    assert frame.loc["axes", ["accuracy", "ece_low"]].isna().all()
    assert frame.loc["expression", ["valence_rmse", "arousal_ccc_high"]].isna().all()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"valence": {"n": 3}}, "lacks valence_ccc"),
        ({"arousal": None}, "lacks arousal_ccc"),
        ({"arousal": {"ccc": {"value": 0.1, "low": 0, "high": 1}}}, "was not computed from"),
        ({"arousal": {"ccc": {"value": 0.1, "low": None, "high": 1}}}, "lacks arousal_ccc"),
    ],
)
def test_metrics_of_other_axes_are_named(
    damage: dict[str, Any], reason: str, write_run: WriteRun, tmp_path: Path
) -> None:
    path = write_run("axes", skill=None, noise=0.2) / "metrics/test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    comparison = collect(tmp_path)
    assert comparison.groups == ()
    assert reason in comparison.left_out[0].reason


def test_seeds_of_one_experiment_are_aggregated(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (3, 1, 2):
        write_run("cnn", seed=seed)
    write_run("vgg16", seed=1)
    group = collect(tmp_path).groups[0]
    (entry,) = group.seeds
    assert (entry.name, entry.seeds) == ("cnn", (1, 2, 3))
    values = [row.value("accuracy") for row in group.runs if row.name == "cnn"]
    assert entry.metrics["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert entry.metrics["accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1))


def test_seeds_of_predictions_from_elsewhere_belong_together(
    write_run: WriteRun, tmp_path: Path
) -> None:
    for name, seed in (("theirs", 1), ("theirs", 2), ("other", 1)):
        folder = write_run(name, seed=seed)
        source = {"name": name, "seed": seed, "adopted": True, "digest": folder.name}
        (folder / "config.yaml").write_text(yaml.safe_dump(source))
    (group,) = collect(tmp_path).groups
    assert [(entry.name, entry.seeds) for entry in group.seeds] == [("theirs", (1, 2))]


def test_what_is_published_is_no_part_of_an_experiment(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("cnn", seed=1)
    write_run("cnn", seed=2, published=[{"source": "a", "metric": "accuracy", "value": 0.5}])
    assert len(collect(tmp_path).groups[0].seeds) == 1


def test_experiments_of_one_name_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4):
        path = write_run("cnn", seed=seed) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(config | {"image": {"size": 48 if seed < 3 else 64}}))
    group = collect(tmp_path).groups[0]
    names = {entry.name for entry in group.seeds}
    assert names == {"cnn (as cnn-s1-unhashed)", "cnn (as cnn-s3-unhashed)"}
    assert {pair.a for pair in group.experiments} <= names


def test_experiments_are_compared_over_seeds_and_images(
    write_run: WriteRun, tmp_path: Path
) -> None:
    for seed in (1, 2, 3):
        write_run("strong", seed=seed, skill=4.0)
        write_run("weak", seed=seed, skill=0.5)
    write_run("single", skill=0.5)
    (group,) = collect(tmp_path).groups
    assert [pair.metric for pair in group.experiments] == ["accuracy", "macro_f1"]
    for pair in group.experiments:
        assert (pair.a, pair.b, pair.seeds) == ("strong", "weak", (3, 3))
        assert 0 < pair.low <= pair.difference <= pair.high
        assert pair.p <= pair.p_holm < 0.01
        assert pair.test == "hierarchical bootstrap (seeds x images)"
        means = {entry.name: entry.metrics[pair.metric]["mean"] for entry in group.seeds}
        assert pair.difference == pytest.approx(means["strong"] - means["weak"])


def test_published_entries_stand_once_beside_ours(write_run: WriteRun, tmp_path: Path) -> None:
    entry = {"source": "slides", "metric": "val_accuracy", "value": 0.66}
    for seed in (1, 2):
        write_run("cnn", seed=seed, published=[entry, {**entry, "caveat": "sizes not printed"}])
    group = collect(tmp_path).groups[0]
    shown = [{key: found[key] for key in ("name", *entry, "caveat")} for found in group.published]
    assert shown == [
        {"name": "cnn", **entry, "caveat": None},
        {"name": "cnn", **entry, "caveat": "sizes not printed"},
    ]
    assert group.published[0]["ours"] is None  # not evaluated on the validation split
    assert {row.name for row in group.runs} == {"cnn"}


def _unfinished(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))


def _other_predictions(run: Path) -> None:
    predictions_table(90, skill=1.0, seed=99, prefix="test/").to_csv(
        run / "predictions/test.csv", index=False
    )


def _no_macro_f1(run: Path) -> None:
    document = json.loads((run / "metrics/test.json").read_text())
    del document["macro_f1"]
    (run / "metrics/test.json").write_text(json.dumps(document))


def _write(name: str, text: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_text(text)

    return damage


EVALUATE = "fer evaluate damaged-s1-unhashed"


def _link_to_itself(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(Path(name).name)

    return damage


# By what is damaged, how, and the parts of the reason that is given.
DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "the status": (_unfinished, ("status: running", "fer train")),
    "no metrics": (lambda run: (run / "metrics/test.json").unlink(), ("'test'", EVALUATE)),
    "no record": (_write("run.json", "{"), ("run.json", "JSON")),
    "a list as record": (_write("run.json", "[]"), ("run.json", "object", "list")),
    "a link to itself as record": (_link_to_itself("run.json"), ("run.json", "symbolic links")),
    "a link to itself as metrics": (
        _link_to_itself("metrics/test.json"),
        ("metrics/test.json", "symbolic links"),
    ),
    "half of the metrics": (
        _write("metrics/test.json", '{"n": 3'),
        ("metrics/test.json", "JSON", EVALUATE),
    ),
    "a text as metric": (
        _write("metrics/test.json", '{"n": 90, "accuracy": {"value": "0.9"}}'),
        ("metrics/test.json", "accuracy.value", "'0.9'", EVALUATE),
    ),
    "a missing metric": (_no_macro_f1, ("metrics/test.json", "macro_f1", EVALUATE)),
    "the configuration": (_write("config.yaml", "a: [1"), ("config.yaml", "YAML")),
    "a list as configuration": (_write("config.yaml", "- 1"), ("config.yaml", "mapping", "list")),
    "published": (_write("config.yaml", "published: [slides]"), ("config.yaml", "'published'")),
    "no predictions": (lambda run: (run / "predictions/test.csv").unlink(), ("test.csv", "table")),
    "other predictions": (
        _other_predictions,
        ("metrics/test.json", "predictions/test.csv", EVALUATE),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_that_cannot_be_compared_is_listed_with_its_reason(
    name: str, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("sound")
    damaged = write_run("damaged")
    damage, parts = DAMAGES[name]
    damage(damaged)
    comparison = collect(tmp_path)
    assert [row.name for row in comparison.groups[0].runs] == ["sound"]
    (left_out,) = comparison.left_out
    assert left_out.run_id == damaged.name
    says(left_out.reason, *parts)
    assert "\n" not in left_out.reason


def test_a_run_that_is_being_trained_is_no_run_that_was_left_behind(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("sound")
    damaged = write_run("damaged")
    _unfinished(damaged)
    with RunDirectory(damaged).lock():
        (left_out,) = collect(tmp_path).left_out
    assert left_out.reason == "it is being trained; it is shown once it is evaluated"


def test_a_run_record_may_lack_what_is_only_shown(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("cnn")
    (run / "run.json").write_text('{"status": "finished"}')
    row = collect(tmp_path).groups[0].runs[0]
    assert (row.name, row.seed, row.backbone, row.seconds) == (run.name, None, None, None)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_runs_is_an_error(made: bool, tmp_path: Path) -> None:
    if made:
        (tmp_path / "outputs").mkdir()
    with pytest.raises(RunError, match=r"outputs: (holds no runs|no such folder)"):
        collect(tmp_path / "outputs")


def test_json_follows_the_contract(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("cnn", seed=1)
    write_run("cnn", seed=2)
    _unfinished(write_run("late"))
    document = collect(tmp_path).to_json()
    parsed = json.loads(json.dumps(document, allow_nan=False))
    (group,) = parsed["groups"]
    assert {"test_fingerprint", "n", "runs", "pairs", "seeds", "published"} <= set(group)
    assert {"pairs_with", "experiments", "smallest_difference"} <= set(group)
    assert {"letter", "views", "class_rule", "selection"} <= set(group["runs"][0])
    assert parsed["not_comparable"] == []
    assert {"run_id", "name", "seed", "backbone", "metrics"} <= set(group["runs"][0])
    assert set(group["runs"][0]["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert set(group["pairs"][0]) == {
        *("a", "b", "metric", "difference", "low", "high", "p", "p_holm", "test")
    }
    assert parsed["left_out"][0]["run_id"] == "late-s1-unhashed"


def test_frame_has_one_row_a_run(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("cnn", seed=1)
    write_run("other", prefix="elsewhere/")
    comparison = collect(tmp_path)
    frame = comparison.to_frame()
    assert set(frame["name"]) == {"cnn", "other"}
    assert frame["test_fingerprint"].nunique() == 2
    row = comparison.groups[0].runs[0]
    assert frame.loc[0, "accuracy_low"] == row.metrics["accuracy"]["low"]
    assert not math.isnan(frame["ece_high"].iloc[0])


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("validation", "fer evaluate cnn-s1-unhashed --split validation`"),
        ("test+flip", "fer evaluate cnn-s1-unhashed --views flip`"),
        (
            "validation@drawn_compact+ten_crop",
            "fer evaluate cnn-s1-unhashed --split validation --views ten_crop "
            "--data configs/drawn_compact.yaml`",
        ),
    ],
)
def test_other_evaluations_can_be_compared(
    name: str, advice: str, write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run("cnn")
    assert advice in collect(tmp_path, split=name).left_out[0].reason
    for part in ("predictions/test.csv", "metrics/test.json"):
        path = run / part
        path.rename(path.with_name(f"{name}{path.suffix}"))
    assert len(collect(tmp_path, split=name).groups) == 1
    assert "split 'test'" in collect(tmp_path).left_out[0].reason


def test_what_is_read_fast_is_what_is_read_with_care(write_run: WriteRun) -> None:
    path = write_run("cnn") / "predictions/test.csv"
    found, careful = answers.read_answers(path), read_predictions(path)
    assert found
    fast, fingerprint = found
    assert fast.expression is None  # the probabilities were not read
    assert fast.classification
    assert careful.classification
    assert fast.sample_ids == careful.sample_ids
    assert fingerprint == fast.fingerprint == careful.fingerprint
    assert fast.classification.classes == careful.classification.classes
    for name in ("labels", "predicted"):
        np.testing.assert_array_equal(
            getattr(fast.classification, name), getattr(careful.classification, name)
        )


UNUSUAL: dict[str, Callable[[str], str]] = {
    "an id twice": lambda text: text + text.splitlines()[-1] + "\n",
    "a quoted id": lambda text: text.replace("test/0007", '"test/00,07"'),
    "a part of a row": lambda text: text + "test/0999,anger,anger,0.1\n",
    "a row on two lines": lambda text: "\n".join(text.rsplit(",", 1)),
    "an empty row": lambda text: text + "\n\n",
    "an unknown class": lambda text: text.replace(",anger,", ",rage,", 1),
    "no rows": lambda text: text.splitlines()[0] + "\n",
    "another order of columns": lambda text: text.replace("sample_id,label", "label,sample_id", 1),
    "another column": lambda text: text.replace("p_anger", "anger", 1),
    "another fourth column": lambda text: text.replace("predicted,p_", "predicted,", 1),
    "one class": lambda text: "sample_id,label,predicted,p_anger\n1,anger,anger,1\n",
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_what_is_unusual_is_read_with_care(unusual: str, write_run: WriteRun) -> None:
    path = write_run("cnn") / "predictions/test.csv"
    path.write_text(UNUSUAL[unusual](path.read_text()))
    assert answers.read_answers(path) is None


def test_a_last_row_shorter_than_the_longest_class_is_read(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    heading = "sample_id,label,predicted,p_happiness,p_sad"
    path.write_text(f"{heading}\na,happiness,happiness,1,0\nb,sad,sad,0,1\n")
    found = answers.read_answers(path)
    assert found
    assert found[0].classification
    assert found[0].classification.predicted.tolist() == [0, 1]


def test_a_file_without_its_last_line_break_is_read(write_run: WriteRun) -> None:
    path = write_run("cnn") / "predictions/test.csv"
    path.write_text(path.read_text().removesuffix("\n"))
    found = answers.read_answers(path)
    assert found
    assert len(found[0]) == 90


@pytest.mark.slow
def test_comparing_needs_no_tensorflow() -> None:
    code = (
        "import sys, fer_bench.comparison, fer_bench.report.pages;"
        "import fer_bench.report.terminal.comparison;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_importing_the_comparison_stays_light() -> None:
    code = (
        "import sys, fer_bench.comparison;"
        "heavy = {'matplotlib', 'sklearn', 'statsmodels', 'jinja2', 'rich'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_run_with_the_configuration_of_another_is_left_out(
    prebuilt_run: Path, tmp_path: Path
) -> None:
    """Any mapping was taken, so that runs looked trained with what they were not."""
    outputs = tmp_path / "outputs"
    run = Path(shutil.copytree(prebuilt_run, outputs / prebuilt_run.name))
    assert not collect(outputs).left_out
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("size: 24", "size: 48"))
    (left_out,) = collect(outputs).left_out
    says(left_out.reason, config, "fer train --fresh")
