"""The display of a run while it trains."""

import io
import os
import time
from typing import Any

import pytest
from rich.console import Console

from fer_bench.device.quiet import native_messages_hidden
from fer_bench.display import Display
from fer_bench.report.terminal.progress import LiveDisplay, Milestones, PlainDisplay, open_display

ROW = {
    "epoch": 3,
    "stage": "head",
    "loss": 1.23456,
    "accuracy": 0.5,
    "val_loss": 1.5,
    "val_accuracy": 0.25,
    "val_macro_f1": 0.125,
    "images_per_second": 321.4,
    "seconds": 12.6,
}
HEADING = "  epoch  stage      loss accuracy  val_loss  val_accuracy  val_macro_f1 images/s"
LINE = "   3/12  head     1.2346   0.5000    1.5000        0.2500        0.1250      321"


def console(*, terminal: bool) -> Any:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)


def written(display: Any) -> str:
    return str(display.console.file.getvalue())


def one_epoch(display: Display, *, is_best: bool = False) -> None:
    display.message("ready [not markup]")
    display.progress("decoding train images", 10, 1234)
    display.progress("decoding train images", 1234, 1234)
    display.start_epoch(3, 12, "head", 20)
    for step in range(1, 21):
        display.step(step, 1.5, 0.5, 300.0)
    display.end_epoch(ROW, is_best=is_best)
    display.close()


def test_a_terminal_gets_the_live_display() -> None:
    live, plain = open_display(console(terminal=True)), open_display(console(terminal=False))
    live.close()
    assert type(live) is LiveDisplay
    assert type(plain) is PlainDisplay


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """It cannot move its cursor, so a live display would show nothing."""
    environment = {"TERM": "dumb"}
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ=environment)
    assert type(open_display(dumb)) is PlainDisplay


def test_elsewhere_there_is_one_line_per_epoch() -> None:
    display = PlainDisplay(console(terminal=False))
    one_epoch(display)
    before = ["ready [not markup]", "decoding train images: 1,234 done"]
    lines = written(display).splitlines()
    assert lines == [*before, "  (* marks the best epoch so far)", HEADING, LINE]
    assert max(map(len, lines)) <= 80


def test_the_heading_is_printed_once() -> None:
    display = PlainDisplay(console(terminal=False))
    for _ in range(2):
        display.end_epoch(ROW, is_best=False)
    assert written(display).count(HEADING) == 1


def test_the_best_epoch_is_marked() -> None:
    display = PlainDisplay(console(terminal=False))
    one_epoch(display, is_best=True)
    assert written(display).splitlines()[-1] == "*" + LINE[1:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_long_run_shows_the_time_left(clock: list[float]) -> None:
    display = PlainDisplay(console(terminal=False))
    clock[0] += 500  # before the first epoch: decoding
    display.start_epoch(3, 12, "head", 20)
    clock[0] += 35
    display.step(7, 1.5, 0.5, 300.0)
    text = "   3/12  step 7/20: loss 1.5000, accuracy 0.5000, 300 images/s, 16:05 left"
    assert written(display).splitlines() == [text]  # 5 s a step, 13 + 9 * 20 steps


def test_a_run_that_went_on_counts_what_it_has_done_itself(clock: list[float]) -> None:
    display = PlainDisplay(console(terminal=False))
    for epoch in (10, 11):
        display.start_epoch(epoch, 12, "head", 20)
        clock[0] += 25
        display.step(10, 1.5, 0.5, 300.0)
        if epoch == 10:
            display.end_epoch(ROW, is_best=False)
    assert written(display).splitlines()[-1].endswith(", 0:50 left")  # 30 of 60 steps, 50 s


def test_lines_come_at_growing_distances(clock: list[float]) -> None:
    due, milestones = [], Milestones()
    for second in range(4 * 3600):
        clock[0] = 1000.0 + second
        due += [second] if milestones.is_due() else []
    assert due == [30, 60, 120, 240, 480, 960, 1920, 3720, 5520, 7320, 9120, 10920, 12720]


def test_long_work_on_images_shows_the_time_left(clock: list[float]) -> None:
    display = PlainDisplay(console(terminal=False))
    for what in ("decoding train images", "decoding test images"):
        for done in range(0, 5001, 1000):
            display.progress(what, done, 5000)
            clock[0] += 20
    left = ["2,000 of 5,000, 1:00 left", "4,000 of 5,000, 0:20 left", "5,000 done"]
    lines = [f"decoding {split} images: {end}" for split in ("train", "test") for end in left]
    assert written(display).splitlines() == lines


def test_a_long_line_is_not_broken() -> None:
    narrow = Console(file=io.StringIO(), width=20)
    PlainDisplay(narrow).message("word " * 30)
    assert narrow.file.getvalue().count("\n") == 1  # type: ignore[attr-defined]


def test_a_terminal_shows_the_progress_of_the_epoch_and_the_run() -> None:
    display = LiveDisplay(console(terminal=True))
    display.start_epoch(3, 12, "head", 20)
    display.step(7, 1.5, 0.5, 300.0)
    display.bars.refresh()
    shown = written(display)
    display.close()
    assert "epoch 3 head" in shown
    assert "7/20" in shown
    assert "47/240" in shown
    assert "loss 1.500 accuracy 0.500 300 images/s" in shown


def test_a_terminal_keeps_a_line_per_finished_epoch() -> None:
    display = LiveDisplay(console(terminal=True))
    one_epoch(display, is_best=True)
    assert "*" + LINE[1:] in written(display)
    assert display.bars.finished or not display.bars.live.is_started


def test_a_stage_may_have_brackets_in_its_name() -> None:
    display = LiveDisplay(console(terminal=True))
    display.start_epoch(1, 2, "[/x]", 3)
    display.step(1, 1.5, 0.5, 300.0)
    display.close()
    assert "epoch 1 [/x]" in written(display)


# Output of native libraries --------------------------------------------------------------------


def test_native_messages_are_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    with native_messages_hidden():
        os.write(2, b"build options\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def fail(error: Exception) -> None:
    with native_messages_hidden():
        os.write(2, b"libcuda.so is missing\n")
        raise error


def test_native_messages_explain_a_failed_import(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError):
        fail(ImportError("no such library"))
    assert capfd.readouterr().err == "libcuda.so is missing\n"


def test_another_error_leaves_the_terminal_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
