"""`fer check-table`, `fer adopt`: numbers and predictions that come from elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import messages, say
from fer_bench.cli.options import Json, Outputs
from fer_bench.cli.shell import mention


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
    from fer_bench.config.loading import load_experiment
    from fer_bench.evaluation.adopt import Adoption
    from fer_bench.evaluation.adopt import adopt as adopt_run
    from fer_bench.runs.documents import read_metrics

    dataset = load_experiment(data).dataset if data else None
    run = adopt_run(Adoption(name, seed, predictions, split, dataset), outputs, fresh=fresh)
    metrics = read_metrics(run, split)
    for warning in metrics["warnings"]:
        messages.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    mention(f"{split}, n = {metrics['n']}", run.path)
    if as_json:
        say(json.dumps({"run_id": run.run_id, "metrics": metrics}, indent=2))
        return
    say(run.run_id)
