"""What a search may vary: the file of a space, and the experiment that a choice of values makes."""

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
# Keys that stay as they are in the experiment, and why.
FIXED = {
    "name": "all trials have the name of the study",
    "seed": "the best of several seeds is the luckiest, not the best experiment",
    "published": "it says what others found",
    "selection": "the test split chooses nothing in a search",
    "training.select": "trials that aim at different metrics cannot be compared",
    "model.targets": "trials that predict different things cannot be compared",
    **{f"dataset.{key}": _DATA for key in _ABOUT_DATA},
}
_PART_OF_LOSS = "it is a part of val_loss, at which the search aims"
FIXED_FOR_LOSS = {
    f"training.{key}": _PART_OF_LOSS for key in ("valence_arousal_loss", "valence_arousal_weight")
}


class Parameter(Section):
    """The values that one key may have: a range of numbers, or a list of choices."""

    low: float | None = Field(None, description="smallest number")
    high: float | None = Field(None, description="largest number")
    log: bool = Field(False, description="draw the logarithm of the number evenly")
    integer: bool = Field(False, description="whole numbers only")
    choices: tuple[Any, ...] | None = Field(
        None, min_length=1, description="the values themselves: numbers, texts, lists or mappings"
    )

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        seen: set[str] = set()
        for choice in choices or ():
            text = as_text(choice)
            if text in seen:
                raise ValueError(f"names a choice twice: {text}")
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
                f"low and high must be whole numbers beside integer: true, got {self.low:g} and "
                f"{self.high:g}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low must be greater than 0 beside log: true, got {self.low:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest number of a range; whole numbers as int."""
        assert self.low is not None, "a list of choices has no bounds"
        assert self.high is not None, "a list of choices has no bounds"
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values that must be valid for every value to be valid."""
        return self.bounds if self.choices is None else self.choices


class Pruning(Section):
    """When a trial ends early: its best epoch is worse than the median of the others by then."""

    startup_trials: int = Field(5, gt=0, description="trials that must be finished before")
    warmup_epochs: int = Field(2, ge=0, description="epochs that every trial is given")


class Space(Section):
    """The file of a search."""

    trials: int = Field(30, gt=0, description="how many, over all starts of the search")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler")
    space: dict[str, Parameter] = Field(
        min_length=1, description="values for keys of the experiment, such as training.batch_size"
    )
    pruning: Pruning | None = Field(None, description="left out: every trial is trained to its end")


def load_space(path: Path, base: Experiment) -> Space:
    """Read a space and check that it fits the experiment that it varies.

    Raises:
        ConfigError: the file is missing or not YAML, or lists every error of its content.
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
    """What must not be varied, and what is varied twice."""
    fixed = FIXED | (FIXED_FOR_LOSS if base.select == "val_loss" else {})
    for key in space.space:
        for other, reason in fixed.items():
            if key == other or is_inside(key, other):
                yield f"space.{key}: must stay as it is: {reason}"
            elif is_inside(other, key):
                yield f"space.{key}: cannot be varied as a whole, since {other} must stay: {reason}"
        for other in space.space:
            if is_inside(key, other):
                yield f"space.{key}: {other} is varied as a whole; vary one of them"


def is_inside(key: str, other: str) -> bool:
    """Whether a dotted key lies below another."""
    return key.startswith(f"{other}.")


def _unusable(space: Space, base: Experiment) -> Iterator[str]:
    """Values that are wrong by themselves. What only two together break fails in its trial."""
    for key, parameter in space.space.items():
        said: set[str] = set()
        for value in parameter.extremes:
            said |= set(_wrong_with(key, value, base))
        yield from sorted(said)


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
        # What does not fit another key may fit the value that the other has in a trial.
        joint = {item["msg"] for item in items if item["type"] == "names_its_key"}
        for line in explain(error):
            place = line.partition(":")[0]
            if line not in joint and (place == key or is_inside(place, key)):
                yield f"space.{line}"


def _document(experiment: Experiment) -> Any:
    return yaml.safe_load(config_text(experiment))


def varied(base: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment in which every dotted key of `values` has its value.

    Raises:
        ConfigError: the values do not fit each other; lists every error.
    """
    document = _document(base)
    for key, value in values.items():
        document = with_value(document, key, value, key)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error))) from error


def as_text(value: Any) -> str:
    """A choice as JSON. Raises: ValueError for what JSON cannot say, such as a date."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"must be numbers, texts, true, false, null, lists or mappings ({error})"
        ) from error
