"""Parsing a printed report (text, CSV, JSON or Markdown) into a `PrintedTable`."""

import ast
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from fer_bench.comparison.printed.table import (
    CELLS,
    LARGEST_SUPPORT,
    Cell,
    PrintedClass,
    PrintedTable,
    TableError,
)
from fer_bench.storage.files import read_bounded, why_unreadable

# Dashes of any length, too.
_MISSING = {"", "-", "--", "\u2013", "\u2014", "n/a", "na", "nan", "none", "null"}
_NUMBER = re.compile(r"(\d+|\d{1,3}(?:,\d{3})+)?(?:\.(\d*))?\s*(%?)")
_EXPONENT = re.compile(r"(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_COLUMNS = {
    "precision": r"precision",
    "recall": r"recall",
    "f1": r"f1(?:[-_ ]?score)?|f[-_ ]?score|f[-_ ]?measure",
    "support": r"support|samples|images",
}
# Rows that are not about a class; the average over samples is ignored. Before version 0.20,
# scikit-learn printed only the weighted average, as `avg / total`.
_OVERALL = re.compile(
    r"(?P<kind>accuracy)|(?P<average>macro|weighted|micro|samples)(?:[ _-]av.*)?|avg\s*/\s*total",
    re.IGNORECASE,
)
_AVERAGES = ("macro", "weighted", "micro")
_ROW_EXPECTED = """a row has a name, then precision, recall, F1 and support, such as
  Angry  0.3077  0.3265  0.3168  49"""


@dataclass(frozen=True)
class _Row:
    """A row before its numbers are parsed: its position, its name and the text of its cells."""

    place: str
    name: str
    cells: dict[str, str]


def read_printed(path: Path) -> PrintedTable:
    """Read a printed table from a file. Raises: TableError naming the file and the line."""
    try:
        return parse_printed(_text_of(path))
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text.\nSave the table as text.") from error
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


def _text_of(path: Path) -> str:
    """Raises: TableError, UnicodeDecodeError."""
    try:
        content = read_bounded(path)
    except (OSError, ValueError) as error:
        raise TableError(f"cannot be read ({why_unreadable(error)}).") from error
    text = content.decode("utf-8-sig")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"line {line}: has bytes that are zero, as no text has.")
    return text


def parse_printed(text: str) -> PrintedTable:
    """Read a table: what scikit-learn's `classification_report` prints or returns.

    Accepted are its text; its dictionary as JSON, or JSON with one list per column; CSV, as pandas
    writes the dictionary in either orientation; and a Markdown table. Lines above the table are
    skipped, and cells may be missing. The table is in percent if any cell of its rows is above 1 or
    has a percent sign; the accuracy is judged separately.

    A cell is taken to be rounded to the decimals that it shows. All formats but text drop trailing
    zeros, so there the cells of classes have as many decimals, or as many digits, as the longest.

    Raises:
        TableError: naming what was expected, and the line.
    """
    if begins := re.search(r"^\s*\{", text, re.MULTILINE):
        return _assemble(_with_zeros(list(_json_rows(text[begins.start() :]))))
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        raise TableError("is empty.\nGive a printed classification report, CSV or JSON.")
    for mark in ",;\t|":
        if cells := _divided(lines, mark):
            return _assemble(_with_zeros(list(_divided_rows(cells))))
    return _assemble(list(_text_rows(lines)))


# Columns with a separator ----------------------------------------------------------------------

_Cells = tuple[int, list[str]]
_RULE = re.compile(r":?-*:?")


def _divided(lines: Sequence[tuple[int, str]], mark: str) -> list[_Cells]:
    """The cells of each line from the heading on; empty if no line is a heading."""
    numbers = [number for number, _ in lines]
    texts = [line.strip().strip("|") if mark == "|" else line for _, line in lines]
    rows = [
        (number, [cell.strip().strip("*`").strip() for cell in cells])
        for number, cells in zip(numbers, csv.reader(texts, delimiter=mark), strict=False)
    ]
    rows = [row for row in rows if mark != "|" or not all(map(_RULE.fullmatch, row[1]))]
    for at, (_, cells) in enumerate(rows):
        if len(_header(cells)) > 1:
            return rows[at:]
    named = [at for at, (_, cells) in enumerate(rows) if _header(cells[:1])]
    if len(named) > 1 and named[0] > 0:
        return _turned(rows[named[0] - 1 : named[-1] + 1])
    return []


def _turned(rows: Sequence[_Cells]) -> list[_Cells]:
    """Rows as columns: pandas writes a report with one class per column unless transposed."""
    width = len(rows[0][1])
    filled = [cells + [""] * (width - len(cells)) for _, cells in rows]
    return [(rows[0][0], list(column)) for column in zip(*filled, strict=False)]


