"""`fer compare`: numbers side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.console import results, say
from fer_bench.cli.options import Json
from fer_bench.cli.shell import mention, notify
from fer_bench.errors import ConfigError

if TYPE_CHECKING:
    from fer_bench.comparison import Comparison

OUTPUTS = Path("outputs")
STANDARD_OUTPUT = Path("-")
# Documents that have no place for the runs that are left out.
NOT_LISTED_IN = ("csv", "latex")


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[OUTPUTS|RUN]...",
            help="Folders of runs, and single runs, by any of their names. Default: outputs.",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            "--evaluation",
            metavar="NAME",
            help="The evaluation: a split, or a name such as test+flip or test@fer2013_csv.",
        ),
    ] = "test",
    where: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help='Select runs: "dataset=rafdb and backbone~resnet or accuracy>=65%". Operators: '
            "= != < <= > >=, and ~ for a part of a text.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="NAME", help="Metric or other column to sort the runs by.")
    ] = "accuracy",
    pairs: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="Pairs to test: all, best (only pairs with the best run), or auto (all in groups "
            "of up to 15 runs, else best).",
        ),
    ] = "auto",
    as_json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row per run; - prints it.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained page.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write tables in Markdown; - prints them.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write tables in LaTeX; - prints them.")
    ] = None,
) -> None:
    """Compare runs: intervals, paired tests, and which runs are comparable at all."""
    one_of("--pairs", pairs, ("auto", "all", "best"))
    targets = {"csv": csv, "html": html, "markdown": markdown, "latex": latex}
    files = {kind: path for kind, path in targets.items() if path and path != STANDARD_OUTPUT}
    printed = [kind for kind, path in targets.items() if path == STANDARD_OUTPUT]
    printed += ["json"] if as_json else []
    if len(printed) > 1:
        raise ConfigError(
            f"{' and '.join(f'--{kind}' for kind in printed)}: only one of them can be printed.\n"
            "Give the others a file."
        )

    from fer_bench.api.comparison import compare as compare_runs
    from fer_bench.storage.files import write_atomically

    comparison = compare_runs(
        runs or OUTPUTS,
        split=split,
        where=where,
        sort=sort,
        pairs=pairs,  # type: ignore[arg-type]
        outputs=OUTPUTS,
    )
    for kind, path in files.items():
        write_atomically(path, comparison.to_text(kind))
    if printed:
        say(comparison.to_text(printed[0]), end="")
        if printed[0] in NOT_LISTED_IN:
            for one in comparison.left_out:
                notify(f"left out: {one.run_id}: {one.reason}")
        return
    show_comparison(comparison)
    for path in files.values():
        mention("written", path)


def show_comparison(comparison: "Comparison") -> None:
    """Print the tables of a comparison."""
    from fer_bench.report.terminal.comparison import comparison_tables

    console = results()
    console.print(comparison_tables(comparison, console.width))
