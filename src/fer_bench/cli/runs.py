"""`fer train` and `fer evaluate`: from an experiment to its numbers."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
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
    Places,
    Runs,
    Threads,
    WorkerAddresses,
    WorkerIndex,
)
from fer_bench.cli.shell import mention, one_of, open_device, open_display
from fer_bench.run_names import named_run
from fer_bench.rundir import RunDirectory

if TYPE_CHECKING:
    from fer_bench.preflight import Checked
    from fer_bench.protocol import Measurement


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
    from fer_bench.workers import find_workers

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
    from fer_bench.config import load_experiment
    from fer_bench.parent import longer
    from fer_bench.preflight import check_training, is_finished

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
        from fer_bench.preflight import FINISHED

        message = FINISHED.format(run_id=training.run_id)
        messages.print(message, soft_wrap=True, highlight=False)
    else:
        from fer_bench.train import train as train_run

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


def evaluate(
    run_ids: Runs,
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
    """Predict a split with trained models; save predictions, metrics, figures and a page each."""
    from fer_bench.corruptions import select
    from fer_bench.manifest import SPLITS
    from fer_bench.protocol import Protocol, load_data, open_measurement, open_trained_run

    one_of("--split", split, SPLITS)
    one_of("--class-rule", class_rule, ("mask_logits", "intersection"))
    one_of("--views", views, ("none", "flip", "ten_crop"))
    conditions = select(corruptions) if corruptions else []
    # What is set says where the data lies that is measured on.
    experiment = load_data(data, places or ()) if data else None
    protocol = Protocol(split, experiment, views, class_rule)  # type: ignore[arg-type]

    def open_one(typed: str) -> "Measurement":
        trained = open_trained_run(named_run(outputs, typed), () if data else places or ())
        return open_measurement(trained, protocol)

    measurements, errors = try_each(run_ids, open_one)
    if not measurements:
        raise_all(errors)
    chosen = open_device(device, threads)

    from fer_bench.evaluate import evaluate as evaluate_run
    from fer_bench.report.page import write_run_report
    from fer_bench.tracking import Mirror, tracked_by

    def evaluate_one(measurement: "Measurement") -> dict[str, Any]:
        run = measurement.trained.run
        with open_display() as display:
            metrics = evaluate_run(measurement, chosen, display, conditions)
            page = write_run_report(run)
            Mirror(run, tracked_by(run), display.message).close()
        for warning in metrics["warnings"]:
            messages.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
        if not as_json:
            _show(run, protocol.name, metrics, conditions)
            mention("page", page)
        return metrics

    found, more = try_each(measurements, evaluate_one)
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
