"""From the text of a printed report, its CSV or its JSON to a `PrintedTable`."""

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fer_bench.printed.table import (
    CELLS,
    LARGEST_SUPPORT,
    Cell,
    PrintedClass,
    PrintedTable,
    TableError,
)

# Dashes of any length, too.
_MISSING = {"", "-", "--", "\u2013", "\u2014", "n/a", "na", "nan", "none", "null"}
_NUMBER = re.compile(r"(\d+|\d{1,3}(?:,\d{3})+)?(?:\.(\d*))?\s*(%?)")
_COLUMNS = {
    "precision": r"precision",
    "recall": r"recall",
    "f1": r"f1(?:[-_ ]?score)?|f[-_ ]?score|f[-_ ]?measure",
    "support": r"support|samples|images",
}
# Rows that are about no class; those of micro and samples averages are not looked at.
_OVERALL = re.compile(r"(accuracy)|(macro|weighted|micro|samples)(?:[ _-]av.*)?", re.IGNORECASE)
_ROW_EXPECTED = """a row has a name, then precision, recall, F1 and support, such as
  Angry  0.3077  0.3265  0.3168  49"""


@dataclass(frozen=True)
class _Row:
    """A row before its numbers are read: where it stands, its name and the text of its cells."""

    place: str
    name: str
    cells: dict[str, str]


