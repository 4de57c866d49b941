"""From the name of a file or of a run to an experiment."""

import os
from pathlib import Path
from typing import Any

from fer_bench.config import loading
from fer_bench.config.experiment import Experiment
from fer_bench.config.yaml_files import what_folder_holds
from fer_bench.errors import ConfigError, RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.names import named_run, run_at

OUTPUTS = Path("outputs")  # the folder of the runs, unless another is given


def load_experiment(path_or_name: str | Path, /, **overrides: Any) -> Experiment:
    """Read an experiment, change some of its keys, and check all of it.

    >>> import fer_bench
    >>> experiment = fer_bench.load_experiment(
    ...     "configs/drawn_compact.yaml", seed=7, **{"training.batch_size": 16}
    ... )
    >>> experiment.training.batch_size
    16

    Args:
        path_or_name: a YAML file, or a run, which gives the experiment it was trained with: its
            folder, or in the folder `outputs` its id, the beginning of its id or `latest`.
        **overrides: new values by key, as in `fer train --set`: `seed=7`,
            `**{"stages.head.epochs": 3}`. A value takes the place of all that the key holds.

    Raises:
        ConfigError: the file is missing or not YAML, or lists every error of its content.
        RunError: several runs fit the name, or the run has no experiment.
    """
    return loading.load_experiment(experiment_file(Path(path_or_name), OUTPUTS), overrides)


def experiment_file(typed: Path, outputs: Path) -> Path:
    """The experiment file that `typed` names: itself, or the file of the run with that name.

    Raises:
        ConfigError: `typed` is an override, or a folder without a run.
        RunError: the run was adopted, or the beginning of an id fits several runs.
    """
    run = experiment_run(typed, outputs)
    if run is None:
        return typed
    if run.is_adopted():
        raise RunError(
            f"{typed}: its predictions come from elsewhere, and it has no experiment.\n"
            "Give the YAML file of an experiment."
        )
    return run.config


def check_no_key(typed: Path) -> None:
    """Check that `typed` is not a bare key, as `seed=3`. Raises: ConfigError with the option."""
    if "=" in typed.name and not os.path.exists(typed):  # noqa: PTH110 - False for any text
        raise ConfigError(f"{typed}: a key is set with an option: --set {typed}")


def experiment_run(typed: Path, outputs: Path) -> RunDirectory | None:
    """The run that `typed` names; None where `typed` is an experiment file of its own.

    Raises: ConfigError, RunError.
    """
    if typed.is_file() and typed.suffix in (".yaml", ".yml") and typed.name != "config.yaml":
        return None
    if run := run_at(typed):
        return run
    if typed.is_dir():
        raise ConfigError(f"{what_folder_holds(typed)}\nGive one of its files, or a run.")
    if typed.exists():
        return None
    check_no_key(typed)
    try:
        return named_run(outputs, str(typed))
    except RunError as error:
        if "runs begin with" in str(error):
            raise
        return None  # whoever reads the file lists what there is beside it
