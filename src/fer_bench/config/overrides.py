"""`--set a.b=c`: one key of an experiment changed from the command line."""

import copy
import re
from typing import Any

from fer_bench.config.yaml_files import parse_value
from fer_bench.errors import ConfigError


def with_override(document: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of `document` in which `a.b=value` or `stages.0.epochs=3` holds. Raises: ConfigError.

    The value is YAML.
    """
    dotted, equals, text = override.partition("=")
    dotted = re.sub(r"\[(\d+)\]", r".\1", dotted.strip())  # stages[0].epochs, as in Python
    if not equals or not dotted:
        raise ConfigError(
            f"--set {override}: expected KEY=VALUE, for example training.batch_size=16."
        )
    try:
        value = parse_value(text)
    except ValueError as error:
        raise ConfigError(f"--set {override}: {error}") from error
    return with_value(document, dotted, value, f"--set {override}")


def with_value(document: dict[str, Any], key: str, value: Any, said: str) -> dict[str, Any]:
    """A copy of `document` in which the dotted `key` has this value.

    Args:
        document: the experiment as read from its file.
        key: for example `training.batch_size`, or `stages.0.epochs` in a list.
        value: anything that YAML can hold.
        said: where the user wrote that, for the message.

    Raises:
        ConfigError: there is no such place.
    """
    document = copy.deepcopy(document)
    *parents, last = key.split(".")
    place: Any = document
    for part in parents:
        place = _child(place, part, said)
    if isinstance(place, list):
        place[_index(place, last, said)] = value
    else:
        place[last] = value
    return document


def _child(place: Any, part: str, said: str) -> Any:
    """The mapping or list below `place`; an empty mapping is put where there is nothing."""
    key = _index(place, part, said) if isinstance(place, list) else part
    if isinstance(place, dict) and place.get(part) is None:
        place[part] = {}
    if not isinstance(place[key], dict | list):
        raise ConfigError(f"{said}: '{part}' holds {place[key]!r}, which has no keys.")
    return place[key]


def _index(place: list[Any], part: str, said: str) -> int:
    """The position that is meant, by number or by the name of what is there."""
    if part.isdecimal() and int(part) < len(place):
        return int(part)
    names = [str(one.get("name")) if isinstance(one, dict) else "" for one in place]
    if part and names.count(part) == 1:
        return names.index(part)
    positions = f"use 0 to {len(place) - 1}" if place else "the list is empty"
    named = ", ".join(filter(None, names))
    raise ConfigError(
        f"{said}: '{part}' is no position in a list of {len(place)}; {positions}."
        + (f" Or a name: {named}." if named else "")
    )
