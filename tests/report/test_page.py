"""HTML pages: self-contained, escaped, and complete for whatever a run has so far."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_bench import metrics
from fer_bench.compare import Comparison, Group, LeftOut, Pair, Row, Seeds
from fer_bench.errors import RunError
from fer_bench.predictions import Expression, Predictions, ValenceArousal
from fer_bench.report.page import comparison_page, write_comparison, write_run_report
from fer_bench.rundir import RunDirectory

HISTORY = """\
epoch,stage,learning_rate,loss,accuracy,val_loss,val_accuracy,val_macro_f1,images_per_second,seconds
1,head,0.001,1.9,0.3,1.8,0.31,0.2,100,5
2,all,0.0001,1.5,0.4,1.6,0.38,0.3,90,6
"""


class Balanced(HTMLParser):
    """Fails on an end tag that closes another element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    """Balanced tags, and nothing loaded from elsewhere."""
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith("data:image/png;base64,")
    assert "http" not in page
    assert "@import" not in page


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A trained run that was not evaluated yet."""
    directory = RunDirectory(tmp_path / "cnn-s1-00000000")
    directory.path.mkdir()
    record = {
        "run_id": directory.run_id,
        "status": "finished",
        "seed": 1,
        "dataset": {"name": "<script>alert(1)</script>", "release": "v1"},
        "model": {
            "backbone": "cnn_slides",
            "parameters": 1_234_567,
            "trainable_parameters": [1000, 2000],
            "first_trainable_layer": ["logits", None],
        },
        "best": {"epoch": 2, "metric": "val_macro_f1", "value": 0.3},
        "seconds": 11.0,
        "images_per_second": 95.0,
        "versions": {"keras": "3.15.1"},
    }
    directory.run_json.write_text(json.dumps(record))
    directory.history.write_text(HISTORY)
    directory.config.write_text("seed: 1\n")
    return directory


CLASSES = ("neutral", "happiness", "anger")


def evaluate(run: RunDirectory, split: str) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), size=30)
    labels = np.arange(30) % 3
    predictions = Predictions(
        sample_ids=tuple(map(str, range(30))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, probabilities.argmax(axis=1), probabilities),
    )
    write_metrics(run, split, predictions)


def write_metrics(run: RunDirectory, split: str, predictions: Predictions) -> None:
    run.metrics(split).parent.mkdir(exist_ok=True)
    run.metrics(split).write_text(json.dumps(metrics.compute(predictions, resamples=20)))


def test_report_of_an_evaluated_run(run: RunDirectory) -> None:
    evaluate(run, "validation")
    evaluate(run, "test")
    assert write_run_report(run) == run.report
    page = run.report.read_text()
    check_page(page)
    assert page.index("Results on test, n = 30") < page.index("Results on validation, n = 30")
    for expected in ("1,234,567", "1,000 → 2,000", "logits → None", "val_macro_f1 = 0.3", "11 s"):
        assert expected in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert {path.name for path in run.figures.iterdir()} == {
        *("learning_curves.png", "confusion_matrix_test.png", "confusion_matrix_validation.png")
    }


@pytest.mark.parametrize("with_expression", [True, False])
def test_report_of_valence_and_arousal(run: RunDirectory, with_expression: bool) -> None:
    run.history.unlink()  # its figure is not the matter
    random = np.random.default_rng(0)
    true = random.uniform(-1, 1, (30, 2))
    true[:8, 1] = np.nan
    labels = np.arange(30) % 3
    predictions = Predictions(
        sample_ids=tuple(f"{number:02d}" for number in range(30)),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, labels, np.eye(3)[labels])
        if with_expression
        else None,
        valence_arousal=ValenceArousal(true, np.full((30, 2), 0.25)),
    )
    write_metrics(run, "test", predictions)
    rows = [f"{i:02d},fear,{v},{a},0.25,0.25" for i, (v, a) in enumerate(true)]
    columns = "sample_id,label,valence,arousal,valence_predicted,arousal_predicted"
    run.predictions("test").parent.mkdir()
    run.predictions("test").write_text("\n".join([columns, *rows]))
    page = write_run_report(run).read_text()
    check_page(page)
    assert page.index("Results on test, n = 30") < page.index("Valence and arousal")
    for label in ("concordance (CCC)", "correlation (PCC)", "error (RMSE)", "same sign (SAGR)"):
        assert label in page
    assert re.search(r"<td>samples</td>\s*<td class=\"number\">30<.*\s*.*>22<", page)
    assert ("macro F1" in page) == ("By class" in page) == with_expression
    names = {path.name for path in run.figures.iterdir()}
    assert "valence_arousal_test.png" in names
    assert ("confusion_matrix_test.png" in names) == with_expression
    run.predictions("test").write_text("sample_id,label,predicted,p_a,p_b\nx,a,a,1,0\n")
    with pytest.raises(RunError, match=r"test\.csv: lacks valence and arousal"):
        write_run_report(run)


def test_report_of_a_run_that_has_nothing_yet(run: RunDirectory) -> None:
    run.run_json.write_text('{"status": "running"}')
    run.history.write_text(HISTORY.splitlines()[0] + "\n")
    run.config.unlink()
    page = write_run_report(run).read_text()
    check_page(page)
    assert "No metrics yet" in page
    assert "Training" not in page
    run.history.unlink()
    check_page(write_run_report(run).read_text())


def test_a_damaged_history_is_explained(run: RunDirectory) -> None:
    run.history.write_text("")
    with pytest.raises(RunError, match=r"history\.csv: cannot be read as a table"):
        write_run_report(run)


def comparison(pairs: int) -> Comparison:
    cell = {"value": 0.9, "low": 0.88, "high": 0.92}
    facts = (
        "finished",
        None,
        "cnn",
        "none",
        10,
        48,
        None,
        30,
        {"accuracy": cell, "macro_f1": cell},
    )
    rows = tuple(Row(f"<b>{name}", name, 1, *facts, None, None) for name in ("one", "two"))
    pair = Pair(
        rows[0].run_id, rows[1].run_id, "macro_f1", 0.0, -0.1, 0.1, 0.5, 1.0, "paired bootstrap"
    )
    published = ({"name": "one", "source": "s", "metric": "m", "value": None, "caveat": None},)
    group = Group("f" * 64, 30, rows, (pair,) * pairs, (), published, 0.02)
    return Comparison("test", (group, group), (LeftOut("late", "not <finished>"),))


def test_comparison_page(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "comparison.html"
    write_comparison(comparison(pairs=1), path)
    page = path.read_text()
    check_page(page)
    assert "Rows of different groups are not comparable" in page
    assert page.count("&lt;b&gt;one") == 4
    assert "not &lt;finished&gt;" in page
    assert page.count("data:image/png") == 2


def test_comparison_page_cuts_many_pairs_with_a_word() -> None:
    assert "The first 200 of 201" in comparison_page(comparison(pairs=201))


def test_comparison_page_of_runs_with_different_targets() -> None:
    first, second = comparison(pairs=0).groups[0].runs
    concordance: dict[str, dict[str, float | None]] = {
        "valence_ccc": {"value": 0.5, "low": 0.25, "high": 0.75},
        "arousal_ccc": {"value": None, "low": None, "high": None},
    }
    rows = (first, replace(second, metrics=concordance))
    pair = Pair("one", "two", "valence_ccc", 0.25, -0.125, 0.5, 0.5, 1.0, "paired bootstrap")
    seeds = Seeds("two", ("a", "b"), (1, 2), {"valence_ccc": {"mean": 0.5, "sd": 0.25}})
    group = Group("f" * 64, 30, rows, (pair,), (seeds,), (), 0.02)
    only = replace(group, runs=rows[1:], half_width=None)
    page = comparison_page(Comparison("test", (group, only), ()))
    check_page(page)
    for expected in ("90.00 [88.00, 92.00]", "0.500 [0.250, 0.750]", "0.500 ± 0.250"):
        assert expected in page
    assert "+0.250 [-0.125, +0.500]" in page
    both, alone = page.split("<h2>")[1:]
    assert both.count('<th class="number">valence CCC') == 2
    assert both.count("data:image/png") == 2
    assert alone.count("data:image/png") == 1
    assert "accuracy, %" in both
    assert "accuracy" not in re.sub(r"<figure>.*</figure>", "", alone)
