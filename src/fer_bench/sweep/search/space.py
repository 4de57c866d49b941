"""The space of a search: its file, and the experiment of a choice of values."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from fer_bench.config.experiment import Experiment
from fer_bench.config.messages import explain, listed_errors
from fer_bench.config.overrides import with_value
from fer_bench.config.section import Section
from fer_bench.config.yaml_files import read_yaml
from fer_bench.errors import ConfigError
from fer_bench.sweep.job import config_text

_ADVICE = "docs/search.md shows every key of a space; `fer schema` prints those of an experiment."
_DATA = "trials on other images or labels cannot be compared"
_ABOUT_DATA = (
    *("name", "root", "labels", "contempt", "exclude", "groups"),
    *("split", "validation", "split_seed"),
)
# Keys that a search must not vary, and why.
FIXED = {
    "name": "all trials share the name of the study",
    "seed": "the best of several seeds is the luckiest, not the best experiment",
    "published": "it holds the results of others",
    "selection": "a search must not use the test split",
    "training.select": "trials that optimize different metrics cannot be compared",
    "model.targets": "trials that predict different things cannot be compared",
    **{f"dataset.{key}": _DATA for key in _ABOUT_DATA},
}
_PART_OF_LOSS = "it is a part of val_loss, which the search minimizes"
FIXED_FOR_LOSS = {
    f"training.{key}": _PART_OF_LOSS for key in ("valence_arousal_loss", "valence_arousal_weight")
}


class Parameter(Section):
    """The values of one key: a range of numbers, or a list of choices."""

    low: float | None = Field(None, description="smallest number")
    high: float | None = Field(None, description="largest number")
    log: bool = Field(False, description="draw the logarithm uniformly")
    integer: bool = Field(False, description="whole numbers only")
    choices: tuple[Any, ...] | None = Field(
        None, min_length=1, description="list of values: numbers, texts, lists or mappings"
    )

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        seen: set[str] = set()
        for choice in choices or ():
            text = as_text(choice)
            if text in seen:
                raise ValueError(f"duplicate choice: {text}")
            seen.add(text)
        return choices

    @model_validator(mode="after")
    def _one_of_two(self) -> "Parameter":
        if self.choices is not None:
            if self.model_fields_set - {"choices"}:
                raise ValueError("must have either choices, or low and high, not both")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low must be less than high, got {self.low:g} and {self.high:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(
                f"low and high must be whole numbers with integer: true, got {self.low:g} and "
                f"{self.high:g}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low must be greater than 0 with log: true, got {self.low:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest number of a range; whole numbers as int."""
        assert self.low is not None, "a list of choices has no bounds"
        assert self.high is not None, "a list of choices has no bounds"
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values to validate: if they are valid, so are all others."""
        return self.bounds if self.choices is None else self.choices


class Pruning(Section):
    """Ends a trial early if its best epoch so far is worse than the median of the others."""

    startup_trials: int = Field(5, gt=0, description="trials that must finish before any is pruned")
    warmup_epochs: int = Field(2, ge=0, description="epochs before a trial can be pruned")


class Space(Section):
    """The content of a space file."""

    trials: int = Field(30, gt=0, description="number of trials, over all starts of the search")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    space: dict[str, Parameter] = Field(
        min_length=1, description="values for keys of the experiment, such as training.batch_size"
    )
    pruning: Pruning | None = Field(None, description="left out: no trial is pruned")


def load_space(path: Path, base: Experiment) -> Space:
    """Read a space and check that it fits the experiment to vary.

    Raises:
        ConfigError: the file is missing, not YAML, or has errors, all of which are listed.
    """
    document = read_yaml(path, "a search space")
    try:
        space = Space.model_validate(document)
    except ValidationError as error:
        raise ConfigError(listed_errors(path, explain(error, Space), _ADVICE)) from error
    if wrong := [*_misplaced(space, base), *_unusable(space, base)]:
        raise ConfigError(listed_errors(path, wrong, _ADVICE))
    return space


def _misplaced(space: Space, base: Experiment) -> Iterator[str]:
    """The keys that must not be varied, or are varied twice."""
    fixed = FIXED | (FIXED_FOR_LOSS if base.select == "val_loss" else {})
    for key in space.space:
        for other, reason in fixed.items():
            if key == other or is_inside(key, other):
                yield f"space.{key}: must not be varied: {reason}"
            elif is_inside(other, key):
                yield f"space.{key}: cannot be varied as a whole, since {other} is fixed: {reason}"
        for other in space.space:
            if is_inside(key, other):
                yield f"space.{key}: {other} is varied as a whole; vary only one of them"


def is_inside(key: str, other: str) -> bool:
    """Whether a dotted key is below another one."""
    return key.startswith(f"{other}.")


def _unusable(space: Space, base: Experiment) -> Iterator[str]:
    """Values that are invalid alone. Values that are only invalid together fail in their trial."""
    for key, parameter in space.space.items():
        errors = {line for value in parameter.extremes for line in _wrong_with(key, value, base)}
        yield from sorted(errors)


def _wrong_with(key: str, value: Any, base: Experiment) -> Iterator[str]:
    try:
        document = with_value(_document(base), key, value, f"space.{key}")
    except ConfigError as error:
        yield str(error)
        return
    try:
        Experiment.model_validate(document)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # A value that does not fit another key may fit the value of that key in a trial.
        joint = {item["msg"] for item in items if item["type"] == "names_its_key"}
        for line in explain(error):
            place = line.partition(":")[0]
            if line not in joint and (place == key or is_inside(place, key)):
                yield f"space.{line}"


def _document(experiment: Experiment) -> Any:
    return yaml.safe_load(config_text(experiment))


def varied(base: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment with these values of dotted keys.

    Raises:
        ConfigError: the values are invalid together; lists every error.
    """
    document = _document(base)
    for key, value in values.items():
        document = with_value(document, key, value, key)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error))) from error


def as_text(value: Any) -> str:
    """A choice as JSON. Raises: ValueError for a value that JSON does not have, such as a date."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"must be numbers, texts, true, false, null, lists or mappings ({error})"
        ) from error
