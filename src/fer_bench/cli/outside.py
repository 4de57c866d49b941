"""`fer check-table`, `fer adopt`: numbers and predictions that come from elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import messages, results, say
from fer_bench.cli.options import Json, Outputs
from fer_bench.cli.shell import mention


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
    from fer_bench.printed import check, read_printed

    document = check(read_printed(file))
    if as_json:
        say(json.dumps(document, indent=2, allow_nan=False))
        return
    from fer_bench.report.printed import printed_tables

    results().print(printed_tables(document))


def adopt(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the model is called; begins the run id.")
    ],
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS.csv",
            help="One row a sample: sample_id (or the path of the image), label (may be left out "
            "with --data), and the probability p_<class> of each class; divided by , ; | or tabs.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG",
            help="Experiment file whose dataset was predicted. Labels come from there, and the "
            "ids (or paths) must be those of its split.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="What was predicted: train, validation or test.")
    ] = "test",
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of the training; runs of one NAME with several are averaged.",
        ),
    ] = 0,
    outputs: Outputs = Path("outputs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace what was adopted under NAME and this seed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a run of predictions from elsewhere. Prints the run id.

    A model trained in another framework, a paper's code or a service then
    meets the same metrics, intervals and tests as every other run: fer compare
    treats them alike. Class names may be spelled as any dataset does (angry,
    Anger, 0_angry).
    """
    from fer_bench.adopt import Adoption
    from fer_bench.adopt import adopt as adopt_run
    from fer_bench.config import load_experiment

    dataset = load_experiment(data).dataset if data else None
    run = adopt_run(Adoption(name, seed, predictions, split, dataset), outputs, fresh=fresh)
    metrics = run.read_json(run.metrics(split))
    for warning in metrics["warnings"]:
        messages.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    mention(f"{split}, n = {metrics['n']}", run.path)
    if as_json:
        say(json.dumps({"run_id": run.run_id, "metrics": metrics}, indent=2))
        return
    say(run.run_id)
