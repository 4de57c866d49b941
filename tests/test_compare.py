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


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """A function that writes one finished, evaluated run below `tmp_path`."""

    def write(
        name: str,
        seed: int = 1,
        *,
        n: int = 90,
        skill: float = 1.5,
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
        table = predictions_table(n, skill, seed=seed + 100 * len(name), prefix=prefix)
        table.sample(frac=1, random_state=seed).to_csv(folder / "predictions/test.csv", index=False)
        saved = metrics.read_predictions(folder / "predictions/test.csv")
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
