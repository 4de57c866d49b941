"""`fer train` and `fer evaluate`: from an experiment to its numbers."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_bench.cli.arguments import experiment_file, experiment_run, raise_all, try_each
from fer_bench.cli.console import messages, results, say
from fer_bench.cli.options import (
    ConfigFiles,
    DeviceName,
    Json,
    Outputs,
    Overrides,
    Runs,
    Threads,
    WorkerAddresses,
    WorkerIndex,
)
from fer_bench.cli.shell import mention, one_of, open_device, open_display
from fer_bench.run_names import named_run
from fer_bench.rundir import RunDirectory

if TYPE_CHECKING:
    from fer_bench.config import Experiment


def train(
    configs: ConfigFiles,
    overrides: Overrides = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the experiment; short for --set seed=N.")
    ] = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    threads: Threads = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what this run has reached.")
    ] = False,
    workers: WorkerAddresses = None,
    index: WorkerIndex = None,
) -> None:
    """Train experiments, or go on where they were interrupted. Prints the run ids.

    Several are trained one after the other; what went wrong with any of them
    is said at the end.
    """
    from fer_bench.workers import find_workers

    changes = [*(overrides or []), *([f"seed={seed}"] if seed is not None else [])]
    loaded, errors = try_each(configs, lambda path: _load(path, changes, outputs))
    if not loaded:
        raise_all(errors)
    chosen = open_device(device, threads, find_workers(workers, index, os.environ))

    from fer_bench.train import train as train_run

    def train_one(wanted: "tuple[Experiment, Path]") -> None:
        with open_display() as display:
            say(train_run(*wanted, chosen, display, fresh=fresh).run_id)

    raise_all([*errors, *try_each(loaded, train_one)[1]])


def _load(typed: Path, overrides: list[str], outputs: Path) -> "tuple[Experiment, Path]":
    """The experiment that is meant, and the folder for its run: that of the run named, if any."""
    from fer_bench.config import load_experiment

    run = experiment_run(typed, outputs)
    experiment = load_experiment(experiment_file(typed, outputs), overrides)
    return experiment, run.outputs if run else outputs


def evaluate(
    run_ids: Runs,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    data: Annotated[
        Path | None,
        typer.Option(help="Measure on the dataset of this experiment file instead of its own."),
    ] = None,
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
    """Predict a split with trained models; save predictions, metrics, figures and a page each."""
    from fer_bench.config import load_experiment
    from fer_bench.corruptions import select
    from fer_bench.manifest import SPLITS

    runs, errors = try_each(run_ids, lambda typed: named_run(outputs, typed))
    if not runs:
        raise_all(errors)
    one_of("--split", split, SPLITS)
    one_of("--class-rule", class_rule, ("mask_logits", "intersection"))
    one_of("--views", views, ("none", "flip", "ten_crop"))
    conditions = select(corruptions) if corruptions else []
    experiment = load_experiment(data) if data else None
    chosen = open_device(device, threads)

    from fer_bench.evaluate import Protocol
    from fer_bench.evaluate import evaluate as evaluate_run
    from fer_bench.report.page import write_run_report
    from fer_bench.tracking import Mirror, tracked_by

    protocol = Protocol(split, experiment, views, class_rule)  # type: ignore[arg-type]

    def evaluate_one(run: RunDirectory) -> dict[str, Any]:
        with open_display() as display:
            metrics = evaluate_run(run, protocol, chosen, display, conditions)
            page = write_run_report(run)
            Mirror(run, tracked_by(run), display.message).close()
        for warning in metrics["warnings"]:
            messages.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
        if not as_json:
            _show(run, protocol.name, metrics, conditions)
            mention("page", page)
        return metrics

    found, more = try_each(runs, evaluate_one)
    if as_json and found:
        say(json.dumps(found[0] if len(run_ids) == 1 else found, indent=2))
    raise_all([*errors, *more])


def _show(run: RunDirectory, name: str, metrics: dict[str, Any], conditions: Sequence[Any]) -> None:
    """Print what was measured, also on corrupted images where there are such."""
    from fer_bench.report.robustness import robustness_table
    from fer_bench.report.tables import metrics_tables

    console = results()
    console.print(metrics_tables(metrics, f"{run.run_id}, {name}"))
    if conditions:
        console.print(robustness_table(run.read_json(run.corruptions(name))))
