"""`fer evaluate`: from a finished run to its metrics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.arguments import raise_all, try_each
from fer_bench.cli.console import results, say
from fer_bench.cli.options import (
    DeviceName,
    Json,
    Outputs,
    Places,
    Runs,
    SplitName,
    Threads,
    To,
    VerifyFiles,
)
from fer_bench.cli.shell import mention, open_device, open_display
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.names import named_run
from fer_bench.timing import timed

if TYPE_CHECKING:
    from fer_bench.evaluation.protocol import Measurement


def evaluate(
    run_ids: Runs,
    split: SplitName = "test",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate on the dataset of this experiment file, not on that of the run."
        ),
    ] = None,
    places: Places = None,
    class_rule: Annotated[
        str,
        typer.Option(
            help="With --data, when the classes differ: mask_logits (the model chooses among the "
            "common classes) or intersection (other answers are wrong)."
        ),
    ] = "mask_logits",
    views: Annotated[
        str, typer.Option(help="How often each image is shown: none, flip or ten_crop.")
    ] = "none",
    corruptions: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Also evaluate on corrupted images: all, a family (noise, blur, weather, digital, "
            "occlusion), names, or name:severity.",
        ),
    ] = None,
    verify: VerifyFiles = "sample",
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    threads: Threads = None,
    to: To = None,
    as_json: Json = False,
) -> None:
    """Evaluate trained models on a split; save predictions, metrics, figures and a page per run."""
    from fer_bench.api.evaluation import measure
    from fer_bench.evaluation.corruptions import select
    from fer_bench.evaluation.protocol import (
        Protocol,
        load_data,
        open_measurement,
        open_trained_run,
    )
    from fer_bench.labels import SPLITS

    one_of("--split", split, SPLITS)
    one_of("--class-rule", class_rule, ("mask_logits", "intersection"))
    one_of("--views", views, ("none", "flip", "ten_crop"))
    one_of("--verify", verify, ("sample", "all", "none"))
    conditions = select(corruptions) if corruptions else []
    # With --data, --set says where that data is; otherwise, where the data of the runs is.
    experiment = load_data(data, places or ()) if data else None
    protocol = Protocol(split, experiment, views, class_rule)  # type: ignore[arg-type]

    def open_one(typed: str) -> "Measurement":
        trained = open_trained_run(named_run(outputs, typed), () if data else places or (), to)
        return open_measurement(trained, protocol, verify)  # type: ignore[arg-type]

    with timed("checking the run and its data"):
        measurements, errors = try_each(run_ids, open_one)
    if not measurements:
        raise_all(errors)
    chosen = open_device(device, threads)

    def evaluate_one(measurement: "Measurement") -> dict[str, Any]:
        run = measurement.trained.results
        with open_display() as display:
            metrics = measure(measurement, chosen, display, conditions)
        if not as_json:
            _show(run, protocol.name, metrics, conditions)
            mention("page", run.report)
        return metrics

    found, more = try_each(measurements, evaluate_one)
    if as_json and found:
        say(json.dumps(found[0] if len(run_ids) == 1 else found, indent=2))
    raise_all([*errors, *more])


def _show(run: RunDirectory, name: str, metrics: dict[str, Any], conditions: Sequence[Any]) -> None:
    """Print the metrics, and the robustness table if corrupted images were evaluated."""
    from fer_bench.report.terminal.metrics import metrics_tables
    from fer_bench.report.terminal.robustness import robustness_table
    from fer_bench.runs.documents import read_corruptions

    console = results()
    console.print(metrics_tables(metrics, f"{run.run_id}, {name}"))
    if conditions:
        console.print(robustness_table(read_corruptions(run, name)))
