"""`fer validate`, `fer schema`: experiment files, without data."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.options import Overrides
from fer_bench.errors import ConfigError


def validate(
    configs: Annotated[list[Path], typer.Argument(help="YAML files of experiments.")],
    overrides: Overrides = None,
) -> None:
    """Check experiment files without data, and print the stages they stand for."""
    from fer_bench.config import load_experiment
    from fer_bench.report.plan import plan_table

    failed = []
    for path in configs:
        try:
            experiment = load_experiment(path, overrides or [])
        except ConfigError as error:
            failed.append(str(error))
        else:
            results().print(plan_table(experiment))
    if failed:
        raise ConfigError("\n".join(failed))


def schema() -> None:
    """Print the JSON Schema of an experiment file, for editors."""
    from fer_bench.config import Experiment

    say(json.dumps(Experiment.model_json_schema(), indent=2))
