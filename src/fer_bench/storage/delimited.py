"""Tables of other programs: any common separator, and all cells as text, unchanged."""

import codecs
import csv
import io
import re

import pandas as pd

SEPARATORS = ",;\t|"
# The line with which spreadsheets announce the separator, above the heading.
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*\n", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


class TableFormatError(ValueError):
    """A text is not a table; the message says where and why."""


def read_delimited(content: bytes, key: str) -> pd.DataFrame:
    """The cells of a table as text, without blanks around them.

    Args:
        content: of the file: UTF-8, or UTF-16 with a byte order mark.
        key: a column that the table must have; the separator is recognised by it: `,`, `;`, tab or
            `|`.

    Raises:
        TableFormatError: the text has another encoding, a row has more or fewer cells than the
            heading, or two columns have the same name.
    """
    text, separator = _without_separator_line(_decoded(content))
    heading = text.lstrip("\n").partition("\n")[0]
    separator = separator or _separator(heading, key)
    lines = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    rows: list[list[str]] = []
    try:
        for cells in lines:
            row = [cell.strip() for cell in cells]
            if any(row):
                rows.append(_as_wide(row, rows[0] if rows else row, lines.line_num, separator))
    except csv.Error as error:
        raise TableFormatError(f"line {lines.line_num} cannot be read ({error}).") from error
    if not rows:
        raise TableFormatError("is empty.")
    columns = rows[0]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice:
        raise TableFormatError(f"has two columns called {twice!r}.")
    return pd.DataFrame(rows[1:], columns=columns, dtype=object)


def numbers(column: "pd.Series[str]") -> "pd.Series[float]":
    """A column as numbers, NaN for cells that are not; a decimal comma counts as a point."""
    has_comma = column.str.fullmatch(_DECIMAL_COMMA)
    texts = column.where(~has_comma, column.str.replace(",", ".", regex=False))
    return pd.to_numeric(texts, errors="coerce").astype("float64")


def _decoded(content: bytes) -> str:
    """The text, with line feeds as line ends."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableFormatError(
            f"is not text in UTF-8 (byte {error.start:,} is {content[error.start]:#04x}).\n"
            "Save it as CSV in UTF-8."
        ) from error
    if "\0" in text:
        raise TableFormatError("holds zero bytes, as a binary file does.\nSave it as CSV in UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_separator_line(text: str) -> tuple[str, str | None]:
    found = _SEPARATOR_LINE.match(text)
    return (f"\n{text[found.end() :]}", found[1]) if found else (text, None)


def _separator(heading: str, key: str) -> str:
    """The separator that gives the most columns, and the key among them if possible."""

    def fits(mark: str) -> tuple[bool, int]:
        cells = [cell.strip().strip('"') for cell in heading.split(mark)]
        return key in cells, len(cells)

    return max(SEPARATORS, key=fits)


def _as_wide(row: list[str], heading: list[str], line: int, separator: str) -> list[str]:
    """A row with as many cells as the heading; empty cells at its end do not count."""
    width = len(heading)
    if any(row[width:]) or len(row) < width:
        advice = ""
        if separator == "," and len(row) > width:
            advice = "\nWrite numbers with a decimal point, or separate the columns by ';'."
        raise TableFormatError(
            f"line {line} has {len(row)} cells, the heading has {width} (separated by "
            f"{separator!r}).{advice}"
        )
    return row[:width]
