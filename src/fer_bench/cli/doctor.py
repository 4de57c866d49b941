"""`fer doctor`: what this machine has, what `auto` chooses on it, and how fast it trains."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import messages, results, say
from fer_bench.cli.options import DeviceName, Json, Outputs, Threads
from fer_bench.cli.shell import open_device
from fer_bench.report.terminal.machine import machine_screen

WIDTH = 80


def doctor(
    device: DeviceName = "auto",
    threads: Threads = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Approximate time to measure for; 0 to measure nothing.")
    ] = 20,
    outputs: Outputs = Path("outputs"),
    as_json: Json = False,
) -> None:
    """Examine this machine: what it has, what `auto` chooses on it, and how fast it trains."""
    chosen = open_device(device, threads)

    from fer_bench.training.speed import examine

    with messages.status("examining the machine") as status:
        document = examine(chosen, outputs, seconds, lambda text: status.update(text))
    if as_json:
        say(json.dumps(document, indent=2))
        return
    console = results()
    console.print(machine_screen(document), width=min(console.width, WIDTH), highlight=False)
