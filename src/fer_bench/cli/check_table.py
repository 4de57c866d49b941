"""`fer check-table`: whether a printed table of results can be right."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.options import Json


def check_table(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The table: what scikit-learn's classification_report prints or returns, as text, "
            "JSON, CSV or Markdown; or CSV with the columns class, precision, recall, f1, support.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Audit a printed table: the counts behind it, and the cells that cannot be right.

    Precision, recall and F1 of a class are ratios of whole numbers. Rounded
    as they are, they mostly leave one set of counts, and with it only one
    accuracy and one of each average.

    Shares may be printed as 0.3791, 37.91 or 37.91%, with any number of
    decimals; a cell that is not printed is empty or a dash. The rows accuracy,
    macro avg and weighted avg may be missing. Wrong cells are a finding: the
    exit code is 0.
    """
    from fer_bench.comparison.printed import check, read_printed

    document = check(read_printed(file))
    if as_json:
        say(json.dumps(document, indent=2, allow_nan=False))
        return
    from fer_bench.report.terminal.printed import printed_tables

    results().print(printed_tables(document))
