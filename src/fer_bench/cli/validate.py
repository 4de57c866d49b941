"""`fer validate` and `fer schema`: experiment files, without their data."""

import json
from pathlib import Path

from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import results, say
from fer_bench.cli.options import ConfigFiles, Outputs, Overrides


def validate(
    configs: ConfigFiles,
    overrides: Overrides = None,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Check experiment files, without their data, and print the training stages."""
    from fer_bench.api.experiments import experiment_file
    from fer_bench.config.loading import load_experiment
    from fer_bench.report.terminal.plan import plan_table

    def validate_one(typed: Path) -> None:
        experiment = load_experiment(experiment_file(typed, outputs), overrides or [])
        results().print(plan_table(experiment))

    raise_all(try_each(configs, validate_one)[1])


def schema() -> None:
    """Print the JSON Schema of experiment files, for editors and other programs."""
    from fer_bench.config.experiment import json_schema

    say(json.dumps(json_schema(), indent=2))
