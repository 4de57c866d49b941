"""From a trained run to its metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fer_bench.api.choices import one_of
from fer_bench.api.devices import Progress, open_device, open_display
from fer_bench.api.experiments import experiment_file
from fer_bench.api.metrics import Metrics
from fer_bench.api.runs import Run, directory_of, written_page
from fer_bench.data.contents import Verify
from fer_bench.display import Display
from fer_bench.evaluation.corruptions import select
from fer_bench.evaluation.cross_dataset import ClassRule
from fer_bench.evaluation.protocol import (
    Measurement,
    Protocol,
    load_data,
    open_measurement,
    open_trained_run,
)
from fer_bench.evaluation.test_time_views import Views
from fer_bench.labels import SPLITS
from fer_bench.timing import timed

if TYPE_CHECKING:
    from fer_bench.device.selection import Device


def evaluate(  # noqa: PLR0913 - the options of `fer evaluate`
    run: Run | str | Path,
    split: str = "test",
    *,
    data: str | Path | None = None,
    views: Views = "none",
    class_rule: ClassRule = "mask_logits",
    corruptions: str | None = None,
    outputs: str | Path = "outputs",
    device: str = "auto",
    progress: Progress = None,
    threads: int | None = None,
    places: Mapping[str, Any] | None = None,
    verify: Verify = "sample",
    to: str | Path | None = None,
) -> Metrics:
    """Predict a split with a trained model; save predictions, metrics, figures and the run's page.

    >>> import fer_bench
    >>> metrics = fer_bench.evaluate("latest", "test")
    >>> 0 <= metrics.accuracy.low <= metrics.accuracy.value <= metrics.accuracy.high <= 1
    True

    Args:
        run: a finished run, or what `open_run` finds it by.
        split: `train`, `validation` or `test`.
        data: an experiment file, on whose dataset the model is evaluated instead of its own.
        views: how often each image is shown: `none` (once), `flip` or `ten_crop`.
        class_rule: with `data`, when the classes differ: `mask_logits` (the model chooses among
            the common classes) or `intersection` (other answers are wrong).
        corruptions: also evaluate on corrupted images: `all`, a family, or names with or without a
            severity, such as `fog:3,blur`; `Run.corruptions` has the result.
        outputs: the folder of the runs.
        device: `auto`, `cpu`, `gpu` or `gpu:<index>`.
        progress: as for `train`.
        threads: threads to compute with on the CPU; None for one per usable core.
        places: where the data is now, if it was moved: `{"dataset.root": "faces"}`.
        verify: which files of the dataset are read again to find out whether they changed:
            `sample`, `all` or `none`.
        to: a folder of runs for the results, where the run is read-only or must stay as it is: they
            go into a copy of the run there, which has no model. None: into the run itself.

    Raises:
        FerError: the run is not finished or cannot be written, or its model or its data are not
            there.
    """
    one_of("split", split, SPLITS)
    one_of("views", views, get_args(Views))
    one_of("class_rule", class_rule, get_args(ClassRule))
    one_of("verify", verify, get_args(Verify))
    conditions = select(corruptions) if corruptions else []
    overrides = [f"{key}={value}" for key, value in (places or {}).items()]
    elsewhere = None
    if data is not None:
        elsewhere = load_data(experiment_file(Path(data), Path(outputs)), overrides)
    protocol = Protocol(split, elsewhere, views, class_rule)
    trained = open_trained_run(
        directory_of(run, outputs), () if elsewhere else overrides, Path(to) if to else None
    )
    measurement = open_measurement(trained, protocol, verify)
    with open_display(progress) as display:
        chosen = open_device(device, threads, message=display.message)
        document = measure(measurement, chosen, display, conditions)
    return Metrics(document, trained.run.run_id, protocol.name)


def measure(
    measurement: Measurement, device: "Device", display: Display, conditions: Sequence[Any] = ()
) -> dict[str, Any]:
    """Evaluate, write the run's page, and send both to where the run is mirrored.

    Returns:
        The document of `metrics/<evaluation>.json`.

    Raises: FerError.
    """
    from fer_bench.evaluation.evaluate import evaluate as evaluate_run
    from fer_bench.runs.tracking.mirror import Mirror, tracked_by

    run = measurement.trained.results
    document = evaluate_run(measurement, device, display, conditions)
    with timed("drawing figures and writing the page"):
        written_page(run)
    Mirror(run, tracked_by(run), display.message).close()
    for warning in document["warnings"]:
        display.message(f"warning: {warning}")
    return document
