"""The base class of all sections of an experiment: frozen, and strict about keys and values."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fer_bench.errors import shortened
from fer_bench.spelling import known_as

# All but tab and newline. They would be printed to terminals, and YAML does not preserve them all.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")


class Section(BaseModel):
    """A part of the experiment: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if _takes_booleans(annotation):
            return value
        if isinstance(value, bool):
            raise ValueError(_no_boolean(value))
        for place, one in enumerate(value if isinstance(value, list | tuple) else ()):
            if isinstance(one, bool):
                found = {"place": place, "message": _no_boolean(one)}
                raise PydanticCustomError("boolean_in_list", "{message}", found)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _path_is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and not value.strip() and _mentions(annotation, Path):
            raise ValueError(f"must be a path, got {value!r}")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _name_is_spelled_as_here(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        return _spelled(value, list(_literals(field.annotation)))

    @field_validator("*", mode="before")
    @classmethod
    def _text_is_printable(cls, value: Any) -> Any:
        if isinstance(value, str) and _CONTROL.search(value):
            raise ValueError(f"must not hold control characters, got {shortened(value)}")
        return value


def _no_boolean(value: bool) -> str:
    return (
        f"must not be a boolean, got {str(value).lower()} (YAML reads yes, no, on and off as "
        "booleans; put a text in quotes)"
    )


def _takes_booleans(annotation: Any) -> bool:
    return _mentions(annotation, bool) or _mentions(annotation, Any)


def _mentions(annotation: Any, wanted: Any) -> bool:
    """Whether a value, or the values in a list, may be of a type."""
    return annotation is wanted or any(_mentions(one, wanted) for one in get_args(annotation))


def _literals(annotation: Any) -> Iterator[str]:
    """Every text that an annotation allows as a literal."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif not isinstance(annotation, type):
        for argument in get_args(annotation):
            yield from _literals(argument)


def _spelled(value: Any, names: Sequence[str]) -> Any:
    """A name, or a list of names, as spelled in the schema: `Adam` becomes `adam`."""
    if isinstance(value, str):
        return known_as(value, names) if names else value
    if isinstance(value, list):
        return [_spelled(one, names) for one in value]
    return value


def is_none(value: Any) -> bool:
    """Whether no value is set, so that the key is left out."""
    return value is None


def about_key(key: str, message: str) -> PydanticCustomError:
    """An error about `key`, raised by a check of several keys."""
    return PydanticCustomError("names_its_key", "{message}", {"message": f"{key}: {message}"})


def registered_name(registry: Any, name: str) -> str:
    """`name`, if it is registered. Raises: ValueError that lists the registered names."""
    if name not in registry.names():
        raise ValueError(registry.explain_unknown(name))
    return name
