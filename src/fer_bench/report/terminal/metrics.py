"""The metrics of one evaluation as terminal tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.table import Table

from fer_bench.comparison import CONCORDANCE, EXPRESSION_METRICS
from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS
from fer_bench.report.terminal.table import add_row, new_table, table_heading, table_note
from fer_bench.report.wording import (
    AXIS_LABELS,
    LABELS,
    write_cell,
    write_heading,
    write_interval,
    write_value,
)


def metrics_tables(metrics: Mapping[str, Any], title: str) -> RenderableType:
    """Those parts of one `metrics/<evaluation>.json` that it has.

    Args:
        metrics: the document, as `fer evaluate` writes it.
        title: for example `<run_id>, test`.
    """
    parts = [table_heading(f"{title}, n = {metrics['n']}")]
    if "accuracy" in metrics:
        parts += [_headline(metrics), _by_class(metrics)]
    if any(axis in metrics for axis in AXES):
        parts.append(_by_axis(metrics))
    if "without_twins" in metrics:
        parts.append(table_note(_without_twins(metrics["without_twins"])))
    if "temperature" in metrics:
        parts.append(table_note(_temperature(metrics["temperature"])))
    parts += [part for entry in metrics.get("subgroups", ()) for part in _subgroups(entry)]
    return Renderables(*parts)


def _without_twins(without: Mapping[str, Any]) -> str:
    shown = [
        f"{write_heading(name)}: {write_cell(name, without[name])}"
        for name in (*EXPRESSION_METRICS, *CONCORDANCE)
        if name in without
    ]
    return (
        f"Without the {without['left_out']:,} images that have a copy in another split "
        f"(n = {without['n']:,}): {'; '.join(shown)}"
    )


def _temperature(report: Mapping[str, Any]) -> str:
    changes = [
        f"{write_heading(name)} {write_cell(name, report['before'][name])} → "
        f"{write_cell(name, report['after'][name])}"
        for name in ("ece", "nll")
    ]
    fitted = f"fitted on {report['fitted_on']} (n = {report['n']:,})"
    return f"Temperature {report['value']:.3f}, {fitted}: {'; '.join(changes)}"


def _subgroups(entry: Mapping[str, Any]) -> list[RenderableType]:
    metrics = [name for name in EXPRESSION_METRICS if name in entry["difference"]]
    table = new_table(
        [entry["attribute"], ">images", *(f">{write_heading(name)}" for name in metrics)]
    )
    for group in entry["groups"]:
        cells = (write_cell(name, group[name]) for name in metrics)
        add_row(table, group["name"], f"{group['n']:,}", *cells)
    difference = (write_cell(name, entry["difference"][name]) for name in metrics)
    add_row(table, "best minus worst", "", *difference)
    ratio = (write_cell("ratio", entry["ratio"][name]) for name in metrics)
    add_row(table, "worst / best", "", *ratio)
    few = ", ".join(f"{group['name']} ({group['n']})" for group in entry["suppressed"])
    note = f"Not shown, fewer than {entry['least']} images: {few}"
    return [table, *([table_note(note)] if few else [])]


def _headline(metrics: Mapping[str, Any]) -> Table:
    table = new_table(["metric", ">value", ">95% interval"])
    for name in METRICS:
        cell = metrics[name]
        add_row(table, LABELS[name], write_value(name, cell["value"]), write_interval(name, cell))
    return table


def _by_class(metrics: Mapping[str, Any]) -> Table:
    classes = new_table(["class", ">precision", ">recall", ">F1", ">AUC", ">samples"])
    for entry in metrics["per_class"]:
        values = (write_value(name, entry[name]) for name in ("precision", "recall", "f1", "auc"))
        add_row(classes, entry["name"], *values, str(entry["support"]))
    return classes


def _by_axis(metrics: Mapping[str, Any]) -> Table:
    table = new_table(["", *(f">{axis}" for axis in AXES)])
    for name, label in AXIS_LABELS.items():
        add_row(table, label, *(write_cell(name, metrics[axis][name]) for axis in AXES))
    add_row(table, "samples", *(str(metrics[axis]["n"]) for axis in AXES))
    return table
