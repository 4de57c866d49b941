"""From a file and overrides to a checked `Experiment`."""

import functools
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import NAME, Experiment
from fer_bench.config.messages import explain, listed_errors
from fer_bench.config.overrides import with_override
from fer_bench.config.yaml_files import read_yaml
from fer_bench.errors import ConfigError
from fer_bench.spelling import slug

_logger = logging.getLogger(__name__)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read `path`, apply `overrides` (each `a.b=value`) and check everything.

    Raises:
        ConfigError: the file is missing or not YAML, or lists every error of its content.
    """
    document = {**read_yaml(path, "an experiment")}
    document.setdefault("name", name_of(path))
    for override in overrides:
        document = with_override(document, override)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        advice = "`fer schema` prints every key with its meaning."
        raise ConfigError(listed_errors(path, explain(error), advice)) from error


@functools.cache
def name_of(path: Path) -> str:
    """What a run is called whose file names none: as the file, with what no name may have left out.

    Says once where the two differ.
    """
    if re.fullmatch(NAME, path.stem):
        return path.stem
    name = slug(path.stem)
    _logger.info("%s: the run is called %s; set `name` to call it otherwise", path.name, name)
    return name


def dataset_of_folder(root: Path, name: str, overrides: Sequence[str] = ()) -> Dataset:
    """The section `dataset` for a folder that no experiment is about.

    Args:
        root: the folder.
        name: the registered name of the dataset in it.
        overrides: each `dataset.key=value`.

    Raises:
        ConfigError: an override is wrong.
    """
    document: dict[str, Any] = {"dataset": {"name": name, "root": str(root)}}
    for override in overrides:
        document = with_override(document, override)
    try:
        return Dataset.model_validate(document["dataset"])
    except ValidationError as error:
        advice = "`fer schema` prints every key with its meaning."
        raise ConfigError(listed_errors(root, explain(error, Dataset), advice)) from error
