"""The page of one run: its results, its data, its training and its configuration."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.metrics.predictions import Predictions
from fer_bench.report import wording
from fer_bench.report.figures.robustness import robustness_figure
from fer_bench.report.figures.run import confusion_matrix, valence_arousal_scatter
from fer_bench.report.pages import charts, evaluation, probabilities
from fer_bench.report.pages.corruptions import corruptions
from fer_bench.report.pages.curves import learning_curve_charts
from fer_bench.report.pages.document import embed, render
from fer_bench.report.pages.sources import is_current, read_record, read_results
from fer_bench.report.pages.subgroups import subgroups
from fer_bench.report.pages.svg import Key
from fer_bench.report.palette import GREY, SPLITS
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.storage.files import write_atomically

# Sheets of `fer explain`, in the order in which they are shown.
SHEETS = {
    "mean_maps.png": "Where the network looks, on average, for each class",
    "correct.png": "Correct and confident",
    "mistakes.png": "The most confident mistakes",
}
FACELESS = ("mean_maps.png",)


def write_run_report(run: RunDirectory, with_images: bool = False) -> Path:
    """Draw a run's figures into `figures/` and write its `report.html`.

    Every evaluation that has metrics gets a section, `test` first.

    Args:
        run: in any state.
        with_images: include the sheets of `fer explain`. They show faces, which the licences of
            most datasets forbid to redistribute.

    Returns:
        The page.

    Raises:
        RunError: a file of the run cannot be read.
    """
    write_atomically(run.report, run_page(run, with_images))
    return run.report


def run_page(run: RunDirectory, with_images: bool = False) -> str:
    """The HTML of a run; also writes its PNG figures. See `write_run_report`."""
    record = read_record(run)
    config, text = _config(run)
    found = {path.stem: read_results(run, path) for path in run.path.glob("metrics/*.json")}
    ordered = sorted(found.items(), key=lambda item: (item[0] != "test", len(item[0]), item[0]))
    sections = [
        _section(run, name, metrics, record, config) | _sheets(run, name, with_images)
        for name, metrics in ordered
    ]
    return render(
        "run.html.j2",
        run_id=run.run_id,
        record=record,
        facts=_facts(record),
        adopted=look_up(record, "model", "weights") == "adopted",
        chosen_on_test=evaluation.CHOSEN_ON_TEST
        if config.get("selection") == "test_split" and not sections
        else None,
        sections=sections,
        counts=_counts(record),
        curves=learning_curve_charts(run, record),
        config=text,
    )


def _config(run: RunDirectory) -> tuple[dict[str, Any], str]:
    """The configuration as a mapping, empty if it isn't one, and its text."""
    if not run.config.exists():
        return {}, ""
    text = run.config.read_text(encoding="utf-8")
    try:
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        config = None  # shown as it is
    return config if isinstance(config, dict) else {}, text


# Evaluations -----------------------------------------------------------------------------------


def _section(
    run: RunDirectory,
    name: str,
    metrics: dict[str, Any],
    record: Mapping[str, Any],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What the template shows of one evaluation; also writes its PNG figures."""
    predictions, problems = _predictions(run, name, metrics)
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
        "corruptions": _corruptions(run, name),
        "axes": {axis: metrics[axis] for axis in AXES if axis in metrics},
        "axis_charts": probabilities.axis_charts(predictions, metrics) if predictions else [],
    }


def _predictions(
    run: RunDirectory, name: str, metrics: Mapping[str, Any]
) -> tuple[Predictions | None, list[str]]:
    """The saved predictions of an evaluation, or None and the problem with them."""
    path = run.predictions(name)
    if not path.exists():
        return None, [f"predictions/{name}.csv is missing: the charts that need it are left out"]
    predictions = read_predictions(path)
    if AXES[0] in metrics and predictions.valence_arousal is None:
        raise RunError(
            f"{path}: lacks the valence and arousal that the metrics were computed from.\n"
            f"Compute both again with `fer evaluate {run.run_id}` (evaluation {name})."
        )
    if metrics.get("fingerprint", predictions.fingerprint) != predictions.fingerprint:
        return None, [
            f"metrics/{name}.json was not computed from predictions/{name}.csv: "
            "the charts that need both are left out. Compute both again with "
            f"`fer evaluate {run.run_id}` (evaluation {name})."
        ]
    return predictions, []


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
    if not source.exists():
        return None
    document = read_results(run, source)
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
            "source": embed(path.read_bytes()),
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
        document = json.loads((folder / "explanations.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # only the alternative text of the images
    means = look_up(document, "mean_maps") or {}
    counts = ", ".join(f"{name} ({look_up(means, name, 'n')} images)" for name in means)
    layer = look_up(document, "layer")
    return (f"Layer {layer}. " if layer else "") + (f"Mean maps of {counts}." if counts else "")


# Data ------------------------------------------------------------------------------------------


def _counts(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The number of images per class and split as a chart and a table; None if unknown."""
    counts = look_up(record, "dataset", "counts")
    if not isinstance(counts, dict) or not any(counts.values()):
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


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a run as label and text; unknown ones are left out."""
    dataset, model, best, parent = (
        record.get(part) or {} for part in ("dataset", "model", "best", "parent")
    )
    speed = record.get("images_per_second")
    facts = {
        "status": record.get("status"),
        "seed": record.get("seed"),
        "dataset": dataset.get("name"),
        "release": dataset.get("release"),
        "backbone": model.get("backbone"),
        "weights": model.get("weights"),
        "parameters": model.get("parameters") and f"{model['parameters']:,}",
        "trained parameters by stage": _listed(model.get("trainable_parameters")),
        "first trained layer by stage": _listed(model.get("first_trainable_layer")),
        "views per image for the frozen layers": _several(record.get("trunk_views")),
        "continues": _origin(parent),
        "epoch kept": best.get("epoch"),
        "selected by": best.get("metric") and _selected_by(best),
        "device": record.get("device"),
        "precision": record.get("precision"),
        "speed": speed and f"{speed:.0f} images per second",
        "duration": record.get("seconds") and wording.write_duration(record["seconds"]),
        "started": record.get("started"),
        "ended": record.get("ended"),
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _selected_by(best: Mapping[str, Any]) -> str:
    return f"{best['metric']} = {best.get('value', math.nan):.4f}"


def _origin(parent: Mapping[str, Any]) -> str | None:
    """The run that this one continues, if any."""
    if not parent:
        return None
    optimizer = "its optimizer" if parent["optimizer"] == "kept" else "a new optimizer"
    return f"{parent['run_id']} after epoch {parent['epoch']}, with {optimizer}"


def _several(views: int | None) -> int | None:
    return views if views and views > 1 else None


def _listed(entries: list[Any] | None) -> str | None:
    """The entries of a list in order; numbers with thousands separators."""
    if not entries:
        return None
    return " → ".join(f"{entry:,}" if isinstance(entry, int) else str(entry) for entry in entries)
