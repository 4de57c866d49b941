"""The suite file: the experiments of one study, with their seeds and variations."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fer_bench.config.dataset import WrittenPath
from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import name_of
from fer_bench.config.messages import explain, listed_errors
from fer_bench.config.overrides import with_override, with_value
from fer_bench.config.section import Section
from fer_bench.config.yaml_files import read_yaml
from fer_bench.errors import ConfigError

_ADVICE = "docs/scaling.md shows a suite; `fer schema` prints every key of an experiment."
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


# What to use instead of varying these keys.
_INSTEAD = {"seed": "seeds", "name": "name"}


def _no_boolean(seed: Any) -> Any:
    if isinstance(seed, bool):
        raise ValueError(f"must be a whole number, got {str(seed).lower()}")
    return seed


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if duplicates := [str(seed) for seed, count in Counter(seeds).items() if count > 1]:
        raise ValueError(f"duplicate seeds: {', '.join(duplicates)}; each seed makes one run")
    return seeds


Seed = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_distinct)]
Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class Entry(Section):
    """One experiment file, unchanged or varied."""

    config: WrittenPath = Field(description="experiment file, relative to the suite file")
    name: str | None = Field(None, description="name of the run; null: the name of the experiment")
    seeds: Seeds | None = Field(
        None, min_length=1, description="one run per seed; null: the seeds of the suite"
    )
    set: dict[str, Any] = Field({}, description="dotted keys and their values")
    grid: dict[str, Values] = Field(
        {}, description="dotted keys and lists of values: one run per combination"
    )
    zip: dict[str, Values] = Field(
        {}, description="dotted keys and lists of values that change together"
    )

    @field_validator("grid", "zip")
    @classmethod
    def _varies_no_seed_or_name(cls, values: dict[str, Values]) -> dict[str, Values]:
        for key, instead in _INSTEAD.items():
            if key in values:
                raise ValueError(f"must not vary {key}; use `{instead}`")
        return values

    @model_validator(mode="after")
    def _lists_fit(self) -> "Entry":
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(frozenset(lengths.values())) > 1:
            found = ", ".join(f"{key} has {count}" for key, count in lengths.items())
            raise ValueError(f"zip: the lists must have the same length; {found}")
        if both := sorted(self.grid.keys() & self.zip.keys()):
            raise ValueError(f"{both[0]} is both in grid and in zip; keep one of them")
        return self

    def variations(self) -> list[dict[str, Any]]:
        """The variations, as dotted keys with values; a single empty one if nothing varies.

        Their order depends on the order of the values, not on that of the keys.
        """
        grid, steps = dict(sorted(self.grid.items())), dict(sorted(self.zip.items()))
        combinations = itertools.product(*grid.values())
        zipped = list(zip(*steps.values(), strict=True)) or [()]
        return [
            dict(zip((*grid, *steps), (*one, *other), strict=True))
            for one in combinations
            for other in zipped
        ]


def _as_entry(value: Any) -> Any:
    return {"config": value} if isinstance(value, str) else value


class SuiteFile(Section):
    """The content of a suite file."""

    description: str = Field(description="the purpose of the suite, in one sentence")
    seeds: Seeds | None = Field(
        None, min_length=1, description="one run per seed; null: the seed of the experiment"
    )
    set: dict[str, Any] = Field({}, description="dotted keys and their values in all runs")
    runs: tuple[Annotated[Entry, BeforeValidator(_as_entry)], ...] = Field(
        min_length=1, description="experiment files: a path, or a path with changes"
    )


@dataclass(frozen=True)
class Planned:
    """One run of a suite.

    Attributes:
        experiment: its experiment.
        config: the experiment file.
        needs: the earlier run of the suite whose weights it starts from, or None.
    """

    experiment: Experiment
    config: Path
    needs: str | None = None

    @cached_property
    def run_id(self) -> str:
        """The run id, cached because it takes milliseconds to compute."""
        return self.experiment.run_id


@dataclass(frozen=True)
class Suite:
    """A suite with all its runs, validated and without duplicates."""

    name: str
    description: str
    runs: tuple[Planned, ...]

    def part(self, index: int, count: int) -> "Suite":
        """Every `count`-th run, starting with run number `index` (from 1), and the runs they need.

        Raises:
            ConfigError: there is no such part.
        """
        if not 1 <= index <= count:
            raise ConfigError(
                f"--part {index}/{count}: expected I/N with I from 1 to N, for example 1/4."
            )
        chosen = self.runs[index - 1 :: count]
        wanted = {run.run_id for run in chosen}
        for run in reversed(self.runs):  # a run comes after the run it needs
            if run.run_id in wanted and run.needs:
                wanted.add(run.needs)
        return replace(self, runs=tuple(run for run in self.runs if run.run_id in wanted))


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read a suite and expand all its entries, with all variations and seeds.

    Args:
        path: the YAML file.
        overrides: `a.b=value`, for all runs; they take precedence over the file.

    Raises:
        ConfigError: a file is missing or not YAML; or the suite or its experiments have errors, all
            of which are listed.
    """
    for override in overrides:
        with_override({}, override)  # an invalid one is reported once, not once per run
    try:
        written = SuiteFile.model_validate(read_yaml(path, "a suite"))
    except ValidationError as error:
        raise ConfigError(listed_errors(path, explain(error, SuiteFile), _ADVICE)) from error
    runs: dict[str, Planned] = {}
    errors: dict[str, None] = {}  # ordered and without duplicates
    for number, entry in enumerate(written.runs):
        for found in _expanded(entry, written, path.parent, overrides):
            if isinstance(found, Planned):
                run = _with_weights(found, runs)
                runs.setdefault(run.run_id, run)
            else:
                errors |= dict.fromkeys(f"runs.{number}: {line}" for line in found)
    errors |= dict.fromkeys(_shared_names(runs.values()))
    if errors:
        raise ConfigError(listed_errors(path, list(errors), _ADVICE))
    return Suite(path.stem, written.description, tuple(runs.values()))


