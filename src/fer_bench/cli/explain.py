"""`fer explain`: where a trained network looks."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.options import DeviceName, Json, Outputs, Places
from fer_bench.cli.shell import mention, one_of, open_device, open_display


def explain(
    run_id: Annotated[str, typer.Argument(help="The run, as `fer train` printed it.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, help="Examples: half right, half mistakes.")
    ] = 32,
    places: Places = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Show where a trained model looks (Grad-CAM): right answers, mistakes, the mean by class."""
    from fer_bench.manifest import SPLITS
    from fer_bench.protocol import open_trained_run
    from fer_bench.rundir import find_run

    run = find_run(outputs, run_id)
    one_of("--split", split, SPLITS)
    trained = open_trained_run(run, places or ())
    manifest = trained.own_dataset()
    chosen = open_device(device)

    from fer_bench.explain import explain as explain_run
    from fer_bench.report.explanations import sheets_table, write_sheets

    with open_display() as display:
        explanation = explain_run(trained, manifest, split, number, chosen, display)
    sheets = write_sheets(explanation)
    if as_json:
        say(json.dumps(explanation.document, indent=2))
    else:
        results().print(sheets_table(explanation, sheets))
    for name, path in sheets.items():
        mention(name, path)
