"""`fer explain`: where a trained network looks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import results, say
from fer_bench.cli.options import DeviceName, Json, Outputs, Places, Runs, SplitName, To
from fer_bench.cli.shell import mention, open_device, open_display
from fer_bench.runs.names import named_run

if TYPE_CHECKING:
    from fer_bench.data.manifest import Manifest
    from fer_bench.evaluation.protocol import TrainedRun


def explain(
    run_ids: Runs,
    split: SplitName = "test",
    number: Annotated[
        int,
        typer.Option(
            "-n", "--number", min=1, help="Number of images: half correct, half mistakes."
        ),
    ] = 32,
    places: Places = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    to: To = None,
    as_json: Json = False,
) -> None:
    """Show where trained models look (Grad-CAM): correct answers, mistakes, the mean per class."""
    from fer_bench.evaluation.protocol import open_trained_run
    from fer_bench.labels import SPLITS

    one_of("--split", split, SPLITS)

    def open_one(typed: str) -> "tuple[TrainedRun, Manifest]":
        trained = open_trained_run(named_run(outputs, typed), places or (), to)
        return trained, trained.own_dataset()

    opened, errors = try_each(run_ids, open_one)
    if not opened:
        raise_all(errors)
    chosen = open_device(device)

    from fer_bench.evaluation.explain import explain as explain_run
    from fer_bench.report.figures.explanations import write_sheets
    from fer_bench.report.terminal.explanations import sheets_table

    def explain_one(run: "tuple[TrainedRun, Manifest]") -> Any:
        with open_display() as display:
            explanation = explain_run(*run, split, number, chosen, display)
        sheets = write_sheets(explanation)
        if not as_json:
            results().print(sheets_table(explanation, sheets))
        for name, path in sheets.items():
            mention(name, path)
        return explanation.document

    found, more = try_each(opened, explain_one)
    if as_json and found:
        say(json.dumps(found[0] if len(run_ids) == 1 else found, indent=2))
    raise_all([*errors, *more])
