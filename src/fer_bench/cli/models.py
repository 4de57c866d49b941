"""`fer models`: the available backbones, and the network of an experiment. No data is read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.arguments import check_png
from fer_bench.cli.console import messages, results, say
from fer_bench.cli.options import ConfigFile, Json, Outputs, Overrides
from fer_bench.cli.shell import Commands, Typer, mention, open_device

app = Typer(
    cls=Commands,
    invoke_without_command=True,
    help="List the backbones, or show the network of an experiment.",
)


@app.callback()
def list_backbones(context: typer.Context, as_json: Json = False) -> None:
    """List the backbones: size, smallest input, preprocessing, ImageNet weights."""
    if context.invoked_subcommand:
        return
    open_device("cpu")

    from fer_bench.models.summary import describe_backbones

    with messages.status("counting parameters") as status:
        backbones = describe_backbones(lambda name: status.update(f"counting parameters: {name}"))
    if as_json:
        say(json.dumps(backbones, indent=2))
        return
    from fer_bench.report.terminal.models import backbones_table

    results().print(backbones_table(backbones))


@app.command()
def show(
    config: ConfigFile,
    overrides: Overrides = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw which layers train in which stage into this PNG file.")
    ] = None,
    outputs: Outputs = Path("outputs"),
    as_json: Json = False,
) -> None:
    """Show the network of an experiment and what each stage trains."""
    from fer_bench.api.experiments import experiment_file
    from fer_bench.config.loading import load_experiment

    check_png("--plot", plot)
    experiment = load_experiment(experiment_file(config, outputs), overrides or [])
    open_device("cpu")

    from fer_bench.models.summary import describe_model

    document, plan = describe_model(experiment)
    if plot:
        from fer_bench.report.figures.freezing import freeze_plan

        freeze_plan(plan, f"{experiment.name}: {experiment.model.backbone}", plot)
    if as_json:
        say(json.dumps(document, indent=2))
    else:
        from fer_bench.report.terminal.models import model_tables

        results().print(model_tables(document))
    if plot:
        mention("written", plot)
