"""From a file and overrides to a checked `Experiment`."""

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import NAME, Experiment
from fer_bench.config.messages import explain, listed_errors
from fer_bench.config.overrides import overridden
from fer_bench.config.yaml_files import read_yaml
from fer_bench.errors import ConfigError
from fer_bench.spelling import slug

_logger = logging.getLogger(__name__)


# The overrides of keys: each `a.b=value`, or the values by key.
Overrides = Sequence[str] | Mapping[str, Any]

ADVICE = "`fer schema` prints every key with its meaning."


def load_experiment(path: Path, overrides: Overrides = ()) -> Experiment:
    """Read `path`, apply `overrides` and check everything.

    Raises:
        ConfigError: the file is missing or not YAML, or lists every error of its content.
    """
    document = {**read_yaml(path, "an experiment")}
    document.setdefault("name", name_of(path))
    try:
        return Experiment.model_validate(overridden(document, overrides))
    except ValidationError as error:
        raise ConfigError(listed_errors(path, explain(error), ADVICE)) from error


@functools.cache
def name_of(path: Path) -> str:
    """The name of an experiment whose file sets none: that of the file, made into a valid name.

    Logs it once where the two differ.
    """
    if re.fullmatch(NAME, path.stem):
        return path.stem
    name = slug(path.stem)
    _logger.info("%s: the run is called %s; set `name` to change that", path.name, name)
    return name


def dataset_of_folder(root: Path, name: str, overrides: Overrides = ()) -> Dataset:
    """The section `dataset` for a folder that belongs to no experiment.

    Args:
        root: the folder.
        name: the registered name of the dataset in it.
        overrides: of keys below `dataset`.

    Raises:
        ConfigError: an override is wrong.
    """
    document = overridden({"dataset": {"name": name, "root": str(root)}}, overrides)
    try:
        return Dataset.model_validate(document["dataset"])
    except ValidationError as error:
        raise ConfigError(listed_errors(root, explain(error, Dataset), ADVICE)) from error
