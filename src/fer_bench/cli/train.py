"""`fer train`: from an experiment to a trained run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import results, say
from fer_bench.cli.options import (
    ConfigFiles,
    DeviceName,
    Outputs,
    Overrides,
    Threads,
    VerifyFiles,
    WorkerAddresses,
    WorkerIndex,
)
from fer_bench.cli.shell import open_device, open_display
from fer_bench.timing import timed

if TYPE_CHECKING:
    from fer_bench.api.training import PreparedTraining


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
        bool,
        typer.Option(
            "--fresh",
            help="Train from the beginning. The present run is kept until the new one has a "
            "checkpoint.",
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
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the data, build the network, print the plan, and train nothing.",
        ),
    ] = False,
    verify: VerifyFiles = "sample",
    workers: WorkerAddresses = None,
    index: WorkerIndex = None,
) -> None:
    """Train experiments, or resume them where they were interrupted. Prints the run ids.

    Several experiments are trained one after the other. Errors are reported at the end.
    """
    from fer_bench.api.experiments import check_no_key, experiment_file, experiment_run
    from fer_bench.api.training import prepare_training, run_training
    from fer_bench.config.loading import load_experiment
    from fer_bench.device.workers import find_workers

    one_of("--verify", verify, ("sample", "all", "none"))
    together = find_workers(workers, index, os.environ)
    changes = [*(overrides or []), *([f"seed={seed}"] if seed is not None else [])]

    def prepare(typed: Path) -> "PreparedTraining":
        run = experiment_run(typed, outputs)
        folder = run.outputs if run else outputs
        return prepare_training(
            load_experiment(experiment_file(typed, folder), changes),
            folder,
            fresh=fresh,
            more_epochs=more_epochs,
            skip_finished=not (fresh or together),
            verify=verify,  # type: ignore[arg-type]
        )

    for typed in configs:
        check_no_key(typed)  # or the other experiments would be trained without it
    with timed("checking the experiment and its data"):
        trainings, errors = try_each(configs, prepare)
    if not trainings:
        raise_all(errors)
    if dry_run:
        raise_all([*errors, *try_each(trainings, _show_plan)[1]])
        return
    work_left = [training for training in trainings if training.checked]
    begun_with = None if fresh or not work_left else work_left[0].begun_with
    chosen = open_device(device, threads, together, begun_with) if work_left else None

    def train_one(training: "PreparedTraining") -> None:
        with open_display() as display:
            run_training(training, chosen, display, fresh=fresh)
        try:
            say(training.run.run_id)
        except OSError as error:  # of a terminal that is gone; the others are trained all the same
            unprinted.append(error)

    unprinted: list[OSError] = []
    raise_all([*errors, *try_each(trainings, train_one)[1]])
    for error in unprinted:
        raise error


def _show_plan(training: "PreparedTraining") -> None:
    """Print what `fer train` would do. Raises: FerError if the network cannot be built."""
    if training.checked is None:
        from fer_bench.training.preflight import FINISHED

        say(FINISHED.format(run_id=training.run.run_id))
        return
    open_device("cpu")

    from fer_bench.models.summary import describe_model
    from fer_bench.report.terminal.models import model_tables
    from fer_bench.report.terminal.plan import plan_table

    experiment, manifest = training.checked.config, training.checked.manifest
    document, _ = describe_model(experiment)
    results().print(plan_table(experiment))
    results().print(model_tables(document))
    sizes = ", ".join(f"{count:,} {split}" for split, count in manifest.split_sizes().items())
    say(f"{manifest.root}: {manifest.release}, {sizes} images in {len(manifest.classes)} classes")
    say(f"{training.run.path}: {training.run.status() or 'not begun'}; nothing was trained")
