"""Comparison of hand-written run directories that follow the public contract."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from fer_bench import metrics
from fer_bench.compare import collect
from fer_bench.errors import RunError
from fer_bench.predictions import read_predictions

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
        folder = tmp_path / f"{name}-s{seed}-00000000"
        for part in ("predictions", "metrics"):
            (folder / part).mkdir(parents=True)
        table = predictions_table(n, skill or 0, seed=seed + 100 * len(name), prefix=prefix)
        if noise is not None:
            table = add_axes(table, noise, seed=seed + 100 * len(name))
        if skill is None:
            table = table.drop(columns=[name for name in table if str(name).startswith("p")])
        table.sample(frac=1, random_state=seed).to_csv(folder / "predictions/test.csv", index=False)
        saved = read_predictions(folder / "predictions/test.csv")
        document = metrics.compute(saved, resamples=50)
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


def test_macro_f1_is_not_compared_over_different_class_lists(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("aa")
    second = write_run("bb")
    table = pd.read_csv(second / "predictions/test.csv")
    table["p_contempt"] = 0.0
    table.to_csv(second / "predictions/test.csv", index=False)
    assert [pair.metric for pair in collect(tmp_path).groups[0].pairs] == ["accuracy"]


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
    (run / "metrics/test.json").write_text(json.dumps(metrics.compute(saved, resamples=50)))


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


def test_published_entries_stand_once_beside_ours(write_run: WriteRun, tmp_path: Path) -> None:
    entry = {"source": "slides", "metric": "val_accuracy", "value": 0.66}
    for seed in (1, 2):
        write_run("cnn", seed=seed, published=[entry, {**entry, "caveat": "sizes not printed"}])
    group = collect(tmp_path).groups[0]
    assert list(group.published) == [
        {"name": "cnn", **entry, "caveat": None},
        {"name": "cnn", **entry, "caveat": "sizes not printed"},
    ]
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


DAMAGES = {
    "status: running": _unfinished,
    "no metrics for the split 'test'": lambda run: (run / "metrics/test.json").unlink(),
    "run.json: cannot be read as JSON": _write("run.json", "{"),
    "run.json: expected a JSON object": _write("run.json", "[]"),
    "test.json: cannot be read as JSON": _write("metrics/test.json", '{"n": 3'),
    "lacks macro_f1": _no_macro_f1,
    "config.yaml: cannot be read as YAML": _write("config.yaml", "a: [1"),
    "config.yaml: expected a mapping": _write("config.yaml", "- 1"),
    "'published' is not a list": _write("config.yaml", "published: [slides]"),
    "test.csv: cannot be read as a table": lambda run: (run / "predictions/test.csv").unlink(),
    "was not computed from predictions/test.csv": _other_predictions,
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_run_that_cannot_be_compared_is_named_with_its_reason(
    reason: str, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("sound")
    damaged = write_run("damaged")
    DAMAGES[reason](damaged)
    comparison = collect(tmp_path)
    assert [row.name for row in comparison.groups[0].runs] == ["sound"]
    (left_out,) = comparison.left_out
    assert left_out.run_id == damaged.name
    assert reason in left_out.reason
    assert "\n" not in left_out.reason


def test_a_run_record_may_lack_what_is_only_shown(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("cnn")
    (run / "run.json").write_text('{"status": "finished", "model": "?", "seconds": NaN}')
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
    assert {"run_id", "name", "seed", "backbone", "metrics"} <= set(group["runs"][0])
    assert set(group["runs"][0]["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert set(group["pairs"][0]) == {
        *("a", "b", "metric", "difference", "low", "high", "p", "p_holm", "test")
    }
    assert parsed["left_out"][0]["run_id"] == "late-s1-00000000"


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


def test_other_splits_can_be_compared(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("cnn")
    for part in ("predictions/test.csv", "metrics/test.json"):
        (run / part).rename(run / part.replace("test", "validation"))
    assert len(collect(tmp_path, split="validation").groups) == 1
    assert "split 'test'" in collect(tmp_path).left_out[0].reason


def test_comparing_needs_no_tensorflow() -> None:
    code = (
        "import sys, fer_bench.compare, fer_bench.report.tables, fer_bench.report.page;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_comparison_stays_light() -> None:
    code = (
        "import sys, fer_bench.compare;"
        "heavy = {'matplotlib', 'sklearn', 'statsmodels', 'jinja2', 'rich'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
