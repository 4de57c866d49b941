"""Self-contained HTML pages: nothing in them is loaded from elsewhere."""

import base64
import io
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from fer_bench import report
from fer_bench.compare import Comparison, Group, Row
from fer_bench.errors import RunError
from fer_bench.manifest import AXES
from fer_bench.metrics import METRICS
from fer_bench.predictions import read_predictions
from fer_bench.report import figures
from fer_bench.rundir import RunDirectory, write_atomically

PAIRS_SHOWN = 200


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison."""
    write_atomically(path, comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """The HTML of a comparison: for each group its figure, its runs and their differences."""
    return _render(
        "comparison.html.j2",
        comparison=comparison,
        figures=[[_embed(png) for png in _forests(group)] for group in comparison.groups],
        pairs_shown=PAIRS_SHOWN,
    )


def write_run_report(run: RunDirectory) -> Path:
    """Draw a run's figures into `figures/` and write its `report.html`.

    Every split that has metrics gets a section, `test` first.

    Returns:
        The page.

    Raises:
        RunError: a file of the run cannot be read.
    """
    record = run.read_json(run.run_json)
    splits = {path.stem: run.read_json(path) for path in run.path.glob("metrics/*.json")}
    ordered = sorted(splits.items(), key=lambda item: (item[0] != "test", item[0]))
    sections = [
        {
            "split": split,
            "metrics": metrics,
            "confusion": _confusion(run, split, metrics),
            "valence_arousal": _valence_arousal(run, split, metrics),
        }
        for split, metrics in ordered
    ]
    page = _render(
        "run.html.j2",
        run_id=run.run_id,
        record=record,
        facts=_facts(record),
        sections=sections,
        curves=_curves(run, record),
        config=run.config.read_text(encoding="utf-8") if run.config.exists() else "",
    )
    write_atomically(run.report, page)
    return run.report


# Figures ---------------------------------------------------------------------------------------


def _forests(group: Group) -> Iterator[bytes]:
    """A figure of accuracy and one of concordance, of the runs that have it."""
    runs = [run for run in group.runs if "accuracy" in run.metrics]
    image = io.BytesIO()
    if runs:
        rows = [(run.run_id, *_interval(run, "accuracy")) for run in runs]
        figures.accuracy_intervals(rows, image, f"Accuracy, n = {group.n}")
        yield image.getvalue()
    runs = [run for run in group.runs if "valence_ccc" in run.metrics]
    image = io.BytesIO()
    if runs:
        cells = {axis: [_interval(run, f"{axis}_ccc") for run in runs] for axis in AXES}
        names = [run.run_id for run in runs]
        title = f"Valence and arousal, where they are known of n = {group.n}"
        figures.concordance_intervals(names, cells, image, title)
        yield image.getvalue()


def _interval(run: Row, metric: str) -> figures.Interval:
    """Value, low and high; NaN where one is not defined."""
    cell = run.metrics[metric]
    value, low, high = (cell[part] for part in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return math.nan, math.nan, math.nan
    return value, low, high


def _confusion(run: RunDirectory, split: str, metrics: Mapping[str, Any]) -> str | None:
    if "confusion_matrix" not in metrics:
        return None
    path = run.figures / f"confusion_matrix_{split}.png"
    classes = [entry["name"] for entry in metrics["per_class"]]
    title = f"{run.run_id}, {split}, n = {metrics['n']}"
    figures.confusion_matrix(np.array(metrics["confusion_matrix"]), classes, path, title)
    return _embed(path.read_bytes())


def _valence_arousal(run: RunDirectory, split: str, metrics: Mapping[str, Any]) -> str | None:
    if AXES[0] not in metrics:
        return None
    predicted = read_predictions(run.predictions(split)).valence_arousal
    if predicted is None:
        raise RunError(
            f"{run.predictions(split)}: lacks valence and arousal, which the metrics are about.\n"
            f"Compute both again: fer evaluate {run.run_id} --split {split}"
        )
    path = run.figures / f"valence_arousal_{split}.png"
    captions = [
        f"{axis}, n = {metrics[axis]['n']}\nCCC {report.write_cell('ccc', metrics[axis]['ccc'])}"
        for axis in AXES
    ]
    figures.valence_arousal_scatter(predicted, captions, path, f"{run.run_id}, {split}")
    return _embed(path.read_bytes())


def _curves(run: RunDirectory, record: Mapping[str, Any]) -> str | None:
    """The learning curves, or None for a run without a finished epoch."""
    if not run.history.exists():
        return None
    try:
        history = pd.read_csv(run.history)
    except ValueError as error:  # pandas' own reading errors are ValueErrors
        raise RunError(f"{run.history}: cannot be read as a table ({error}).") from error
    if history.empty:
        return None
    path = run.figures / "learning_curves.png"
    figures.learning_curves(history, path, (record.get("best") or {}).get("epoch"))
    return _embed(path.read_bytes())


def _embed(png: bytes) -> str:
    """The address of an image that is part of the page itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


# Text ------------------------------------------------------------------------------------------


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """What happened in a run, as label and text; what it doesn't say is left out."""
    dataset, model, best = (record.get(part) or {} for part in ("dataset", "model", "best"))
    speed = record.get("images_per_second")
    facts = {
        "status": record.get("status"),
        "seed": record.get("seed"),
        "dataset": dataset.get("name"),
        "release": dataset.get("release"),
        "backbone": model.get("backbone"),
        "weights": model.get("weights"),
        "parameters": model.get("parameters") and f"{model['parameters']:,}",
        "trained, by stage": _listed(model.get("trainable_parameters")),
        "first trained layer, by stage": _listed(model.get("first_trainable_layer")),
        "epoch kept": best.get("epoch"),
        "chosen by": best.get("metric") and f"{best['metric']} = {best.get('value', math.nan):.4f}",
        "device": record.get("device"),
        "precision": record.get("precision"),
        "speed": speed and f"{speed:.0f} images per second",
        "duration": record.get("seconds") and report.write_duration(record["seconds"]),
        "started": record.get("started"),
        "ended": record.get("ended"),
    }
    return {label: str(fact) for label, fact in facts.items() if fact is not None}


def _listed(entries: list[Any] | None) -> str | None:
    """Entries of a list, in order; numbers with thousands separated."""
    if not entries:
        return None
    return " → ".join(f"{entry:,}" if isinstance(entry, int) else str(entry) for entry in entries)


def _render(name: str, **context: Any) -> str:
    return _environment().get_template(name).render(**context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_bench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        name: getattr(report, name) for name in dir(report) if name.startswith("write_")
    } | {
        "AXES": AXES,
        "AXIS_LABELS": report.AXIS_LABELS,
        "LABELS": report.LABELS,
        "METRICS": tuple(METRICS),
        "MISSING": report.MISSING,
    }
    return environment
