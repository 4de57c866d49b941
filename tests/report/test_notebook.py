"""What a notebook shows while a run trains."""

from collections.abc import Mapping
from typing import Any

import pytest
from messages import says

from fer_bench.report.notebook import ROWS, NotebookDisplay

BASE: dict[str, Any] = {
    "stage": "head",
    "learning_rate": 0.1,
    "loss": 2.0,
    "accuracy": 0.25,
    "val_loss": 1.5,
    "val_accuracy": 0.375,
    "val_macro_f1": 0.125,
    "images_per_second": 1234.5,
    "seconds": 2.0,
}


def row(epoch: int, **changes: Any) -> dict[str, Any]:
    return {"epoch": epoch, **BASE, **changes}


class Output:
    """What the cell shows, and how often it changed."""

    def __init__(self) -> None:
        self.bundles: list[Mapping[str, str]] = []

    def show(self, bundle: Mapping[str, str]) -> None:
        self.bundles.append(bundle)

    @property
    def html(self) -> str:
        """Without the style, which has words of its own."""
        return self.bundles[-1]["text/html"].partition("</style>")[2]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setattr(NotebookDisplay, "SECONDS_BETWEEN_UPDATES", 0.0)
    return Output()


def test_a_table_and_curves_with_the_best_epoch(output: Output) -> None:
    display = NotebookDisplay(output.show)
    for epoch in (1, 2, 3):
        display.start_epoch(epoch, 3, "head", 10)
        display.step(10, 1.0, 0.5, 300)
        display.end_epoch(row(epoch, val_loss=1.0 + abs(epoch - 2)), is_best=epoch < 3)
    display.close()
    says(output.html, "validation loss", "1,234", "3 epochs trained", "the best is epoch 2")
    assert output.html.count("<figure") == 2  # loss and scores
    assert output.html.count('class="best"') == 1
    assert '<tr class="best"><td>best</td><td>2</td>' in output.html
    assert output.html.count("<tr") == 4


def test_while_it_trains_it_says_how_long_it_takes(output: Output) -> None:
    display = NotebookDisplay(output.show)
    display.progress("decoding train images", 10, 1234)
    says(output.html, "decoding train images: 10 of 1,234", "<progress")
    display.progress("decoding train images", 1234, 1234)
    says(output.html, "1,234 done")
    display.start_epoch(1, 2, "head", 10)
    assert "left" not in output.html
    display.step(5, 0.75, 0.5, 300)
    says(output.html, "epoch 1 of 2, step 5 of 10", "left", "0.7500", '<tr class="running">')


def test_a_run_that_resumes_shows_its_earlier_epochs_once(output: Output) -> None:
    """Epoch 2 was in the history, but not in the checkpoint: it is trained again."""
    display = NotebookDisplay(output.show, [row(1), row(2, loss=9.0)], best=2)
    display.message("resuming")
    says(output.html, "9.0000", "resuming")
    display.start_epoch(2, 2, "head", 10)
    display.end_epoch(row(2), is_best=False)
    display.close()
    assert "9.0000" not in output.html
    assert output.html.count("<tr") == 3
    assert "the best" not in output.html


def test_an_interrupted_run_says_where_it_stopped(output: Output) -> None:
    display = NotebookDisplay(output.show)
    display.start_epoch(2, 8, "head", 10)
    display.step(4, 1.0, 0.5, 300)
    display.close()
    says(output.html, "stopped in epoch 2 of 8, after step 4")
    assert "<progress" not in output.html


def test_a_finished_run_shows_its_history(output: Output) -> None:
    display = NotebookDisplay(output.show, [row(1), row(2)], best=1)
    display.message("it is finished")
    display.close()
    says(output.html, "it is finished", "2 epochs trained", "the best is epoch 1")


def test_values_that_are_missing_leave_no_column(output: Output) -> None:
    missing = dict.fromkeys(("accuracy", "val_loss", "val_accuracy", "val_macro_f1"))
    display = NotebookDisplay(output.show)
    display.start_epoch(1, 1, "head", 1)
    display.end_epoch(row(1, **missing), is_best=False)
    display.close()
    assert "validation" not in output.html
    assert output.html.count("<figure") == 1


def test_everything_is_escaped(output: Output) -> None:
    evil = "<script>alert(1)</script>"
    display = NotebookDisplay(output.show)
    display.message(evil)
    display.progress(evil, 1, 2)
    display.start_epoch(1, 1, evil, 1)
    display.end_epoch(row(1, stage=evil), is_best=True)
    display.close()
    assert all("<script" not in bundle["text/html"] for bundle in output.bundles)
    assert "&lt;script&gt;" in output.html


def test_a_program_without_html_gets_the_messages(output: Output) -> None:
    display = NotebookDisplay(output.show)
    display.message("1 < 2")
    display.end_epoch(row(1), is_best=True)
    display.close()
    says(output.bundles[-1]["text/plain"], "1 < 2", "1 epoch trained")


def test_two_updates_a_second_at_most() -> None:
    output = Output()
    display = NotebookDisplay(output.show)
    display.start_epoch(1, 1, "head", 1000)
    for step in range(1000):
        display.step(step, 1.0, 0.5, 300)
    display.end_epoch(row(1), is_best=True)
    display.close()
    assert 2 <= len(output.bundles) < 100  # the first and the last, and what the clock allows
    says(output.html, "1 epoch trained")


def test_many_epochs_stay_small(output: Output) -> None:
    display = NotebookDisplay(output.show, [row(epoch) for epoch in range(1, 501)], best=7)
    display.close()
    assert output.html.count("<tr") == 1 + ROWS + 1  # heading, the newest, and the best
    says(
        output.html, "<td>500</td>", "<td>7</td>", f"{500 - ROWS - 1} earlier epochs", "history.csv"
    )
    assert len(output.html) < 100_000
