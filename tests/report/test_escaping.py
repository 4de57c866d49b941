"""What a file of a run says reaches neither page nor terminal nor table as code."""

import json
from collections.abc import Callable
from pathlib import Path

import filled
import pytest
from typer.testing import Result

from fer_bench.spelling import visible

HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202e[bold]x[/bold]"
RAW = ("<script>alert", "\x1b", "\x07", "\u202e")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A run whose files hold such a text wherever a text may stand."""
    run = filled.write_run(tmp_path / "runs" / "a-s1-unhashed", images=20)
    record = json.loads(run.run_json.read_text())
    record["name"] = record["dataset"]["name"] = record["model"]["backbone"] = HOSTILE
    run.run_json.write_text(json.dumps(record))
    published = [{"source": HOSTILE, "metric": "accuracy", "value": 0.5}]
    run.config.write_text(f"published: {json.dumps(published)}\n")
    table = run.predictions("test+flip")
    table.write_text(table.read_text().replace("neutral", HOSTILE))
    return run.path.parent


@pytest.mark.parametrize(
    "options",
    [(), ("--csv", "-"), ("--markdown", "-"), ("--latex", "-")],
)
def test_a_comparison_shows_it_as_text(
    fer: Callable[..., Result], outputs: Path, options: tuple[str, ...]
) -> None:
    shown = fer("compare", outputs, *options).output
    assert "alert(1)" in shown
    assert not [raw for raw in RAW[1:] if raw in shown]


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_page_shows_it_as_text(
    fer: Callable[..., Result], outputs: Path, tmp_path: Path, command: str
) -> None:
    page = tmp_path / "page.html"
    if command == "compare":
        assert fer("compare", outputs, "--html", page).exit_code == 0
    else:
        assert fer("report", outputs / "a-s1-unhashed").exit_code == 0
        page = outputs / "a-s1-unhashed" / "report.html"
    text = page.read_text()
    assert "alert(1)" in text
    assert not [raw for raw in RAW if raw in text]


def test_a_message_shows_it_as_text(fer: Callable[..., Result], tmp_path: Path) -> None:
    """A key with an escape sequence coloured the terminal."""
    path = tmp_path / "x.yaml"
    path.write_text('"\\e[31m\\u202e[bold]x": 1\nname: a\n')
    shown = fer("validate", path).output
    assert r"\x1b[31m\u202e[bold]x" in shown
    assert not [raw for raw in RAW if raw in shown]


def test_lines_and_other_letters_stay() -> None:
    assert visible("ü\t→\n\N{GRINNING FACE}") == "ü\t→\n\N{GRINNING FACE}"
