"""The page of one run: what it reached, how, on which data, and from which configuration."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.metrics.predictions import Predictions
from fer_bench.report import wording
from fer_bench.report.figures.robustness import robustness_figure
from fer_bench.report.figures.run import confusion_matrix, learning_curves, valence_arousal_scatter
from fer_bench.report.pages import charts, evaluation
from fer_bench.report.pages.charts import Key, Mark, Scale, Series
from fer_bench.report.pages.document import embed, render
from fer_bench.report.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SPLITS
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_corruptions, read_metrics
from fer_bench.runs.predictions import read_predictions
from fer_bench.runs.record import BestRecord, ParentRecord, RunRecord
from fer_bench.storage.files import write_atomically

# Sheets of `fer explain`, in the order in which they are shown.
SHEETS = {
    "mean_maps.png": "Where the network looks, on average, for each class",
    "correct.png": "Correct and confident",
    "mistakes.png": "The most confident mistakes",
}
FACELESS = ("mean_maps.png",)

_CURVES = {
    "Loss": {"loss": ("training", GREY), "val_loss": ("validation", BLUE)},
    "Scores": {
        "accuracy": ("training accuracy", GREY),
        "val_accuracy": ("validation accuracy", BLUE),
        "val_macro_f1": ("validation macro F1", ORANGE),
        "val_valence_ccc": ("validation valence CCC", GREEN),
        "val_arousal_ccc": ("validation arousal CCC", PURPLE),
    },
    "Learning rate": {"learning_rate": ("learning rate", GREEN)},
}


def write_run_report(run: RunDirectory, with_images: bool = False) -> Path:
    """Draw a run's figures into `figures/` and write its `report.html`.

    Every evaluation that has metrics gets a section, `test` first.

    Args:
        run: in any state.
        with_images: put the sheets of `fer explain` into the page. They show faces, which the
            licences of most datasets forbid to pass on.

    Returns:
        The page.

    Raises:
        RunError: a file of the run cannot be read.
    """
    write_atomically(run.report, run_page(run, with_images))
    return run.report


def run_page(run: RunDirectory, with_images: bool = False) -> str:
    """The HTML of a run; its PNG figures are written on the way. As `write_run_report`."""
    record, damages = _record(run)
    config, text = _config(run)
    found = {path.stem: read_metrics(run, path.stem) for path in run.path.glob("metrics/*.json")}
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
        damages=damages,
        adopted=record.is_adopted,
        chosen_on_test=evaluation.CHOSEN_ON_TEST
        if config.get("selection") == "test_split" and not sections
        else None,
        sections=sections,
        counts=_counts(record),
        curves=_curves(run, record),
        config=text,
    )


def _record(run: RunDirectory) -> tuple[RunRecord, list[str]]:
    """What `run.json` says; where it is damaged, nothing, and what is wrong."""
    try:
        return run.read_record(), []
    except RunError as error:
        if not run.run_json.exists():
            raise
        return RunRecord(), [str(error)]


def _config(run: RunDirectory) -> tuple[dict[str, Any], str]:
    """The configuration as a mapping, empty where it isn't one, and as it was written."""
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
    metrics: Mapping[str, Any],
    record: RunRecord,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What the template shows of one evaluation, and its PNG figures as files."""
    predictions, doubts = _predictions(run, name, metrics)
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
        "warnings": [*(metrics.get("warnings") or []), *doubts],
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
        "temperature_rows": evaluation.temperature_rows(metrics),
        "subgroups": evaluation.subgroups(metrics.get("subgroups") or []),
        "corruptions": _corruptions(run, name),
        "axes": {axis: metrics[axis] for axis in AXES if axis in metrics},
        "axis_charts": evaluation.axis_charts(predictions, metrics) if predictions else [],
    }


def _predictions(
    run: RunDirectory, name: str, metrics: Mapping[str, Any]
) -> tuple[Predictions | None, list[str]]:
    """The saved predictions of an evaluation, or None and what is wrong with them."""
    path = run.predictions(name)
    if not path.exists():
        return None, [f"predictions/{name}.csv is missing: what needs it is left out"]
    predictions = read_predictions(path)
    if AXES[0] in metrics and predictions.valence_arousal is None:
        raise RunError(
            f"{path}: lacks valence and arousal, which the metrics are about.\n"
            f"Compute both again: fer evaluate {run.run_id} --split {name}"
        )
    if metrics.get("fingerprint", predictions.fingerprint) != predictions.fingerprint:
        return None, [
            f"metrics/{name}.json was not computed from predictions/{name}.csv: "
            "what needs both is left out; evaluate the run again"
        ]
    return predictions, []


def _probability_charts(
    predictions: Predictions | None, metrics: Mapping[str, Any]
) -> list[Markup]:
    if predictions is None:
        return []
    drawn = (
        evaluation.calibration_chart(predictions, metrics),
        evaluation.roc_chart(predictions, metrics.get("per_class") or ()),
    )
    return [chart for chart in drawn if chart is not None]


def _corruptions(run: RunDirectory, name: str) -> dict[str, Any] | None:
    """What the template shows of corrupted images, and a PNG figure as a file."""
    source = run.corruptions(name)
    if not source.exists():
        return None
    document = read_corruptions(run, name)
    figure = run.figures / f"robustness_{name}.png"
    if not _is_current(figure, source):
        robustness_figure(document, figure)
    return evaluation.corruptions(document)


def _is_current(figure: Path, source: Path) -> bool:
    """Whether a figure was drawn after the file that it shows: drawing takes half a second."""
    return figure.exists() and figure.stat().st_mtime_ns > source.stat().st_mtime_ns


def _write_confusion(run: RunDirectory, name: str, metrics: Mapping[str, Any]) -> None:
    path = run.figures / f"confusion_matrix_{name}.png"
    if _is_current(path, run.metrics(name)):
        return
    classes = [entry["name"] for entry in metrics["per_class"]]
    title = f"{run.run_id}, {name}, n = {metrics['n']}"
    confusion_matrix(np.array(metrics["confusion_matrix"]), classes, path, title)


def _write_scatter(
    run: RunDirectory, name: str, metrics: Mapping[str, Any], predictions: Predictions
) -> None:
    path = run.figures / f"valence_arousal_{name}.png"
    if predictions.valence_arousal is None or _is_current(path, run.metrics(name)):
        return
    captions = [
        f"{axis}, n = {metrics[axis]['n']}\nCCC {wording.write_cell('ccc', metrics[axis]['ccc'])}"
        for axis in AXES
    ]
    title = f"{run.run_id}, {name}"
    valence_arousal_scatter(predictions.valence_arousal, captions, path, title)


def _sheets(run: RunDirectory, name: str, with_images: bool) -> dict[str, Any]:
    """The sheets of `fer explain` on this split: embedded, or those with faces only counted."""
    folder = run.explanations(name)
    present = [folder / sheet for sheet in SHEETS if (folder / sheet).exists()]
    embedded = [path for path in present if with_images or path.name in FACELESS]
    about = _explained(folder)
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


def _explained(folder: Path) -> str:
    """What the sheets are about, in a sentence; empty where it isn't known."""
    try:
        document = json.loads((folder / "explanations.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # only the words beside the pictures
    means = look_up(document, "mean_maps") or {}
    counts = ", ".join(f"{name} ({look_up(means, name, 'n')} images)" for name in means)
    layer = look_up(document, "layer")
    return (f"Layer {layer}. " if layer else "") + (f"Mean maps of {counts}." if counts else "")


# Data and training -----------------------------------------------------------------------------


def _counts(record: RunRecord) -> dict[str, Any] | None:
    """How many images of each class each split has: a chart and a table; None where unknown."""
    counts = record.dataset.counts
    if not any(counts.values()):
        return None
    splits = {split: of for split, of in counts.items() if of}
    names = list(dict.fromkeys(name for of in splits.values() for name in of))
    bars = [
        (Key(split, SPLITS.get(split, GREY)), [of.get(name, 0) for name in names])
        for split, of in splits.items()
    ]
    said = "; ".join(
        f"{key.name} {sum(n):,} ("
        + ", ".join(f"{name} {count:,}" for name, count in zip(names, n, strict=True))
        + ")"
        for key, n in bars
    )
    chart = charts.bar_chart(
        names, bars, "share of the split", "Class balance", f"Images of each class: {said}."
    )
    totals = {key.name: sum(n) for key, n in bars}
    return {"chart": chart, "names": names, "splits": splits, "totals": totals}


def _curves(run: RunDirectory, record: RunRecord) -> list[Markup]:
    """The learning curves; none for a run without a finished epoch."""
    epochs = run.read_history()
    if not epochs:
        return []
    history = pd.DataFrame([epoch.to_row() for epoch in epochs])
    best = record.best.epoch if record.best else None
    path = run.figures / "learning_curves.png"
    if not _is_current(path, run.history):
        learning_curves(history, path, best)
    marks = _marks(history, best)
    return [
        chart
        for title, columns in _CURVES.items()
        for chart in _curve_chart(history, title, columns, marks)
    ]


def _marks(history: pd.DataFrame, best: int | None) -> list[Mark]:
    """Where stages begin and which epoch was kept."""
    starts = history[history["stage"] != history["stage"].shift()]
    marks = [
        Mark(float(epoch) - 0.5, str(stage))
        for epoch, stage in zip(starts["epoch"], starts["stage"], strict=True)
    ]
    if best is not None:
        marks.append(Mark(float(best), "kept", dash=""))
    return marks


def _curve_chart(
    history: pd.DataFrame,
    title: str,
    columns: Mapping[str, tuple[str, str]],
    marks: Sequence[Mark],
) -> Iterator[Markup]:
    lines = [
        Series(name, list(zip(history["epoch"], history[column], strict=True)), colour)
        for column, (name, colour) in columns.items()
        if column in history and history[column].notna().any()
    ]
    values = [float(y) for line in lines for _, y in line.points if math.isfinite(y)]
    if not values:
        return
    first, last = int(history["epoch"].min()), int(history["epoch"].max())
    epochs = Scale(first - 0.5, last + 0.5, "epoch", _whole)
    yield charts.line_chart(
        lines, (epochs, _curve_scale(title, values)), title, _told(title, lines, marks), marks
    )


def _whole(value: float) -> str:
    """A tick between two epochs is not written."""
    return f"{value:.0f}" if float(value).is_integer() else ""


def _power(value: float) -> str:
    """A tick of a learning rate: `1e-5`."""
    return f"{value:.0e}".replace("e-0", "e-")


def _curve_scale(title: str, values: Sequence[float]) -> Scale:
    if title == "Learning rate":
        known = [value for value in values if value > 0]
        # A cosine ends at next to nothing; the decades on the way there say nothing.
        shown = [value for value in known if value >= 1e-4 * max(known)]
        return charts.scale_around(shown, "", _power, logarithmic=True)
    if title == "Scores":
        return charts.scale_around(values, "score", lambda v: f"{v:.2f}", within=(-1, 1))
    return charts.scale_around(values, "loss")


def _told(title: str, lines: Sequence[Series], marks: Sequence[Mark]) -> str:
    """The text alternative: where each curve starts and ends, and which stages there are."""
    said = []
    for line in lines:
        known = [float(y) for _, y in line.points if math.isfinite(y)]
        said.append(f"{line.name} from {known[0]:.4g} to {known[-1]:.4g}")
    stages = ", ".join(f"{mark.name} at epoch {math.ceil(mark.place)}" for mark in marks)
    return f"{title} by epoch: {'; '.join(said)}. Marked: {stages}."


# Text ------------------------------------------------------------------------------------------


def _facts(record: RunRecord) -> dict[str, str]:
    """What happened in a run, as label and text; what it doesn't say is left out."""
    model, best, speed = record.model, record.best, record.images_per_second
    facts = {
        "status": record.status,
        "seed": record.seed,
        "dataset": record.dataset.name,
        "release": record.dataset.release,
        "backbone": model.backbone,
        "weights": model.weights,
        "parameters": model.parameters and f"{model.parameters:,}",
        "trained, by stage": _listed(model.trainable_parameters),
        "first trained layer, by stage": _listed(model.first_trainable_layer),
        "views of an image that frozen layers see": _several(record.trunk_views),
        "goes on from": record.parent and _origin(record.parent),
        "epoch kept": best and best.epoch,
        "chosen by": best and _chosen_by(best),
        "device": record.device,
        "precision": record.precision,
        "speed": speed and f"{speed:.0f} images per second",
        "duration": record.seconds and wording.write_duration(record.seconds),
        "started": record.started,
        "ended": record.ended,
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _origin(parent: ParentRecord) -> str:
    """The run that this one goes on from."""
    optimizer = "its optimizer" if parent.optimizer == "kept" else "a new optimizer"
    return f"{parent.run_id} after epoch {parent.epoch}, with {optimizer}"


def _chosen_by(best: BestRecord) -> str | None:
    value = math.nan if best.value is None else best.value
    return f"{best.metric} = {value:.4f}" if best.metric else None


def _several(views: int | None) -> int | None:
    return views if views and views > 1 else None


def _listed(entries: Sequence[Any] | None) -> str | None:
    """Entries of a list, in order; numbers with thousands separated."""
    if not entries:
        return None
    return " → ".join(f"{entry:,}" if isinstance(entry, int) else str(entry) for entry in entries)
