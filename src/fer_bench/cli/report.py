"""`fer report`: the pages of runs."""

from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import say
from fer_bench.cli.options import Outputs, Runs, To
from fer_bench.runs.elsewhere import place_of_results
from fer_bench.runs.names import named_run


def report(
    run_ids: Runs,
    outputs: Outputs = Path("outputs"),
    with_images: Annotated[
        bool,
        typer.Option(
            "--with-images",
            help="Include the sheets of `fer explain`. They show faces, which most licences do not "
            "allow you to share.",
        ),
    ] = False,
    to: To = None,
) -> None:
    """Rewrite the pages of runs from their saved results. Prints the paths of the pages."""
    from fer_bench.api.runs import written_page

    def report_one(typed: str) -> None:
        run = place_of_results(named_run(outputs, typed), to)
        say(str(written_page(run, with_images=with_images)))

    raise_all(try_each(run_ids, report_one)[1])
