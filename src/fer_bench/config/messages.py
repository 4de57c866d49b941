"""Error messages about experiments: all errors of a file at once, each with what to write."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from fer_bench.config.experiment import Experiment
from fer_bench.config.habits import places, sections_in
from fer_bench.errors import shortened
from fer_bench.spelling import did_you_mean

# More errors than this are not explained: nobody corrects them one by one.
MOST_ERRORS = 40


def listed_errors(path: Path, lines: Sequence[str], advice: str) -> str:
    """The message about a file with one or more errors, one per line of `lines`."""
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    if len(lines) > MOST_ERRORS:
        count = f"more than {MOST_ERRORS} errors"
    listed = (f"  {line}" for line in lines[:MOST_ERRORS])
    return "\n".join([f"{path}: {count}", *listed, advice])


def explain(error: ValidationError, schema: type[BaseModel] = Experiment) -> list[str]:
    """One line per error: `stages.1.learning_rate: what is expected, got what was found`.

    At most one more than `MOST_ERRORS`, which shows that there are more.
    """
    items = error.errors(include_url=False)
    wrong = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    # A list with a wrong element also counts as too short.
    own = (item for item in items if item["type"] != "too_short" or item["loc"] not in wrong)
    return [_explain_one(item, schema) for item in islice(own, MOST_ERRORS + 1)]


def explain_first(error: ValidationError) -> str:
    """The first error with its key, and how many more there are."""
    line, *more = explain(error)
    return f"{line} (and {error.error_count() - 1} more)" if more else line


def _explain_one(item: Mapping[str, Any], schema: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in item["loc"])
    message, found = str(item["msg"]).removeprefix("Value error, "), item["input"]
    match item["type"]:
        case "extra_forbidden" | "invalid_key":
            return _explain_unknown_key(item["loc"], location, schema)
        case "missing":
            return f"{location}: missing"
        case "value_error" | "boolean_in_list":  # raised in this package; contains the value found
            place = item["ctx"].get("place")
            return f"{location}{'' if place is None else f'.{place}'}: {message}"
        case "names_its_key":
            return message
        case "literal_error":
            known = re.findall("'([^']*)'", str(item["ctx"]["expected"]))
            hint = did_you_mean(str(found), known)
            return f"{location}: {_must_be(message)}, got {shortened(found)}. {hint}".rstrip(". ")
        case "too_short" | "too_long":
            message = _number_of_entries(item)
    return f"{location}: {_PLAIN.get(item['type'], _must_be(message))}, got {shortened(found)}"


def _number_of_entries(item: Mapping[str, Any]) -> str:
    few = item["type"] == "too_short"
    number = item["ctx"]["min_length" if few else "max_length"]
    entries = "entry" if number == 1 else "entries"
    return f"must have at {'least' if few else 'most'} {number} {entries}"


# Messages of pydantic that use terms of Python.
_PLAIN = {
    "model_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "must be up to 200 letters, digits, '.', '_' or '-', "
    "with a letter or digit at the beginning",
    "string_type": "must be a text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("dict_type", "mapping_type"), "must be a mapping of keys"),
    **dict.fromkeys(("list_type", "set_type", "frozen_set_type"), "must be a list"),
    **dict.fromkeys(("path_type", "path_not_file"), "must be a path"),
}


def _must_be(message: str) -> str:
    return message.replace("Input should be", "must be")


def _explain_unknown_key(
    location: Sequence[str | int], dotted: str, schema: type[BaseModel]
) -> str:
    fields = _section_at(location[:-1], schema).model_fields
    known = [str(field.alias or name) for name, field in fields.items()]
    meant = places(str(location[-1]), schema)
    here = [key.rpartition(".")[2] for key in meant if key.rpartition(".")[2] in known]
    if meant and not here:
        return f"{dotted}: unknown key. It is {' or '.join(meant)}."
    hint = did_you_mean(here[0] if here else str(location[-1]), known)
    hint = hint or f"Known keys: {', '.join(known)}."
    return f"{dotted}: unknown key. {hint}"


def _section_at(location: Iterable[str | int], section: type[BaseModel]) -> type[BaseModel]:
    """The schema class, inside `section`, that holds the key at `location`."""
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = next(sections_in(section.model_fields[part].annotation), section)
    return section
