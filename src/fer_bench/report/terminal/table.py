"""The look and the behaviour that all terminal tables share."""

import contextlib
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from fer_bench.spelling import visible

# A column of text can be folded down to this many characters and still be read.
_NARROWEST_TEXT = 8
_GAP = 2


class _AsWritten:
    """Text as the stream will write it, so that its column is as wide as what appears.

    A stream that lacks a character may write several for it, for example `+/-` for `±`. Control
    characters in a name are made visible, so that no file can change the terminal.
    """

    def __init__(self, content: str | Text) -> None:
        # As Text: a name with brackets must not be read as markup.
        self.content = content if isinstance(content, Text) else Text(content)

    def written(self, console: Console) -> Text:
        plain = visible(self.content.plain).replace("\t", "\\x09")
        errors = getattr(console.file, "errors", None) or "strict"
        with contextlib.suppress(UnicodeError):  # the stream itself will reject it
            plain = plain.encode(console.encoding, errors).decode(console.encoding)
        return Text(plain, style=self.content.style)

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> Iterator[Text]:
        yield self.written(console)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.written(console))


class _DataTable(Table):
    """A table that is shown as a list of records where the terminal is too narrow for columns."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [_least_width(column, console) for column in self.columns]
        edges = _GAP if self.box else 0
        if sum(widths) + _GAP * (len(widths) - 1) + edges <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        headings = [_text(column.header, console) for column in self.columns]
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            shown = [_text(cell, console) for cell in cells]
            yield Text("")
            for heading, cell in zip(headings, shown, strict=True):
                if cell:
                    yield Text(f"{heading}: {cell}" if heading else cell, overflow="fold")


def _least_width(column: Column, console: Console) -> int:
    texts = [_text(content, console) for content in (column.header, *column.cells)]
    widest = max(cell_len(line) for text in texts for line in (text.splitlines() or [""]))
    return widest if column.no_wrap else min(widest, _NARROWEST_TEXT)


def _text(content: RenderableType, console: Console) -> str:
    return content.written(console).plain if isinstance(content, _AsWritten) else str(content)


def new_table(columns: Sequence[str], *, ruled: bool = True) -> Table:
    """An empty table.

    Args:
        columns: the headings. `>` before one keeps its cells on one line, aligned to the right as
            numbers are; `<` keeps them on one line, aligned to the left.
        ruled: whether there is a rule below the headings.
    """
    table = _DataTable(
        box=box.SIMPLE_HEAD if ruled else None,
        padding=(0, 1) if ruled else (0, _GAP, 0, 0),
        pad_edge=False,
        collapse_padding=ruled,
        show_header=any(column.lstrip("<>") for column in columns),
    )
    for column in columns:
        table.add_column(
            _AsWritten(column.lstrip("<>")),
            justify="right" if column.startswith(">") else "left",
            no_wrap=column.startswith(("<", ">")),
            overflow="fold",
        )
    return table


def add_row(table: Table, *cells: str | Text, style: str = "") -> None:
    """Add a row of plain text; a `Text` keeps its style."""
    table.add_row(*map(_AsWritten, cells), style=style)


def table_heading(text: str) -> RenderableType:
    """A heading above a table."""
    return Padding(_AsWritten(Text(text, style="bold")), (1, 0, 0, 0))


def table_note(text: str) -> RenderableType:
    """Text below a table, in italics."""
    return _AsWritten(Text(text, style="italic"))
