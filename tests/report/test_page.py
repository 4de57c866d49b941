"""HTML pages: self-contained, escaped, and complete for whatever a run has so far."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_bench import metrics
from fer_bench.compare import Comparison, Group, LeftOut, Pair, Row
from fer_bench.errors import RunError
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


def evaluate(run: RunDirectory, split: str) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), size=30)
    predictions = metrics.Predictions(
        sample_ids=tuple(map(str, range(30))),
        classes=("neutral", "happiness", "anger"),
        labels=np.arange(30) % 3,
        predicted=probabilities.argmax(axis=1),
        probabilities=probabilities,
    )
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
