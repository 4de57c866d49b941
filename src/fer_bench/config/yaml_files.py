"""Reads the YAML that users write: experiments, suites, search spaces, values of `--set`.

PyYAML reads YAML 1.1, in which `016` is 14, `1:30` is 90 and `1_6` is 16. A number that would be
read as another one is refused here, with what to write instead. So are characters that only look
like a space, a quote or a dash.
"""

import codecs
import re
import unicodedata
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from fer_bench.errors import ConfigError, shortened
from fer_bench.spelling import did_you_mean
from fer_bench.storage.files import MOST_DIGITS, read_bounded, why_unreadable

# Within these bounds, PyYAML takes less than a second for any text: it reads 20,000 values, or
# 400 KB of words, a second.
MOST_BYTES = 2**18
MOST_WRITTEN = 10_000
DEEPEST = 50
# Values that are repeated by anchors and `<<` count each time.
MOST_VALUES = 100_000

_MOST = f"{MOST_VALUES:,} values, counting those repeated by anchors"

_INT, _FLOAT, _TEXT, _TIME = (
    f"tag:yaml.org,2002:{name}" for name in ("int", "float", "str", "timestamp")
)
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
# Numbers in YAML 1.2 and other languages that YAML 1.1 reads as text.
_TEXT_LIKE_A_NUMBER = re.compile(r"[-+]?(0[0-9_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+)")
_UNDERSCORED = re.compile(r"(?=.*_)[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9_]+)?")
# Characters that word processors put in place of quotes, list dashes and minus signs.
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a\u00b4"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022"


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that does not mean what it seems to; `problem` is a whole sentence."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.mark = mark