def _header(cells: Sequence[str]) -> dict[str, int]:
    """The position of each known column in a heading."""
    names = [cell.strip().strip('"').casefold() for cell in cells]
    return {
        column: names.index(name)
        for column, pattern in _COLUMNS.items()
        for name in [next((name for name in names if re.fullmatch(pattern, name)), None)]
        if name is not None
    }


def _divided_rows(rows: Sequence[_Cells]) -> Iterator[_Row]:
    (first, heading), *body = rows
    columns = _header(heading)
    names = next((at for at in range(len(heading)) if at not in columns.values()), None)
    if names is None:
        raise TableError(
            f"line {first}: no column contains the names of the classes.\n"
            "Begin with the heading class,precision,recall,f1,support."
        )
    for number, cells in body:
        if len(cells) > len(heading):
            raise TableError(
                f"line {number}: {len(cells)} cells below a heading of {len(heading)}.\n"
                "Quote names that contain the delimiter."
            )
        found = {column: _plain(cells[at]) for column, at in columns.items() if at < len(cells)}
        name = cells[names] if names < len(cells) else ""
        if name or any(found.values()):
            yield _Row(f"line {number}", name, found)


def _plain(text: str) -> str:
    """A number without its exponent, with all its digits; other text unchanged."""
    return f"{Decimal(text):f}" if _EXPONENT.fullmatch(text) else text


# JSON ------------------------------------------------------------------------------------------


def _json_rows(text: str) -> Iterator[_Row]:
    document = _document(text)
    names = document.get("classes") or document.get("class_names")
    if isinstance(names, list) and names:
        yield from _rows_of_lists(document, names)
    elif any(isinstance(cells, dict) and "support" in cells for cells in document.values()):
        yield from _rows_of_dictionary(document)
    else:
        raise TableError(
            "lacks the list 'classes' of class names.\nExpected: what scikit-learn's "
            "classification_report(output_dict=True) returns, or the keys classes, support, "
            "precision, recall, f1 (lists), accuracy, macro and weighted ({precision, recall, f1})."
        )


def _document(text: str) -> dict[str, Any]:
    """The object at the start of a text, as JSON or as a printed Python dictionary."""
    try:  # numbers as text, which keeps their digits
        decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
        document: dict[str, Any] = decoder.raw_decode(text.lstrip())[0]
    except ValueError as error:
        printed = re.sub(r"(?<=: )nan\b", "'nan'", text[: text.rfind("}") + 1].strip())
        try:
            document = ast.literal_eval(printed)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise TableError(f"starts like JSON but is not JSON ({error}).") from error
        if not isinstance(document, dict):
            raise TableError("starts like JSON but is not a JSON object.") from error
    return document


def _rows_of_dictionary(document: Mapping[str, Any]) -> Iterator[_Row]:
    """What `classification_report(output_dict=True)` returns; other keys are ignored."""
    for name, entry in document.items():
        cells = {"f1": entry} if name == "accuracy" and not isinstance(entry, dict) else entry
        if not isinstance(cells, dict):
            continue
        columns, texts = _header(list(cells)), list(_as_text(cells).values())
        if "support" in columns or _OVERALL.fullmatch(str(name)):
            found = {column: texts[at] for column, at in columns.items()}
            yield _Row(repr(name), str(name), found)


def _rows_of_lists(document: Mapping[str, Any], names: Sequence[Any]) -> Iterator[_Row]:
    """One list per column, one object per average."""
    columns = {column: document.get(column) or [None] * len(names) for column in _COLUMNS}
    for column, cells in columns.items():
        if not isinstance(cells, list) or len(cells) != len(names):
            raise TableError(f"'{column}' is not a list of {len(names)} numbers, one per class.")
    for index, name in enumerate(names):
        cells = {column: columns[column][index] for column in columns}
        yield _Row(f"class {name!r}", str(name), _as_text(cells))
    yield _Row("'accuracy'", "accuracy", _as_text({"f1": document.get("accuracy")}))
    for average in ("macro", "weighted", "micro"):
        cells = document.get(average) or {}
        if not isinstance(cells, dict):
            raise TableError(f"'{average}' is not an object {{precision, recall, f1}}.")
        yield _Row(f"'{average}'", average, _as_text(cells))


def _as_text(cells: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if cell is None else _plain(str(cell)) for name, cell in cells.items()}


# Text ------------------------------------------------------------------------------------------

# A heading has hardly any words beside its column names; a warning has many.
_OTHER_WORDS = 2
# Below this row, anything that does not look like a row is not part of the table.
_LAST = re.compile(r"weighted[ _-]av.*|avg\s*/\s*total", re.IGNORECASE)


