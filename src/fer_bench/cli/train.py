"""`fer train` and `fer evaluate`: from an experiment to its numbers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_bench.cli.arguments import experiment_file, experiment_run, raise_all, try_each
from fer_bench.cli.console import messages, say
from fer_bench.cli.options import (
    ConfigFiles,
    DeviceName,
    Outputs,
    Overrides,
    Threads,
    WorkerAddresses,
    WorkerIndex,
)
from fer_bench.cli.shell import open_device, open_display
from fer_bench.runs.directory import RunDirectory

if TYPE_CHECKING:
    from fer_bench.training.preflight import Checked


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
    """Train experiments, or go on where they were interrupted. Prints the run ids.

    Several are trained one after the other; what went wrong with any of them
    is said at the end.
    """
    from fer_bench.device.workers import find_workers

    together = find_workers(workers, index, os.environ)
    changes = [*(overrides or []), *([f"seed={seed}"] if seed is not None else [])]

    def prepare(typed: Path) -> _Training:
        return _prepare(typed, changes, outputs, fresh or bool(together), fresh, more_epochs)

    trainings, errors = try_each(configs, prepare)
    if not trainings:
        raise_all(errors)
    left = any(training.checked for training in trainings)
    chosen = open_device(device, threads, together) if left else None
    raise_all([*errors, *try_each(trainings, lambda one: _train(one, chosen, fresh=fresh))[1]])


@dataclass(frozen=True)
class _Training:
    """An experiment that was typed, and the folder for its run.

    Attributes:
        run_id: of its run.
        outputs: the folder of that run: where the run named lies, if one was.
        checked: what is trained; None where nothing is left to train.
    """

    run_id: str
    outputs: Path
    checked: "Checked | None"


def _prepare(
    typed: Path,
    overrides: list[str],
    outputs: Path,
    anew: bool,
    fresh: bool,
    more_epochs: int | None,
) -> _Training:
    """Everything that can be checked of a training before TensorFlow is imported."""
    from fer_bench.config.loading import load_experiment
    from fer_bench.training.parent import longer
    from fer_bench.training.preflight import check_training, is_finished

    run = experiment_run(typed, outputs)
    outputs = run.outputs if run else outputs
    experiment = load_experiment(experiment_file(typed, outputs), overrides)
    run_id = longer(experiment, more_epochs or 0).run_id
    if not anew and is_finished(RunDirectory(outputs / run_id)):
        return _Training(run_id, outputs, None)
    checked = check_training(experiment, outputs, fresh=fresh, more_epochs=more_epochs)
    return _Training(run_id, outputs, checked)


def _train(training: _Training, device: Any, *, fresh: bool) -> None:
    checked = training.checked
    if checked is None:
        from fer_bench.training.preflight import FINISHED

        message = FINISHED.format(run_id=training.run_id)
        messages.print(message, soft_wrap=True, highlight=False)
    else:
        from fer_bench.training.train import train as train_run

        with open_display() as display:
            train_run(
                checked.config,
                training.outputs,
                device,
                display,
                fresh=fresh,
                manifest=checked.manifest,
                parent=checked.parent,
            )
    say(training.run_id)
