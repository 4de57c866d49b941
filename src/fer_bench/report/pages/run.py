"""The page of one run: its results, its data, its training and its configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.config.yaml_files import parse_written
from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.metrics.predictions import Predictions
from fer_bench.report import wording
from fer_bench.report.figures.png import is_current
from fer_bench.report.figures.robustness import robustness_figure
from fer_bench.report.figures.run import confusion_matrix, valence_arousal_scatter
from fer_bench.report.pages import charts, evaluation, probabilities
from fer_bench.report.pages.corruptions import corruptions
from fer_bench.report.pages.curves import learning_curve_charts
from fer_bench.report.pages.document import embed, render
from fer_bench.report.pages.subgroups import subgroups
from fer_bench.report.pages.svg import Key
from fer_bench.report.palette import GREY, SPLITS
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import evaluate_command, read_corruptions, read_metrics
from fer_bench.runs.history import is_cut_off
from fer_bench.runs.predictions import read_predictions
from fer_bench.runs.record import BestRecord, ParentRecord, RunRecord
from fer_bench.storage.files import (
    is_there,
    read_bounded,
    read_json,
    why_unreadable,
    write_atomically,
)

# Sheets of `fer explain`, in the order in which they are shown.
SHEETS = {
    "mean_maps.png": "Where the network looks, on average, for each class",
    "correct.png": "Correct and confident",
    "mistakes.png": "The most confident mistakes",
}
FACELESS = ("mean_maps.png",)

T = TypeVar("T")


def write_run_report(run: RunDirectory, with_images: bool = False) -> Path:
    """Draw a run's figures into `figures/` and write its `report.html`.

    Every evaluation that has metrics gets a section, `test` first. A damaged file costs its part of
    the page, where its error is shown instead.

    Args:
        run: in any state.
        with_images: include the sheets of `fer explain`. They show faces, which the licences of
            most datasets forbid to redistribute.

    Returns:
        The page.

    Raises:
        RunError: the folder has no `run.json`.
    """
    write_atomically(run.report, run_page(run, with_images))
    return run.report


def run_page(run: RunDirectory, with_images: bool = False) -> str:
    """The HTML of a run; also writes its PNG figures. See `write_run_report`."""
    if not is_there(run.run_json):
        raise RunError(f"{run.path}: has no run.json, so it is not a run.")
    damages: list[str] = []
    record = _if_intact(run.read_record, damages) or RunRecord()
    config, text = _config(run, damages)
    sections = [
        _section(run, name, metrics, record, config) | _sheets(run, name, with_images)
        for name, metrics in _evaluations(run, damages)
    ]
    return render(
        "run.html.j2",
        run_id=run.run_id,
        record=record,
        facts=_facts(record),
        adopted=record.is_adopted,
        chosen_on_test=evaluation.CHOSEN_ON_TEST
        if config.get("selection") == "test_split" and not sections
        else None,
        sections=sections,
        counts=_counts(record),
        curves=_curves(run, record, damages),
        config=text,
        damages=damages,
    )


def _if_intact(read: Callable[[], T], damages: list[str]) -> T | None:
    """What `read` returns; None if a file is damaged, and its error in `damages`."""
    try:
        return read()
    except RunError as error:
        damages.append(str(error))
        return None


def _curves(run: RunDirectory, record: RunRecord, damages: list[str]) -> list[Markup]:
    charts = _if_intact(lambda: learning_curve_charts(run, record), damages)
    if charts is not None and run.history.exists() and is_cut_off(run.history):
        damages.append(f"{run.history}: the last line is not complete; it is left out or cut off.")
    return charts or []


def _evaluations(run: RunDirectory, damages: list[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """The names and metrics of all evaluations, `test` first."""
    names = [path.stem for path in run.path.glob("metrics/*.json")]
    ordered = sorted(names, key=lambda name: (name != "test", len(name), name))
    read = {name: _if_intact(partial(read_metrics, run, name), damages) for name in ordered}
    return [(name, metrics) for name, metrics in read.items() if metrics is not None]


def _config(run: RunDirectory, damages: list[str]) -> tuple[dict[str, Any], str]:
    """The configuration as a mapping, empty if it isn't one, and its text."""
    if not is_there(run.config):
        return {}, ""
    try:
        text = read_bounded(run.config).decode()
    except (OSError, ValueError) as error:
        damages.append(f"{run.config}: cannot be read ({why_unreadable(error)}).")
        return {}, ""
    try:
        config = parse_written(text.encode())
    except ValueError:
        config = None
    if isinstance(config, dict):
        return config, text
    found = "is no mapping of keys to values; it is shown as it is" if text else "is empty"
    damages.append(f"{run.config}: {found}.")
    return {}, text