def _text_rows(lines: Sequence[tuple[int, str]]) -> Iterator[_Row]:
    """The rows below the heading, the first line that names several columns."""
    ends: dict[str, int] = {}
    for at, (_, line) in enumerate(lines):
        if found := _column_ends(line):
            lines, ends = lines[at + 1 :], found
            break
    is_over = False
    for number, line in lines:
        if not any(character.isdigit() for character in line):
            continue  # a rule or a blank row
        try:
            row = _text_row(number, line, ends)
        except TableError:
            if is_over:
                return
            raise
        is_over = is_over or bool(_LAST.fullmatch(row.name))
        yield row


def _column_ends(line: str) -> dict[str, int]:
    """The end of each column name in a heading, from left to right; empty for other lines.

    A heading names at least two columns.
    """
    found: dict[str, int] = {}
    rest = line
    for column, pattern in _COLUMNS.items():
        match = re.search(rf"(?<!\w)(?:{pattern})(?!\w)", rest, re.IGNORECASE)
        if match:
            found[column] = match.end()
            rest = rest[: match.start()] + " " * len(match.group()) + rest[match.end() :]
    others = re.findall(r"\w{2,}", rest)
    if len(found) < 2 or len(others) > _OTHER_WORDS:
        return {}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _text_row(number: int, line: str, ends: Mapping[str, int]) -> _Row:
    columns = list(ends) or list(_COLUMNS)
    words = list(re.finditer(r"\S+", re.sub(r"(?<=\d)(\s+)%", r"%\1", line)))
    values: list[re.Match[str]] = []
    while len(words) > 1 and len(values) < len(columns) and _is_cell(words[-1].group()):
        values.insert(0, words.pop())
    name = line[words[0].start() : words[-1].end()]
    is_full = len(values) == len(columns)
    if is_full and columns[-1] == "support" and not _is_whole(values[-1]):
        if name.casefold() == "accuracy":  # as pandas prints it, in every column
            values = values[:-1]
        else:
            words.append(values.pop(0))  # the `1` in a row `class 1` that has no support
            name = line[words[0].start() : words[-1].end()]
    too_few = len(values) < (1 if _OVERALL.fullmatch(name) else 2)
    is_flush = is_full and {value.end() for value in values} == set(ends.values())
    if too_few or (_DECIMAL.search(name) and not is_flush):
        shown = line.strip() if len(line.strip()) <= 60 else f"{line.strip()[:57]}..."
        raise TableError(f"line {number}: {shown!r}: {_ROW_EXPECTED}")
    return _Row(f"line {number}", name, _in_columns(values, columns, ends))


def _in_columns(
    values: Sequence[re.Match[str]], columns: Sequence[str], ends: Mapping[str, int]
) -> dict[str, str]:
    """Cells by column: right-aligned with the heading, or else from left to right."""
    texts = [value.group() for value in values]
    if len(values) < len(columns):
        by_end = {end: column for column, end in ends.items()}
        if all(value.end() in by_end for value in values):
            return {by_end[value.end()]: value.group() for value in values}
        shares = [column for column in columns if column != "support"]
        has_support = len(values) > 1 and "support" in columns and _is_whole(values[-1])
        columns = [*shares[: len(values) - 1], "support"] if has_support else shares
    return dict(zip(columns, texts, strict=False))


# Inside a name, this is a cell that was not recognised, such as one with a decimal comma.
_DECIMAL = re.compile(r"(?<!\S)\d*[.,]\d+%?(?!\S)")
_WHOLE = re.compile(r"\d+(?:\.0*)?|\d{1,3}(?:,\d{3})+")


def _is_cell(word: str) -> bool:
    return word.casefold() in _MISSING or bool(_NUMBER.fullmatch(word))


def _is_whole(value: re.Match[str]) -> bool:
    """Whether a word can be a support."""
    return value.group().casefold() in _MISSING or bool(_WHOLE.fullmatch(value.group()))


# Reading numbers -------------------------------------------------------------------------------


def _with_zeros(rows: Sequence[_Row]) -> list[_Row]:
    """The rows with trailing zeros restored, which programs drop, in the cells of classes.

    Programs write a fixed number of decimals, or of significant digits. A cell gets as many zeros
    as both allow.
    """
    of_classes = [row for row in rows if not _OVERALL.fullmatch(row.name)]
    shares = [row.cells.get(cell, "").strip() for row in of_classes for cell in CELLS]
    numbers = [match for share in shares if (match := _share(share))]
    decimals = max((len(match[2] or "") for match in numbers), default=0)
    digits = max((_digits(match) for match in numbers), default=0)

    def padded(text: str) -> str:
        match = _share(text.strip())
        if match is None or not decimals:
            return text
        whole, part = match[1] or "0", match[2] or ""
        wanted = min(decimals, len(part) + max(digits - max(_digits(match), 1), 0))
        return f"{whole}.{part.ljust(wanted, '0')}{match[3]}" if wanted else text

    return [
        replace(row, cells=row.cells | {name: padded(row.cells.get(name, "")) for name in CELLS})
        if row in of_classes
        else row
        for row in rows
    ]