def read_printed(path: Path) -> PrintedTable:
    """Read a printed table from a file. Raises: TableError naming the file and the line."""
    try:
        return parse_printed(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is no text in UTF-8.\nSave the table as text.") from error
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


def parse_printed(text: str) -> PrintedTable:
    """Read a table: what scikit-learn's `classification_report` prints, CSV, or JSON.

    All of these may leave out cells. A table is in percent where a cell of its rows is above 1 or
    bears a percent sign; so is the accuracy, by itself.

    A cell is taken to be rounded to the decimals that it shows. CSV and JSON drop zeros at the
    end, so there all cells of classes have as many decimals as the longest of them.

    Raises:
        TableError: saying what was expected, and on which line.
    """
    if text.lstrip().startswith("{"):
        return _assemble(_with_zeros(list(_json_rows(text))))
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        raise TableError("is empty.\nGive a printed classification report, CSV or JSON.")
    delimiter = next((mark for mark in ",;\t" if len(_header(lines[0][1].split(mark))) > 1), None)
    if delimiter:
        return _assemble(_with_zeros(list(_csv_rows(lines, delimiter))))
    return _assemble(list(_text_rows(lines)))


def _header(cells: Sequence[str]) -> dict[str, int]:
    """Which cell of a heading names which column."""
    names = [cell.strip().strip('"').casefold() for cell in cells]
    return {
        column: names.index(name)
        for column, pattern in _COLUMNS.items()
        for name in [next((name for name in names if re.fullmatch(pattern, name)), None)]
        if name is not None
    }


def _csv_rows(lines: Sequence[tuple[int, str]], delimiter: str) -> Iterator[_Row]:
    numbers = [number for number, _ in lines]
    heading, *body = csv.reader((line for _, line in lines), delimiter=delimiter)
    columns = _header(heading)
    names = next((at for at in range(len(heading)) if at not in columns.values()), None)
    if names is None:
        raise TableError(
            f"line {numbers[0]}: no column holds the names of the classes.\n"
            "Begin with the heading class,precision,recall,f1,support."
        )
    for number, cells in zip(numbers[1:], body, strict=True):
        if len(cells) > len(heading):
            raise TableError(
                f"line {number}: {len(cells)} cells below a heading of {len(heading)}.\n"
                "Quote a name that holds the delimiter."
            )
        found = {column: cells[at] for column, at in columns.items() if at < len(cells)}
        yield _Row(f"line {number}", cells[names].strip(), found)


def _json_rows(text: str) -> Iterator[_Row]:
    try:  # numbers as text, which keeps their digits
        document = json.loads(text, parse_float=str, parse_int=str)
    except ValueError as error:
        raise TableError(f"begins like JSON but is none ({error}).") from error
    names = document.get("classes") or document.get("class_names")
    if not isinstance(names, list) or not names:
        raise TableError(
            "lacks the list 'classes' of class names.\nExpected keys: classes, support, precision, "
            "recall, f1 (lists), accuracy, macro and weighted ({precision, recall, f1})."
        )
    columns = {column: document.get(column) or [None] * len(names) for column in _COLUMNS}
    for column, cells in columns.items():
        if not isinstance(cells, list) or len(cells) != len(names):
            raise TableError(f"'{column}' is no list of {len(names)} numbers, one a class.")
    for index, name in enumerate(names):
        cells = {column: columns[column][index] for column in columns}
        yield _Row(f"class {name!r}", str(name), _as_text(cells))
    yield _Row("'accuracy'", "accuracy", _as_text({"f1": document.get("accuracy")}))
    for average in ("macro", "weighted"):
        cells = document.get(average) or {}
        if not isinstance(cells, dict):
            raise TableError(f"'{average}' is no object {{precision, recall, f1}}.")
        yield _Row(f"'{average}'", average, _as_text(cells))


def _as_text(cells: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if cell is None else str(cell) for name, cell in cells.items()}


def _text_rows(lines: Sequence[tuple[int, str]]) -> Iterator[_Row]:
    """The rows below the heading, which is the first line that names several columns."""
    ends: dict[str, int] = {}
    for at, (_, line) in enumerate(lines):
        ends = _column_ends(line)
        if len(ends) > 1:
            lines = lines[at + 1 :]
            break
    for number, line in lines:
        if any(character.isdigit() for character in line):  # others are rules and blank rows
            yield _text_row(number, line, ends if len(ends) > 1 else {})


def _column_ends(line: str) -> dict[str, int]:
    """Where the name of each column ends in a heading, from left to right."""
    found = {}
    for column, pattern in _COLUMNS.items():
        match = re.search(rf"(?<!\w)(?:{pattern})(?!\w)", line, re.IGNORECASE)
        if match:
            found[column] = match.end()
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _text_row(number: int, line: str, ends: Mapping[str, int]) -> _Row:
    columns = list(ends) or list(_COLUMNS)
    words = list(re.finditer(r"\S+", re.sub(r"(?<=\d)(\s+)%", r"%\1", line)))
    values: list[re.Match[str]] = []
    while len(words) > 1 and len(values) < len(columns) and _is_cell(words[-1].group()):
        values.insert(0, words.pop())
    if len(values) == len(columns) and columns[-1] == "support" and not _is_whole(values[-1]):
        words.append(values.pop(0))  # the `1` in a row `class 1` that has no support
    name = line[words[0].start() : words[-1].end()]
    too_few = len(values) < (1 if _OVERALL.fullmatch(name) else 2)
    if too_few or _DECIMAL.search(name):
        shown = line.strip() if len(line.strip()) <= 60 else f"{line.strip()[:57]}..."
        raise TableError(f"line {number}: {shown!r}: {_ROW_EXPECTED}")
    return _Row(f"line {number}", name, _in_columns(values, columns, ends))


def _in_columns(
    values: Sequence[re.Match[str]], columns: Sequence[str], ends: Mapping[str, int]
) -> dict[str, str]:
    """Cells by column: flush with its name in the heading, or else from left to right."""
    texts = [value.group() for value in values]
    if len(values) < len(columns):
        by_end = {end: column for column, end in ends.items()}
        if all(value.end() in by_end for value in values):
            return {by_end[value.end()]: value.group() for value in values}
        shares = [column for column in columns if column != "support"]
        has_support = len(values) > 1 and "support" in columns and _is_whole(values[-1])
        columns = [*shares[: len(values) - 1], "support"] if has_support else shares
    return dict(zip(columns, texts, strict=False))


# Inside a name it is a cell that was not understood, such as one with a decimal comma.
_DECIMAL = re.compile(r"(?<!\S)\d*[.,]\d+%?(?!\S)")
_WHOLE = re.compile(r"\d+(?:\.0*)?|\d{1,3}(?:,\d{3})+")


def _is_cell(word: str) -> bool:
    return word.casefold() in _MISSING or bool(_NUMBER.fullmatch(word))


def _is_whole(value: re.Match[str]) -> bool:
    """Whether it can be a support."""
    return value.group().casefold() in _MISSING or bool(_WHOLE.fullmatch(value.group()))


# Reading numbers -------------------------------------------------------------------------------


def _with_zeros(rows: Sequence[_Row]) -> list[_Row]:
    """The rows with the zeros at the end of cells of classes that a program has dropped."""
    of_classes = [row for row in rows if not _OVERALL.fullmatch(row.name)]
    shares = [row.cells.get(cell, "").strip() for row in of_classes for cell in CELLS]
    longest = max((len(share.partition(".")[2].rstrip("% ")) for share in shares), default=0)

    def padded(text: str) -> str:
        match = _NUMBER.fullmatch(text.strip())
        if match is None or _is_missing(text) or not longest:
            return text
        return f"{match[1] or 0}.{(match[2] or '').ljust(longest, '0')}{match[3]}"

    return [
        replace(row, cells=row.cells | {name: padded(row.cells.get(name, "")) for name in CELLS})
        if row in of_classes
        else row
        for row in rows
    ]


def _assemble(rows: Sequence[_Row]) -> PrintedTable:
    kinds: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        match = _OVERALL.fullmatch(row.name)
        kinds[(match[1] or match[2]).lower() if match else "class"].append(row)
    classes, averages = kinds["class"], [*kinds["macro"], *kinds["weighted"]]
    _check_names([row.name for row in classes])
    percent = any(
        _is_percent(row.cells.get(cell, ""), row.place)
        for row in (*classes, *averages)
        for cell in CELLS
    )
    accuracies = [_accuracy(row) for row in kinds["accuracy"]]
    totals = [_support(row) for row in (*averages, *kinds["accuracy"]) if not _repeats(row)]
    return PrintedTable(
        classes=tuple(
            PrintedClass(row.name, _support(row), _cells(row, percent)) for row in classes
        ),
        accuracy=accuracies[0] if accuracies else None,
        macro=_cells(kinds["macro"][0], percent) if kinds["macro"] else {},
        weighted=_cells(kinds["weighted"][0], percent) if kinds["weighted"] else {},
        total=next((total for total in totals if total is not None), None),
    )


def _check_names(names: Sequence[str]) -> None:
    if len(names) < 2:
        found = f"class {names[0]!r} alone" if names else "no class"
        raise TableError(f"has {found}, expected at least two; {_ROW_EXPECTED}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError(f"has two rows for class {twice[0]!r}.\nGive one table at a time.")


def _repeats(row: _Row) -> bool:
    """Whether a row of accuracy has it in every column, the support's too, as pandas writes it."""
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
        raise TableError(f"{place}: {text!r} is no share: it is above {whole:g}.")
    return Cell(text.strip(), value, 0.5 * 10.0 ** -_decimals(text, percent) / whole)


def _is_missing(text: str) -> bool:
    return text.strip().casefold() in _MISSING


def _number(text: str, place: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        raise TableError(
            f"{place}: {text.strip()!r} is no number.\n"
            "Write shares as 0.3077, 30.77 or 30.77%, and - for what is not printed."
        )
    return float(text.strip().rstrip("% ").replace(",", ""))


def _decimals(text: str, percent: bool) -> int:
    """Digits after the point. A share of just `0` or `1` says as much as one of two digits."""
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
            f"{row.place}: support {text!r} is no number of images up to {LARGEST_SUPPORT:,}."
        )
    return int(float(text.replace(",", "")))
