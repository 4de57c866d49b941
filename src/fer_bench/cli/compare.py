"""`fer compare`: numbers side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.options import Json
from fer_bench.cli.shell import mention, one_of
from fer_bench.errors import ConfigError

if TYPE_CHECKING:
    from fer_bench.comparison import Comparison
    from fer_bench.runs.directory import RunDirectory

OUTPUTS = Path("outputs")
STANDARD_OUTPUT = Path("-")


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[OUTPUTS|RUN]...",
            help="Folders that hold runs, and single runs, by any of their names; default outputs.",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            "--evaluation",
            metavar="NAME",
            help="What was measured: a split, or another evaluation by its name, for example "
            "test+flip or test@fer2013_csv.",
        ),
    ] = "test",
    where: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help='Some of the runs: "dataset=rafdb and backbone~resnet or accuracy>=65%"; '
            "= != < <= > >=, and ~ for a part of a text.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="NAME", help="Metric or other column that orders the runs.")
    ] = "accuracy",
    pairs: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="Pairs that are tested: all, best (those with the best run), or auto: all in a "
            "group of up to 15 runs, else best.",
        ),
    ] = "auto",
    as_json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row a run; - prints it.")
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
    """Put runs side by side: intervals, paired tests, and which rows are comparable."""
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

    from fer_bench.comparison.collect import collect
    from fer_bench.storage.files import write_atomically

    comparison = collect(_meant(runs or [OUTPUTS]), split, where, sort, pairs)  # type: ignore[arg-type]
    for kind, path in files.items():
        write_atomically(path, _document(kind, comparison))
    if printed:
        say(_document(printed[0], comparison), end="")
        return
    _show(comparison)
    for path in files.values():
        mention("written", path)


def _meant(typed: Sequence[Path]) -> "Path | list[RunDirectory]":
    """A folder of runs, or the runs in several folders and of several names.

    A pattern such as `outputs/*` names other things too: what holds no run is passed over.
    """
    from fer_bench.runs.directory import list_runs
    from fer_bench.runs.names import named_run, run_at

    if len(typed) == 1 and typed[0].is_dir() and not run_at(typed[0]):
        return typed[0]
    elsewhere = typed[0].parent != Path() or not OUTPUTS.is_dir()
    if len(typed) == 1 and not typed[0].exists() and elsewhere:
        return typed[0]  # is said to be missing
    found: list[RunDirectory] = []
    for path in typed:
        if path.exists() and not run_at(path):
            found += list_runs(path) if path.is_dir() else []
        else:
            found.append(named_run(OUTPUTS, str(path)))
    return list({run.path.resolve(): run for run in found}.values())


def _document(kind: str, comparison: "Comparison") -> str:
    """The text of one document; what a document needs is imported only for it."""
    if kind == "json":
        return json.dumps(comparison.to_json(), indent=2) + "\n"
    if kind == "csv":
        return comparison.to_frame().to_csv(index=False)
    if kind == "html":
        from fer_bench.report.pages import comparison_page

        return comparison_page(comparison)
    from fer_bench.report import paper

    return paper.markdown(comparison) if kind == "markdown" else paper.latex(comparison)


def _show(comparison: "Comparison") -> None:
    from fer_bench.report.terminal.comparison import comparison_tables

    console = results()
    console.print(comparison_tables(comparison, console.width))