def _share(text: str) -> re.Match[str] | None:
    """The parts of a printed number; None for a missing cell or anything else."""
    return None if _is_missing(text) else _NUMBER.fullmatch(text)


def _digits(match: re.Match[str]) -> int:
    """Number of significant digits shown."""
    return len(f"{match[1] or ''}{match[2] or ''}".lstrip("0"))


def _assemble(rows: Sequence[_Row]) -> PrintedTable:
    kinds: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        match = _OVERALL.fullmatch(row.name)
        kind = match and (match["kind"] or match["average"] or "weighted").lower()
        kinds[kind or "class"].append(row)
    classes, accuracies = kinds["class"], kinds["accuracy"]
    averages = [row for kind in _AVERAGES for row in kinds[kind]]
    _check_names([row.name for row in classes])
    percent = any(
        _is_percent(row.cells.get(cell, ""), row.place)
        for row in (*classes, *averages)
        for cell in CELLS
    )
    totals = [_support(row) for row in (*averages, *accuracies) if not _repeats(row)]
    macro, weighted, micro = (
        _cells(kinds[kind][0], percent) if kinds[kind] else {} for kind in _AVERAGES
    )
    return PrintedTable(
        classes=tuple(
            PrintedClass(row.name, _support(row), _cells(row, percent), _undefined(row))
            for row in classes
        ),
        accuracy=_accuracy(accuracies[0]) if accuracies else None,
        macro=macro,
        weighted=weighted,
        micro=micro,
        total=next((total for total in totals if total is not None), None),
    )


def _undefined(row: _Row) -> frozenset[str]:
    """The cells printed as `nan` rather than left empty."""
    return frozenset(name for name in CELLS if row.cells.get(name, "").strip().casefold() == "nan")


def _check_names(names: Sequence[str]) -> None:
    if len(names) < 2:
        found = f"only class {names[0]!r}" if names else "no class"
        raise TableError(f"has {found}, expected at least two; {_ROW_EXPECTED}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError(f"has two rows for class {twice[0]!r}.\nGive one table at a time.")


def _repeats(row: _Row) -> bool:
    """Whether the accuracy is repeated in every column, even support, as pandas writes it."""
    return row.cells.get("support") == row.cells.get("f1") and "." in row.cells.get("f1", "")


def _accuracy(row: _Row) -> Cell | None:
    texts = [row.cells.get(cell, "") for cell in ("f1", "precision", "recall")]
    text = next((text for text in texts if not _is_missing(text)), "")
    return _cell(text, row.place, _is_percent(text, row.place))


def _cells(row: _Row, percent: bool) -> dict[str, Cell]:
    cells = {name: _cell(row.cells.get(name, ""), row.place, percent) for name in CELLS}
    return {name: cell for name, cell in cells.items() if cell is not None}


def _cell(text: str, place: str, percent: bool) -> Cell | None:
    if _is_missing(text):
        return None
    whole = 100.0 if percent else 1.0
    value = _number(text, place) / whole
    if value > 1:
        raise TableError(f"{place}: {text!r} is not a proportion: it is above {whole:g}.")
    return Cell(text.strip(), value, 0.5 * 10.0 ** -_decimals(text, percent) / whole)


def _is_missing(text: str) -> bool:
    return text.strip().casefold() in _MISSING


def _number(text: str, place: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        raise TableError(
            f"{place}: {text.strip()!r} is not a number.\n"
            "Write cells as 0.3077, 30.77 or 30.77%, and - where nothing is printed."
        )
    return float(text.strip().rstrip("% ").replace(",", ""))


def _decimals(text: str, percent: bool) -> int:
    """Digits after the point. A cell of just `0` or `1` is taken to have two."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return 0
    return len(match[2]) if match[2] else 0 if percent else 2


def _is_percent(text: str, place: str) -> bool:
    return not _is_missing(text) and ("%" in text or _number(text, place) > 1)


def _support(row: _Row) -> int | None:
    text = row.cells.get("support", "").strip()
    if _is_missing(text):
        return None
    if not _WHOLE.fullmatch(text) or float(text.replace(",", "")) > LARGEST_SUPPORT:
        raise TableError(
            f"{row.place}: support {text!r} is not a number of images up to {LARGEST_SUPPORT:,}."
        )
    return int(float(text.replace(",", "")))
