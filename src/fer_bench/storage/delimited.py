"""Tables of other programs: any common separator, and all cells as text, unchanged."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fer_bench.storage.files import check_readable, why_unreadable

# A list of millions of images, with long paths, takes a tenth of this.
LARGEST_BYTES = 5 * 2**30
SEPARATORS = ",;\t|"
# The line with which spreadsheets announce the separator, above the heading.
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*\n", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


class TableFormatError(ValueError):
    """A text is not a table; the message says where and why."""


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a large table as text, without the memory that the others would take.

    Args:
        path: a file of UTF-8, or of UTF-16 with a byte order mark. Blanks around names and values
            are removed, an empty cell is an empty string.
        columns: names of columns; the separator is recognised by the first of them.

    Raises:
        TableFormatError: it is no such text, or lacks one of the columns.
    """
    try:
        check_readable(path, LARGEST_BYTES)
    except ValueError as error:
        raise TableFormatError(f"cannot be read ({why_unreadable(error)}).") from error
    with path.open("rb") as file:
        is_utf16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    with path.open(encoding=encoding, errors="replace") as text:
        heading = text.readline().strip()
    try:
        table = pd.read_csv(
            path,
            sep=_separator(heading, columns[0]),
            dtype=str,
            keep_default_na=False,
            encoding=encoding,
            index_col=False,  # else a separator at the end of every row shifts the columns
            usecols=lambda name: name.strip() in columns,
        )
    except ValueError as error:  # pandas' own errors and those of decoding are ValueErrors
        raise TableFormatError(f"cannot be read as CSV ({error}).") from error
    table = table.rename(columns=str.strip)
    missing = [column for column in columns if column not in table]
    if missing:
        raise TableFormatError(
            f"lacks the columns {', '.join(missing)}; its first line is {heading[:80]!r}."
        )
    return pd.DataFrame({column: table[column].str.strip() for column in columns})


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
    rows = [cells for _, cells in delimited_rows(content, key)]
    columns = rows[0]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice:
        raise TableFormatError(f"has two columns called {twice!r}.")
    return pd.DataFrame(rows[1:], columns=columns, dtype=object)


def delimited_rows(content: bytes, key: str = "") -> list[tuple[int, list[str]]]:
    """The heading and the rows of `read_delimited`, each with the number of its last line.

    Without a key, the separator is the one that divides the heading into the most columns.
    """
    text, separator = _without_separator_line(decode_text(content))
    heading = text.lstrip("\n").partition("\n")[0]
    separator = separator or _separator(heading, key)
    lines = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in lines:
            row = [cell.strip() for cell in cells]
            if any(row):
                heading_row = rows[0][1] if rows else row
                row = _as_wide(row, heading_row, lines.line_num, separator)
                rows.append((lines.line_num, row))
    except csv.Error as error:
        raise TableFormatError(f"line {lines.line_num} cannot be read ({error}).") from error
    if not rows:
        raise TableFormatError("is empty.")
    return rows


def numbers(column: "pd.Series[str]") -> "pd.Series[float]":
    """A column as numbers, NaN for cells that are not; a decimal comma counts as a point."""
    has_comma = column.str.fullmatch(_DECIMAL_COMMA)
    texts = column.where(~has_comma, column.str.replace(",", ".", regex=False))
    return pd.to_numeric(texts, errors="coerce").astype("float64")


def decode_text(content: bytes) -> str:
    """The text of a file in UTF-8, or UTF-16 with a byte order mark, with line feeds as line ends.

    Raises: TableFormatError.
    """
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
            advice = (
                "\nQuote cells that contain a comma, and write numbers with a decimal point; or "
                "divide the columns by ';'."
            )
        raise TableFormatError(
            f"line {line} has {len(row)} cells, the heading has {width} (separated by "
            f"{separator!r}).{advice}"
        )
    return row[:width]
