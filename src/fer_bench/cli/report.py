"""`fer report`: the pages of runs."""

from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import say
from fer_bench.cli.options import Outputs, Runs
from fer_bench.runs.names import named_run


def report(
    run_ids: Runs,
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
    """Write runs' self-contained pages from what they have saved. Prints the pages' paths."""
    from fer_bench.report.pages import write_run_report
    from fer_bench.storage.replacement import settle_files

    def report_one(typed: str) -> None:
        run = named_run(outputs, typed)
        settle_files(run.path)
        say(str(write_run_report(run, with_images=with_images)))

    raise_all(try_each(run_ids, report_one)[1])
