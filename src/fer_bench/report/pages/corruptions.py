"""The accuracy on corrupted images: a table, and a chart for each family of corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fer_bench.comparison.member import look_up
from fer_bench.report import wording
from fer_bench.report.pages import charts
from fer_bench.report.pages.charts import DASHES
from fer_bench.report.pages.evaluation import Document
from fer_bench.report.pages.scales import Scale, percent
from fer_bench.report.pages.svg import Series
from fer_bench.report.palette import GREY
from fer_bench.report.plots import FAMILY_COLOURS, SEVERITIES, conditions_by_family
from fer_bench.report.wording import MISSING

FAMILIES = ("noise", "blur", "weather", "digital", "occlusion")


def corruptions(document: Document) -> dict[str, Any]:
    """The tables and the charts of one `corruptions/<evaluation>.json`."""
    clean = document.get("clean") or {}
    families = conditions_by_family(document)
    found = [family for family, entries in families.items() if _is_graded(entries)]
    graded = sorted(found, key=lambda family: (*FAMILIES, family).index(family))
    return {
        "n": document.get("n"),
        "clean": wording.write_cell("accuracy", clean),
        "mean": wording.write_cell("accuracy", document.get("mean_corruption_accuracy")),
        "drop": wording.write_cell("accuracy", document.get("relative_drop")),
        "complete": document.get("complete", True),
        "rows": [
            _corruption_row(document, name, found)
            for family in graded
            for name, found in families[family].items()
        ],
        "occlusions": [
            {
                "name": name.replace("_", " "),
                "accuracy": wording.write_cell("accuracy", entries[0].get("accuracy")),
            }
            for family, found in families.items()
            if family not in graded
            for name, entries in found.items()
        ],
        "charts": [_family_chart(name, families[name], clean.get("value")) for name in graded],
    }


def _is_graded(corruptions: Mapping[str, Sequence[Document]]) -> bool:
    """Whether the corruptions of a family have severities, which occlusions do not."""
    return all(entry.get("severity") for entries in corruptions.values() for entry in entries)


def _corruption_row(document: Document, name: str, entries: Sequence[Document]) -> dict[str, Any]:
    by_severity = {entry["severity"]: entry.get("accuracy") or {} for entry in entries}
    cells_found = [by_severity.get(severity, {}) for severity in SEVERITIES]
    return {
        "name": name.replace("_", " "),
        "cells": [_short_cell(cell) for cell in cells_found],
        "mean": _short_cell(look_up(document, "by_corruption", name)),
    }


def _short_cell(cell: Document | None) -> dict[str, Any]:
    """An accuracy where space is short; its interval appears on hovering."""
    value = cell.get("value") if cell else None
    text = MISSING if value is None else f"{value:.0%}"
    return {"share": value, "text": text, "title": wording.write_cell("accuracy", cell or None)}


def _family_chart(
    family: str, corruptions: Mapping[str, Sequence[Document]], clean: float | None
) -> Markup:
    lines, ranges = [], []
    for place, (name, entries) in enumerate(corruptions.items()):
        points = [
            (float(entry["severity"]), look_up(entry, "accuracy", "value")) for entry in entries
        ]
        known = sorted((x, y) for x, y in points if y is not None)
        colour = FAMILY_COLOURS[place % 4]
        written = name.replace("_", " ")
        lines.append(Series(written, known, colour, DASHES[place % 4], dots=True))
        if known:
            ranges.append(f"{written} {known[0][1]:.0%} to {known[-1][1]:.0%}")
    if clean is not None:
        lines.append(Series("clean images", [(0.5, clean), (5.5, clean)], GREY, "1 3"))
    scales = (Scale(0.5, 5.5, "severity"), Scale(0, 1, "accuracy", percent))
    text = f"Accuracy from the mildest to the strongest {family}: {'; '.join(ranges)}."
    return charts.line_chart(lines, scales, family.capitalize(), text)
