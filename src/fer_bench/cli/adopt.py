"""`fer adopt`: predictions of another program become a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import say
from fer_bench.cli.options import Json, Outputs
from fer_bench.cli.shell import mention, notify


def adopt(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model; the run id begins with it.")
    ],
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS.csv",
            help="One row per sample: sample_id (or the path of the image), label (optional with "
            "--data), and the probability p_<class> of each class; separated by , ; | or tabs.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG",
            help="Experiment file whose dataset was predicted. The labels are taken from it, and "
            "the ids (or paths) must be those of its split.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The predicted split: train, validation or test.")
    ] = "test",
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of the training; runs of one NAME with several seeds are averaged.",
        ),
    ] = 0,
    outputs: Outputs = Path("outputs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the run of this NAME and seed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn the predictions of another program into a run. Prints the run id.

    Models of other frameworks, the code of a paper, or a service are then
    measured with the same metrics, intervals and tests as every other run.
    Class names may be spelled as in any dataset (angry, Anger, 0_angry).
    """
    from fer_bench.config.loading import load_experiment
    from fer_bench.evaluation.adopt import Adoption
    from fer_bench.evaluation.adopt import adopt as adopt_run
    from fer_bench.runs.documents import read_metrics

    dataset = load_experiment(data).dataset if data else None
    run = adopt_run(Adoption(name, seed, predictions, split, dataset), outputs, fresh=fresh)
    metrics = read_metrics(run, split)
    for warning in metrics["warnings"]:
        notify(f"warning: {warning}")
    mention(f"{split}, n = {metrics['n']}", run.path)
    if as_json:
        say(json.dumps({"run_id": run.run_id, "metrics": metrics}, indent=2))
        return
    say(run.run_id)