def _expanded(
    entry: Entry, suite: SuiteFile, folder: Path, overrides: Sequence[str]
) -> Iterator[Planned | list[str]]:
    """The runs of one entry; in place of an invalid one, the lines of its errors."""
    path = Path(normpath(folder / entry.config))  # messages name it without `..`
    try:
        document = {**read_yaml(path, "an experiment")}
        document.setdefault("name", name_of(path))
        for key, value in (suite.set | entry.set).items():
            document = with_value(document, key, value, f"set {key}")
    except ConfigError as error:
        yield [" ".join(str(error).splitlines())]
        return
    document["name"] = entry.name or document["name"]
    for values in entry.variations():
        for seed in entry.seeds or suite.seeds or [document.get("seed")]:
            yield _planned(path, document, values, seed, overrides)


def _planned(
    path: Path,
    document: dict[str, Any],
    values: Mapping[str, Any],
    seed: int | None,
    overrides: Sequence[str],
) -> Planned | list[str]:
    document = document | {"name": f"{document['name']}{name_suffix(values)}"}
    if seed is not None:
        document["seed"] = seed
    name = document["name"]
    try:
        for key, value in values.items():
            document = with_value(document, key, value, key)
        for override in overrides:
            document = with_override(document, override)
        return Planned(Experiment.model_validate(document), path)
    except ConfigError as error:
        return [f"{name}: {' '.join(str(error).splitlines())}"]
    except ValidationError as error:
        return [f"{name}: {line}" for line in explain(error)]


def _shared_names(runs: Iterable[Planned]) -> Iterator[str]:
    """One line per name that several different experiments have."""
    by_name: dict[str, dict[str, Planned]] = {}
    for run in runs:
        same = run.experiment.model_copy(update={"seed": 0}).model_dump_json()
        by_name.setdefault(run.experiment.name, {}).setdefault(same, run)
    for name, different in by_name.items():
        if len(different) > 1:
            files = ", ".join(dict.fromkeys(run.config.name for run in different.values()))
            yield (
                f"{len(different)} different experiments have the name {name} ({files}); give "
                "each entry its own `name`"
            )


def _with_weights(planned: Planned, before: Mapping[str, Planned]) -> Planned:
    """The run, with the earlier run that it needs.

    `model.weights: run:NAME-sSEED` means the run of that name and seed, whatever its digest.
    """
    model = planned.experiment.model
    source = model.weights.removeprefix("run:")
    ids = {
        f"{run.experiment.name}-s{run.experiment.seed}": run_id for run_id, run in before.items()
    }
    source = ids.get(source, source)
    if source not in before:
        return planned
    changed = model.model_copy(update={"weights": f"run:{source}"})
    experiment = planned.experiment.model_copy(update={"model": changed})
    return replace(planned, experiment=experiment, needs=source)


# The name of a variation -----------------------------------------------------------------------


def name_suffix(values: Mapping[str, Any]) -> str:
    """The suffix of the name of a variation with these values of dotted keys.

    `{"model.head.dropout": 0.3, "dataset.balance": "none"}` gives `_balance-none_dropout0.3`.
    """
    parts = [f"_{_short(key, values)}{_text(values[key])}" for key in sorted(values)]
    return _NOT_IN_A_NAME.sub("-", "".join(parts))


def _short(key: str, keys: Mapping[str, Any]) -> str:
    """The shortest end of a dotted key that no other key shares."""
    words = key.split(".")
    ends = [".".join(words[start:]) for start in range(len(words) - 1, -1, -1)]
    unique = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
    return next(unique, key)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"-{key}{_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "-".join(_text(inner) for inner in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return f"-{str(value).lower()}"