class _Constructor(yaml.constructor.SafeConstructor):
    """Values from nodes; one that its tag does not allow is an error that names the place."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises: _Refused if its text is not what its tag says."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # of `!!int x`, `!!bool x`
            kind = node.tag.rpartition(":")[2]
            raise _Refused(f"{shortened(str(node.value))} is no {kind}", node.start_mark) from error

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number. Raises: _Refused for one of thousands of digits."""
        _check_length(node)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number. Raises: _Refused for one of thousands of digits."""
        _check_length(node)
        return super().construct_yaml_float(node)


_WITH_CHECKED_LENGTH: dict[str, Any] = {
    _INT: _Constructor.construct_yaml_int,
    _FLOAT: _Constructor.construct_yaml_float,
}
for _tag, _constructor in _WITH_CHECKED_LENGTH.items():
    _Constructor.add_constructor(_tag, _constructor)


class _StrictLoader(_Constructor, yaml.SafeLoader):
    """The safe loader, in which values that would be misread are errors."""

    depth = 0
    values = 0

    def scan_plain(self) -> Any:
        """An unquoted text. Raises: _Refused if a character only looks like a space or a quote."""
        token = super().scan_plain()
        _check_plain(token.value, token.start_mark)
        return token

    def fetch_more_tokens(self) -> Any:
        """The next tokens. Raises: _Refused for a tab where YAML needs spaces."""
        try:
            return super().fetch_more_tokens()
        except yaml.scanner.ScannerError as error:
            if error.problem and "'\\t'" in error.problem:
                raise _Refused("a tab; YAML is indented with spaces", error.problem_mark) from error
            raise

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A value with everything below it. Raises: _Refused if it is nested too deeply."""
        self.depth += 1
        self.values += 1
        if self.depth > DEEPEST or self.values > MOST_WRITTEN:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _too_much(self.depth, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The document. Raises: _Refused if anchors make it too large, or contain themselves."""
        node = super().get_single_node()
        if node is not None and _count(node, {}) > MOST_VALUES:
            raise _Refused(f"more than {_MOST}", node.start_mark)
        return node


def _too_much(depth: int, mark: Any) -> _Refused:
    too_much = f"{DEEPEST} levels of nesting" if depth > DEEPEST else f"{MOST_WRITTEN:,} values"
    return _Refused(f"more than {too_much}", mark)


def _count(node: yaml.Node, counted: dict[int, int]) -> int:
    """The number of values in a node, each counted as often as an alias repeats it."""
    if id(node) in counted:
        if not counted[id(node)]:  # it is being counted
            raise _Refused("an anchor that contains itself", node.start_mark)
        return counted[id(node)]
    counted[id(node)] = 0
    counted[id(node)] = 1 + sum(_count(inner, counted) for inner in _inside(node))
    return counted[id(node)]


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


# Characters ------------------------------------------------------------------------------------


def _check_plain(text: str, mark: Any) -> None:
    if text[0] in _QUOTES:
        raise _Refused(f"{_named(text[0])} is not a YAML quote. Write \" or '", mark)
    if text[0] in _DASHES and (len(text) == 1 or not text[1].isalpha()):
        raise _Refused(f"{_named(text[0])} is not a YAML dash. Write -", mark)
    for character in filter(_looks_empty, text):
        raise _Refused(
            f"{_named(character)} is not a YAML space. Write an ordinary space, or put the text "
            "in quotes to keep it",
            _mark_at(mark.buffer, mark.buffer.index(character, mark.pointer)),
        )


def _looks_empty(character: str) -> bool:
    """Whether it looks like a space or like nothing, and is neither space nor line break."""
    if character in " \n":
        return False
    return unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cf")


def _named(character: str) -> str:
    return f"{unicodedata.name(character, 'a character').lower()} (U+{ord(character):04X})"


def _mark_at(text: str, place: int) -> yaml.Mark:
    line = text.count("\n", 0, place)
    column = place - (text.rfind("\n", 0, place) + 1)
    return yaml.Mark("", place, line, column, text, place)


# Numbers ---------------------------------------------------------------------------------------


def _check_length(node: yaml.ScalarNode) -> None:
    """Before a number is converted, which takes long for the longest. Raises: _Refused."""
    if len(node.value) > MOST_DIGITS:
        raise _Refused(
            f"a number of {len(node.value):,} characters, at most {MOST_DIGITS} are read. "
            "Put a text in quotes",
            node.start_mark,
        )


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    value = loader.construct_yaml_int(node)
    if node.style or _DECIMAL.fullmatch(node.value):
        return value
    raise _Refused(_misread(node.value, value), node.start_mark)


def _fraction(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    value = loader.construct_yaml_float(node)
    if not node.style and re.search("[_:]", node.value):
        raise _Refused(_misread(node.value, value), node.start_mark)
    return value


def _text(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    if node.style:
        return loader.construct_yaml_str(node)
    if _TEXT_LIKE_A_NUMBER.fullmatch(node.value):
        _check_length(node)
        bare = node.value.replace("_", "").lower()
        base = 10 if re.fullmatch(r"[-+]?[0-9]+", bare) else 0
        raise _Refused(_misread(node.value, int(bare, base)), node.start_mark)
    if _UNDERSCORED.fullmatch(node.value):
        _check_length(node)
        raise _Refused(_misread(node.value, float(node.value.replace("_", ""))), node.start_mark)
    return loader.construct_yaml_str(node)


def _misread(written: str, value: float) -> str:
    """How YAML reads a number, and what to write instead."""
    reading, meant = _reading(written.lstrip("+-").lower(), value)
    return f"{written}: YAML reads {reading}. Write {meant}, or '{written}' in quotes for a text"


def _reading(digits: str, value: float) -> tuple[str, str]:
    meant = f"{value:g}" if isinstance(value, float) else str(value)
    if ":" in digits:
        return f"colons as base 60 ({meant})", meant
    for prefix, name in (("0x", "hexadecimal"), ("0b", "binary"), ("0o", "octal")):
        if digits.startswith(prefix):
            return f"{prefix} as {name} ({meant})", meant
    if digits[0] == "0" and digits.replace("_", "").isdecimal():
        return _leading_zero(digits.replace("_", ""), value)
    return f"underscores as nothing ({meant})", meant


def _leading_zero(digits: str, value: float) -> tuple[str, str]:
    """Users mean the decimal number: `016` is sixteen."""
    sign = "-" if value < 0 else ""
    meant = f"{sign}{int(digits)}"
    if set(digits) & set("89"):
        return "a leading zero as octal, which has no 8 and 9", meant
    return f"a leading zero as octal ({value})", meant


def _date(_: _StrictLoader, node: yaml.ScalarNode) -> Any:
    raise _Refused(
        f"{node.value}: YAML reads a date. Write '{node.value}' in quotes", node.start_mark
    )


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *defaults`
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise _Refused("a list or mapping cannot be a key", key_node.start_mark)
        if key in seen:
            raise _Refused(f"duplicate key {key!r}", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_CONSTRUCTORS: dict[str, Any] = {
    _INT: _integer,
    _FLOAT: _fraction,
    _TEXT: _text,
    _TIME: _date,
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG: _mapping,
}
for _tag, _constructor in _CONSTRUCTORS.items():
    _StrictLoader.add_constructor(_tag, _constructor)


def _parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        _Refused: it is YAML, but means something other than it seems to.
        ValueError: it is not YAML.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except _Refused:
        raise
    except yaml.reader.ReaderError as error:
        mark = _mark_at(text, error.position)
        raise _Refused(f"the control character U+{error.character:04X}", mark) from error
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML.\n{error}") from error


_Events: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _FastLoader(_Constructor, _Events):
    """Reads ten times as fast where PyYAML was built with libyaml, without the strict checks."""


def parse_written(content: bytes) -> Any:
    """The value of a YAML file that this package wrote, ten times faster than one of a user.

    Raises: ValueError: it is not YAML, or too large, too deep or endless, written or by anchors.
    """
    try:
        text = content.decode()
        _check_written(text)
        value = yaml.load(text, _FastLoader)
        _size(value, {}, DEEPEST)
    except _Refused as error:
        raise ValueError(f"line {error.mark.line + 1}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return value


def _check_written(text: str) -> None:
    """Check how much there is before any of it is made. Raises: _Refused, yaml.YAMLError."""
    depth = values = 0
    for event in yaml.parse(text, _Events):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            values += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
            if depth > DEEPEST or values > MOST_WRITTEN:
                raise _too_much(depth, event.start_mark)


def _size(value: Any, known: dict[int, int], levels: int) -> int:
    """How many values there are in one, each counted as often as an alias repeats it."""
    if not isinstance(value, dict | list):
        return 1
    if not levels:
        raise ValueError(f"more than {DEEPEST} levels of nesting")
    if id(value) not in known:
        inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(one, known, levels - 1) for one in inside)
    if known[id(value)] > MOST_VALUES:
        raise ValueError(f"more than {_MOST}")
    return known[id(value)]


def parse_value(text: str) -> Any:
    """The value of `--set KEY=text`. Raises: ValueError; the message follows what was typed."""
    try:
        return _parse(text)
    except _Refused as error:
        raise ValueError(f"{error.problem}.") from error
    except ValueError as error:
        raise ValueError(f"the value is {error}") from error


# Files -----------------------------------------------------------------------------------------

Kind = Literal["an experiment", "a suite", "a search space"]
# The key that only files of this kind have, and what to do with such a file.
_KINDS: dict[Kind, tuple[str, str]] = {
    "an experiment": ("stages", "`fer train {}` trains it."),
    "a suite": ("runs", "`fer sweep {}` trains its runs; with --dry-run it checks them."),
    "a search space": ("space", "`fer sweep EXPERIMENT --search {}` searches it."),
}
# The longest first: the byte order mark of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_yaml(path: Path, kind: Kind) -> dict[str, Any]:
    """The mapping in a YAML file: UTF-8, or UTF-16 and UTF-32 with a byte order mark.

    Raises:
        ConfigError: it cannot be read, has a duplicate key, has a number or character that does
            not mean what it seems to, or is a file of another kind.
    """
    text = _decode(path, _read_bytes(path))
    try:
        document = _parse(text)
    except _Refused as error:
        place = f"line {error.mark.line + 1}, column {error.mark.column + 1}"
        raise ConfigError(f"{path}: {place}: {error.problem}.") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        found = "nothing" if document is None else f"a {type(document).__name__}"
        raise ConfigError(
            f"{path}: expected a mapping of keys, found {found}.\n"
            "See configs/ for complete examples."
        )
    for other, (key, advice) in _KINDS.items():
        if key in document and _KINDS[kind][0] not in document:
            raise ConfigError(f"{path}: is {other}, not {kind}.\n{advice.format(path)}")
    return document


def _read_bytes(path: Path) -> bytes:
    try:
        return read_bounded(path, MOST_BYTES)
    except FileNotFoundError as error:
        beside = sorted(other.name for other in path.parent.glob("*.yaml"))
        hint = did_you_mean(path.name, beside)
        found = hint or (f"Found there: {', '.join(beside[:8])}." if beside else "")
        raise ConfigError(f"{path}: no such file. {found}".strip()) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{what_folder_holds(path)}\nGive one of its files.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({why_unreadable(error)}).\n"
            "Give the YAML file of an experiment, a suite or a search space."
        ) from error


def what_folder_holds(folder: Path) -> str:
    """A sentence about a folder given instead of a file: its YAML files, its runs, or the rest."""
    files = sorted(path.name for path in folder.glob("*.y*ml"))
    runs = sorted(path.parent.name for path in folder.glob("*/run.json"))
    shown = [*files, *runs] or sorted(path.name for path in folder.iterdir())
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    holds = f"it holds {', '.join(shown[:8])}{more}" if shown else "it is empty"
    return f"{folder}: is a folder; {holds}."


def _decode(path: Path, content: bytes) -> str:
    """The text of a file. Raises: ConfigError with the encoding and the position of the error."""
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8")
    )
    try:
        text = content.decode("utf-8-sig" if mark == codecs.BOM_UTF8 else encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {_not_decoded(content, error)}") from error
    if "\0" in text:
        raise ConfigError(f"{path}: {_holds_nul(text)}")
    return text


def _not_decoded(content: bytes, error: UnicodeDecodeError) -> str:
    if error.encoding != "utf-8":
        name = error.encoding.upper()
        return f"has the byte order mark of {name} but is not {name}; save it as UTF-8."
    before = content[: error.start]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    byte = content[error.start]
    character = bytes([byte]).decode("cp1252", errors="replace")
    seen = f"; {character!r} in Latin-1 and Windows-1252" if character.isprintable() else ""
    return (
        f"line {line}, column {column}: is not UTF-8 (byte 0x{byte:02x}{seen}). Save it as UTF-8."
    )


def _holds_nul(text: str) -> str:
    if text.count("\0") >= len(text) // 3:
        return "is UTF-16 without a byte order mark; save it as UTF-8."
    before = text[: text.index("\0")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"line {line}, column {column}: a NUL byte; is it a text file? Save it as UTF-8."
