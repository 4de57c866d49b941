"""`fer train` and `fer evaluate`: from an experiment to its numbers."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import messages, results, say
from fer_bench.cli.options import (
    ConfigFile,
    DeviceName,
    Json,
    Outputs,
    Overrides,
    Places,
    Threads,
    WorkerAddresses,
    WorkerIndex,
)
from fer_bench.cli.shell import mention, one_of, open_device, open_display


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    threads: Threads = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Train it anew. What the run has reached stays until there is a new save point.",
        ),
    ] = False,
    more_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Train the finished run of this experiment for N more epochs of its last stage, "
            "as a new run.",
        ),
    ] = None,
    workers: WorkerAddresses = None,
    index: WorkerIndex = None,
) -> None:
    """Train an experiment, or go on where it was interrupted. Prints the run id."""
    from fer_bench.config import load_experiment
    from fer_bench.parent import longer
    from fer_bench.preflight import FINISHED, check_training, is_finished
    from fer_bench.rundir import RunDirectory
    from fer_bench.workers import find_workers

    experiment = load_experiment(config, overrides or [])
    run_id = longer(experiment, more_epochs or 0).run_id
    together = find_workers(workers, index, os.environ)
    if not (together or fresh) and is_finished(RunDirectory(outputs / run_id)):
        messages.print(FINISHED.format(run_id=run_id), soft_wrap=True, highlight=False)
        typer.echo(run_id)
        return
    checked = check_training(experiment, outputs, fresh=fresh, more_epochs=more_epochs)
    chosen = open_device(device, threads, together)

    from fer_bench.train import train as train_run

    with open_display() as display:
        train_run(
            checked.config,
            outputs,
            chosen,
            display,
            fresh=fresh,
            manifest=checked.manifest,
            parent=checked.parent,
        )
    say(run_id)


def evaluate(
    run_id: Annotated[str, typer.Argument(help="The run, as `fer train` printed it.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    data: Annotated[
        Path | None,
        typer.Option(help="Measure on the dataset of this experiment file instead of its own."),
    ] = None,
    places: Places = None,
    class_rule: Annotated[
        str,
        typer.Option(
            help="With --data, when the classes differ: mask_logits (answer within the common "
            "ones) or intersection (other answers are wrong)."
        ),
    ] = "mask_logits",
    views: Annotated[
        str, typer.Option(help="How often each image is shown: none, flip or ten_crop.")
    ] = "none",
    corruptions: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Measure on corrupted images too: all, a family (noise, blur, weather, digital, "
            "occlusion), names, or name:severity.",
        ),
    ] = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Predict a split with a trained model; save predictions, metrics, figures and a page."""
    from fer_bench.corruptions import select
    from fer_bench.manifest import SPLITS
    from fer_bench.protocol import Protocol, load_data, open_measurement, open_trained_run
    from fer_bench.rundir import find_run

    run = find_run(outputs, run_id)
    one_of("--split", split, SPLITS)
    one_of("--class-rule", class_rule, ("mask_logits", "intersection"))
    one_of("--views", views, ("none", "flip", "ten_crop"))
    conditions = select(corruptions) if corruptions else []
    # What is set says where the data lies that is measured on.
    trained = open_trained_run(run, () if data else places or ())
    experiment = load_data(data, places or ()) if data else None
    protocol = Protocol(split, experiment, views, class_rule)  # type: ignore[arg-type]
    measurement = open_measurement(trained, protocol)
    chosen = open_device(device, threads)

    from fer_bench.evaluate import evaluate as evaluate_run
    from fer_bench.report.page import write_run_report
    from fer_bench.report.tables import metrics_tables
    from fer_bench.tracking import Mirror, tracked_by

    with open_display() as display:
        metrics = evaluate_run(measurement, chosen, display, conditions)
        page = write_run_report(run)
        Mirror(run, tracked_by(run), display.message).close()
    for warning in metrics["warnings"]:
        messages.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        say(json.dumps(metrics, indent=2))
        return
    console = results()
    console.print(metrics_tables(metrics, f"{run.run_id}, {protocol.name}"))
    if conditions:
        from fer_bench.report.robustness import robustness_table

        console.print(robustness_table(run.read_json(run.corruptions(protocol.name))))
    mention("page", page)
