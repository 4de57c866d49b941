"""`fer train`, `fer evaluate`, `fer compare`: from an experiment to numbers side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fer_bench.cli.options import ConfigFile, DeviceName, Json, Outputs, Overrides
from fer_bench.cli.shell import mention, open_device, open_display
from fer_bench.errors import ConfigError


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what this run has reached.")
    ] = False,
) -> None:
    """Train an experiment, or go on where it was interrupted. Prints the run id."""
    from fer_bench.config import load_experiment

    experiment = load_experiment(config, overrides or [])
    chosen = open_device(device)

    from fer_bench.train import train as train_run

    with open_display() as display:
        run = train_run(experiment, outputs, chosen, display, fresh=fresh)
    typer.echo(run.run_id)


def evaluate(
    run_id: Annotated[str, typer.Argument(help="The run, as `fer train` printed it.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Predict a split with a trained model; save predictions, metrics, figures and a page."""
    from fer_bench.manifest import SPLITS
    from fer_bench.rundir import find_run

    run = find_run(outputs, run_id)
    if split not in SPLITS:
        raise ConfigError(f"--split {split}: expected {', '.join(SPLITS)}.")
    chosen = open_device(device)

    from fer_bench.evaluate import evaluate as evaluate_run
    from fer_bench.report.page import write_run_report
    from fer_bench.report.tables import metrics_tables

    with open_display() as display:
        metrics = evaluate_run(run, split, chosen, display)
    page = write_run_report(run)
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    Console().print(metrics_tables(metrics, f"{run.run_id}, {split} split"))
    mention("page", page)


def compare(
    outputs: Annotated[Path, typer.Argument(help="Folder that holds the runs.")] = Path("outputs"),
    split: Annotated[str, typer.Option(help="Split whose metrics are compared.")] = "test",
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option(help="Write one row a run to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page.")] = None,
) -> None:
    """Put runs side by side: intervals, paired tests, and which rows are comparable."""
    from fer_bench.compare import collect
    from fer_bench.rundir import write_atomically

    comparison = collect(outputs, split)
    if csv:
        write_atomically(csv, comparison.to_frame().to_csv(index=False))
    if html:
        from fer_bench.report.page import write_comparison

        write_comparison(comparison, html)
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=2))
        return
    from fer_bench.report.tables import comparison_tables

    console = Console()
    console.print(comparison_tables(comparison, console.width))
    for path in filter(None, (csv, html)):
        mention("written", path)
