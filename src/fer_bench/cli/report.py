"""`fer report`: the page of one run."""

from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import say
from fer_bench.cli.options import Outputs


def report(
    run_id: Annotated[str, typer.Argument(help="The run, as `fer train` printed it.")],
    outputs: Outputs = Path("outputs"),
    with_images: Annotated[
        bool,
        typer.Option(
            "--with-images",
            help="Put the sheets of `fer explain` into the page. They show faces, which most "
            "licences forbid to pass on.",
        ),
    ] = False,
) -> None:
    """Write a run's self-contained page from what it has saved. Prints the page's path."""
    from fer_bench.report.page import write_run_report
    from fer_bench.rundir import find_run
    from fer_bench.staging import finish_replacing

    run = find_run(outputs, run_id)
    finish_replacing(run.path)
    say(str(write_run_report(run, with_images=with_images)))
