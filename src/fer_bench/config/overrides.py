"""`--set a.b=c`: keys of an experiment changed from the command line or a program."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fer_bench.config.yaml_files import parse_value
from fer_bench.errors import ConfigError, shortened
from fer_bench.storage.files import MOST_DIGITS

# Of what was typed, in a message.
_LONGEST = 120


def overridden(
    document: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any]
) -> dict[str, Any]:
    """`document` with all `overrides`: each `a.b=value`, or the values by key. Raises: ConfigError.

    A value takes the place of all that the key holds in the document.
    """
    if not isinstance(overrides, Mapping):
        for override in overrides:
            document = with_override(document, override)
        return document
    for key, value in overrides.items():
        document = with_value(document, _dotted(key), value, f"{key}={value!r}")
    return document


def _dotted(key: str) -> str:
    """`stages.0.epochs` for `stages[0].epochs`, as in Python."""
    return re.sub(r"\[(\d+)\]", r".\1", key.strip())


def with_override(document: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of `document` with one override, such as `stages.0.epochs=3`. Raises: ConfigError.

    The value is YAML.
    """
    dotted, equals, text = override.partition("=")
    dotted = _dotted(dotted)
    context = f"--set {override if len(override) <= _LONGEST else override[:_LONGEST] + '...'}"
    if not equals or not dotted:
        raise ConfigError(f"{context}: expected KEY=VALUE, for example training.batch_size=16.")
    if not text.strip():  # mostly a variable of the shell that is not set
        raise ConfigError(
            f"{context}: there is no value. Write {dotted}=null for the default of this key."
        )
    try:
        value = parse_value(text)
    except ValueError as error:
        raise ConfigError(f"{context}: {error}") from error
    return with_value(document, dotted, value, context)


def with_value(document: dict[str, Any], key: str, value: Any, context: str) -> dict[str, Any]:
    """A copy of `document` in which the dotted `key` has the given value.

    Args:
        document: the experiment as read from its file.
        key: for example `training.batch_size`, or `stages.0.epochs` in a list.
        value: anything that YAML can hold.
        context: where the user wrote it, to begin the message with.

    Raises:
        ConfigError: there is no such place.
    """
    document = copy.deepcopy(document)
    *parents, last = key.split(".")
    if not all(part.strip() for part in (*parents, last)):
        raise ConfigError(
            f"{context}: a part of the key is empty. Write it as in training.batch_size."
        )
    place: Any = document
    for part in parents:
        place = _child(place, part, context)
    if isinstance(place, list):
        place[_index(place, last, context)] = value
    else:
        place[last] = value
    return document


def _child(place: Any, part: str, context: str) -> Any:
    """The mapping or list at `part` of `place`; an empty mapping is made where there is none."""
    key = _index(place, part, context) if isinstance(place, list) else part
    if isinstance(place, dict) and place.get(part) is None:
        place[part] = {}
    if not isinstance(place[key], dict | list):
        raise ConfigError(f"{context}: '{part}' holds {place[key]!r}, which has no keys.")
    return place[key]


def _index(place: list[Any], part: str, context: str) -> int:
    """The position in a list that `part` names by its number or by the `name` of the item."""
    if part.isdecimal() and len(part) < MOST_DIGITS and int(part) < len(place):
        return int(part)
    names = [str(one.get("name")) if isinstance(one, dict) else "" for one in place]
    if part and names.count(part) == 1:
        return names.index(part)
    positions = f"use 0 to {len(place) - 1}" if place else "the list is empty"
    named = ", ".join(filter(None, names[:20]))
    raise ConfigError(
        f"{context}: {shortened(part)} is no position in a list of {len(place)}; {positions}."
        + (f" Or a name: {named}." if named else "")
    )