# Evaluations -----------------------------------------------------------------------------------


def _section(
    run: RunDirectory,
    name: str,
    metrics: Mapping[str, Any],
    record: RunRecord,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What the template shows of one evaluation; also writes its PNG figures."""
    problems: list[str] = []
    predictions = _if_intact(lambda: _predictions(run, name, metrics), problems)
    robustness = _if_intact(lambda: _corruptions(run, name), problems)
    classes = metrics.get("per_class") if metrics.get("confusion_matrix") else None
    chosen_on_test = evaluation.selection(metrics, config) == "test_split"
    if classes:
        _write_confusion(run, name, metrics)
    if AXES[0] in metrics and predictions:
        _write_scatter(run, name, metrics, predictions)
    return {
        "name": name,
        "n": metrics.get("n"),
        "alert": evaluation.CHOSEN_ON_TEST if chosen_on_test else None,
        "warnings": [*(metrics.get("warnings") or []), *problems],
        "tiles": evaluation.tiles(metrics),
        "protocol": evaluation.protocol(name, metrics, record, config),
        "headline": evaluation.headline(metrics),
        "without_twins": metrics.get("without_twins"),
        "classes": evaluation.class_rows(classes) if classes else [],
        "class_columns": list(evaluation.class_columns(classes or []).values()),
        "class_charts": evaluation.class_charts(classes) if classes else [],
        "confusion": evaluation.confusion_rows(metrics) if classes else [],
        "probabilities": _probability_charts(predictions, metrics),
        "temperature": metrics.get("temperature"),
        "temperature_rows": probabilities.temperature_rows(metrics),
        "subgroups": subgroups(metrics.get("subgroups") or []),
        "corruptions": robustness,
        "axes": {axis: metrics[axis] for axis in AXES if axis in metrics},
        "axis_charts": probabilities.axis_charts(predictions, metrics) if predictions else [],
    }


def _predictions(run: RunDirectory, name: str, metrics: Mapping[str, Any]) -> Predictions:
    """The predictions of an evaluation. Raises: RunError if they do not belong to its metrics."""
    path = run.predictions(name)
    if not is_there(path):
        raise RunError(f"predictions/{name}.csv is missing: the charts that need it are left out")
    predictions = read_predictions(path)
    if AXES[0] in metrics and predictions.valence_arousal is None:
        raise RunError(
            f"{path}: lacks the valence and arousal that the metrics were computed from.\n"
            f"Compute both again with `{evaluate_command(run, name)}`."
        )
    if metrics.get("fingerprint", predictions.fingerprint) != predictions.fingerprint:
        raise RunError(
            f"metrics/{name}.json was not computed from predictions/{name}.csv: "
            "the charts that need both are left out. Compute both again with "
            f"`{evaluate_command(run, name)}`."
        )
    return predictions


def _probability_charts(
    predictions: Predictions | None, metrics: Mapping[str, Any]
) -> list[Markup]:
    if predictions is None:
        return []
    drawn = (
        probabilities.calibration_chart(predictions, metrics),
        probabilities.roc_chart(predictions, metrics.get("per_class") or ()),
    )
    return [chart for chart in drawn if chart is not None]


def _corruptions(run: RunDirectory, name: str) -> dict[str, Any] | None:
    """What the template shows of corrupted images; also writes a PNG figure."""
    source = run.corruptions(name)
    if not is_there(source):
        return None
    document = read_corruptions(run, name)
    figure = run.figures / f"robustness_{name}.png"
    if not is_current(figure, source):
        robustness_figure(document, figure)
    return corruptions(document)


def _write_confusion(run: RunDirectory, name: str, metrics: Mapping[str, Any]) -> None:
    path = run.figures / f"confusion_matrix_{name}.png"
    if is_current(path, run.metrics(name)):
        return
    classes = [entry["name"] for entry in metrics["per_class"]]
    title = f"{run.run_id}, {name}, n = {metrics['n']}"
    confusion_matrix(np.array(metrics["confusion_matrix"]), classes, path, title)


def _write_scatter(
    run: RunDirectory, name: str, metrics: Mapping[str, Any], predictions: Predictions
) -> None:
    path = run.figures / f"valence_arousal_{name}.png"
    if predictions.valence_arousal is None or is_current(path, run.metrics(name)):
        return
    captions = [
        f"{axis}, n = {metrics[axis]['n']}\nCCC {wording.write_cell('ccc', metrics[axis]['ccc'])}"
        for axis in AXES
    ]
    title = f"{run.run_id}, {name}"
    valence_arousal_scatter(predictions.valence_arousal, captions, path, title)


def _sheets(run: RunDirectory, name: str, with_images: bool) -> dict[str, Any]:
    """The sheets of `fer explain` on this split; those with faces are only counted by default."""
    folder = run.explanations(name)
    present = [folder / sheet for sheet in SHEETS if (folder / sheet).exists()]
    embedded = [path for path in present if with_images or path.name in FACELESS]
    about = _explanation(folder)
    shown = [
        {
            "source": embed(read_bounded(path)),
            "title": SHEETS[path.name],
            "text": f"{SHEETS[path.name]}: Grad-CAM heat maps. {about}".strip(),
        }
        for path in embedded
    ]
    return {
        "sheets": shown,
        "sheets_left_out": len(present) - len(embedded),
        "shows_faces": any(path.name not in FACELESS for path in embedded),
    }


def _explanation(folder: Path) -> str:
    """The layer and the classes of the sheets in a sentence; empty if not known."""
    try:
        document = read_json(folder / "explanations.json")
    except (OSError, ValueError):
        return ""  # only the alternative text of the images
    means = look_up(document, "mean_maps") or {}
    counts = ", ".join(f"{name} ({look_up(means, name, 'n')} images)" for name in means)
    layer = look_up(document, "layer")
    return (f"Layer {layer}. " if layer else "") + (f"Mean maps of {counts}." if counts else "")


# Data ------------------------------------------------------------------------------------------


def _counts(record: RunRecord) -> dict[str, Any] | None:
    """The number of images per class and split as a chart and a table; None if unknown."""
    counts = record.dataset.counts
    if not any(counts.values()):
        return None
    splits = {split: by_class for split, by_class in counts.items() if by_class}
    names = list(dict.fromkeys(name for by_class in splits.values() for name in by_class))
    bars = [
        (Key(split, SPLITS.get(split, GREY)), [by_class.get(name, 0) for name in names])
        for split, by_class in splits.items()
    ]
    listed = "; ".join(
        f"{key.name} {sum(numbers):,} ("
        + ", ".join(f"{name} {count:,}" for name, count in zip(names, numbers, strict=True))
        + ")"
        for key, numbers in bars
    )
    text = f"Images per class: {listed}."
    chart = charts.bar_chart(names, bars, "share of the split", "Class balance", text)
    totals = {key.name: sum(numbers) for key, numbers in bars}
    return {"chart": chart, "names": names, "splits": splits, "totals": totals}


# Facts -----------------------------------------------------------------------------------------


def _facts(record: RunRecord) -> dict[str, str]:
    """The facts of a run as label and text; unknown ones are left out."""
    model, best, speed = record.model, record.best, record.images_per_second
    views = record.trunk_views or 1
    facts = {
        "status": record.status,
        "seed": record.seed,
        "dataset": record.dataset.name,
        "release": record.dataset.release,
        "backbone": model.backbone,
        "weights": model.weights,
        "parameters": model.parameters and f"{model.parameters:,}",
        "trained parameters by stage": _listed(model.trainable_parameters),
        "first trained layer by stage": _listed(model.first_trainable_layer),
        "views per image for the frozen layers": views if views > 1 else None,
        "continues": record.parent and _origin(record.parent),
        "epoch kept": best and best.epoch,
        "selected by": best and _selected_by(best),
        "device": record.device,
        "precision": record.precision,
        "speed": speed and f"{speed:.0f} images per second",
        "duration": record.seconds and wording.write_duration(record.seconds),
        "started": record.started,
        "ended": record.ended,
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _selected_by(best: BestRecord) -> str | None:
    value = math.nan if best.value is None else best.value
    return f"{best.metric} = {value:.4f}" if best.metric else None


def _origin(parent: ParentRecord) -> str:
    """The run that this one continues."""
    optimizer = "its optimizer" if parent.optimizer == "kept" else "a new optimizer"
    return f"{parent.run_id} after epoch {parent.epoch}, with {optimizer}"


def _listed(entries: Sequence[Any] | None) -> str | None:
    """The entries of a list in order; numbers with thousands separators."""
    if not entries:
        return None
    return " → ".join(f"{entry:,}" if isinstance(entry, int) else str(entry) for entry in entries)
