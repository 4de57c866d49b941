"""The table that all terminal output shares: aligned, escaped, and readable in any width."""

import io

import pytest
from filled import comparison, robustness
from rich.console import Console, RenderableType
from rich.text import Text

from fer_bench.cli.console import ERRORS
from fer_bench.report.terminal.comparison import comparison_tables
from fer_bench.report.terminal.robustness import robustness_table
from fer_bench.report.terminal.table import add_row, new_table


def printed(content: RenderableType, width: int, encoding: str = "utf-8") -> list[str]:
    """The lines that a stream of this encoding gets."""
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, errors=ERRORS, write_through=True)
    Console(file=file, width=width).print(content)
    return buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp437", "latin-1"])
def test_cells_are_as_wide_as_the_stream_writes_them(encoding: str) -> None:
    """ASCII has no `±`: the three characters of `+/-` must not move the next column."""
    table = new_table(["run", ">accuracy, %", ">macro F1, %"])
    add_row(table, "plain", "92.34", "1.00")
    add_row(table, "over seeds", "92.34 ± 0.21", "91.00 ± 0.21")
    lines = printed(table, 60, encoding)
    (heading, first, second) = (line for line in lines if "run" in line or "." in line)
    for column, cells in (("accuracy, %", ("92.34", "0.21")), ("macro F1, %", ("1.00", "0.21"))):
        end = heading.index(column) + len(column)
        assert first[:end].endswith(cells[0])
        assert second[:end].endswith(cells[1])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int, encoding: str) -> None:
    for content, expected in (
        (comparison_tables(comparison(), width), ("66.00[64.50,67.50]", "transfer_last20")),
        (robustness_table(robustness()), ("45.12[43.12,47.12]", "elastictransform")),
    ):
        lines = printed(content, width, encoding)
        assert max(len(line.rstrip()) for line in lines) <= width
        text = "".join("".join(lines).replace("|", "").split())
        assert "…" not in text
        for part in expected:
            assert part in text


def test_a_terminal_without_room_for_columns_gets_records() -> None:
    table = new_table(["run", ">accuracy, %", ">macro F1, %"])
    add_row(table, "cnn-s1", "92.34 [91.33, 93.24]", "")
    assert [line.strip() for line in printed(table, 30)] == [
        "",
        "run: cnn-s1",
        "accuracy, %: 92.34 [91.33,",
        "93.24]",
    ]


def test_names_are_no_markup_and_styles_are_kept() -> None:
    table = new_table(["[bold]x[/bold]", ">n"], ruled=False)
    add_row(table, "[red]a[/red]", Text("5", style="bold"))
    buffer = io.StringIO()
    Console(file=buffer, width=60, force_terminal=True, color_system="standard", _environ={}).print(
        table
    )
    assert "[bold]x[/bold]" in buffer.getvalue()
    assert "[red]a[/red]" in buffer.getvalue()
    assert "\x1b[1m5\x1b[0m" in buffer.getvalue()


def test_no_name_controls_the_terminal() -> None:
    table = new_table(["run", ">n"], ruled=False)
    add_row(table, "\x1b[2J\x9b1mname", "1")
    assert r"\x1b[2J\x9b1mname" in "".join(printed(table, 60))


def test_wide_characters_keep_columns_aligned() -> None:
    table = new_table(["run", ">n"], ruled=False)
    add_row(table, "怒り", "1")
    add_row(table, "怒りの顔", "12")
    first, second = printed(table, 40)[1:]
    assert first.rstrip() == "怒り       1"
    assert second.rstrip() == "怒りの顔  12"
