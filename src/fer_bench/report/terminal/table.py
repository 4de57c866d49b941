"""The look that all terminal tables share."""

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def new_table(columns: Sequence[str]) -> Table:
    """An empty table; a column whose name begins with `>` holds numbers, kept on one line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in columns:
        numeric = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if numeric else "left",
            no_wrap=numeric or column == "#",
            overflow="fold",
        )
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text."""
    # As Text: a name with brackets must not be read as markup.
    table.add_row(*map(Text, cells))


def table_heading(text: str) -> RenderableType:
    """A heading above a table."""
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def add_note(text: str) -> Text:
    """A line below a table, in italics."""
    return Text(text, style="italic")
