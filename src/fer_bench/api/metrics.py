"""Metrics with their intervals, by name."""

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from fer_bench.labels import AXES
from fer_bench.metrics.measure import NAMES
from fer_bench.report.wording import write_cell, write_heading
from fer_bench.spelling import did_you_mean


class Estimate(NamedTuple):
    """A value and its 95% interval; NaN where it is not defined.

    >>> from fer_bench import Estimate
    >>> accuracy = Estimate(0.8125, 0.7901, 0.8333)
    >>> f"{accuracy:.1%}"
    '81.2% [79.0%, 83.3%]'
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Each of the three numbers in the given format."""
        return "{} [{}, {}]".format(*(format(number, spec or ".4g") for number in self))

    def __str__(self) -> str:
        return format(self, "")

    def __float__(self) -> float:
        return self.value


class Metrics(Mapping[str, Estimate]):
    """The metrics of one evaluation: `metrics.accuracy`, or `metrics["accuracy"]`.

    >>> import fer_bench
    >>> metrics = fer_bench.open_run("latest").metrics("test")
    >>> metrics.macro_f1 == metrics["macro_f1"]
    True
    >>> list(metrics)[:3]
    ['accuracy', 'balanced_accuracy', 'macro_f1']

    Attributes:
        document: everything that `metrics/<evaluation>.json` holds.
        run_id: the run that was evaluated.
        evaluation: what was evaluated: a split, or `test+flip`, `test@other_dataset`.
    """

    def __init__(self, document: Mapping[str, Any], run_id: str, evaluation: str) -> None:
        self.document = document
        self.run_id = run_id
        self.evaluation = evaluation
        axes = {
            f"{axis}_{name}": cell
            for axis in AXES
            for name, cell in document.get(axis, {}).items()
            if name != "n"
        }
        cells = {**document, **axes}
        self._estimates = {name: _estimate(cells[name]) for name in NAMES if name in cells}

    @property
    def n(self) -> int:
        """The number of images."""
        return int(self.document["n"])

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers must know."""
        return list(self.document.get("warnings", []))

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per class: precision, recall, F1, AUC and the number of images (`support`)."""
        rows = self.document.get("per_class", [])
        index = pd.Index([row["name"] for row in rows], name="class")
        return pd.DataFrame(rows, index).drop(columns=["name", "intervals"], errors="ignore")

    @property
    def confusion_matrix(self) -> pd.DataFrame:
        """The number of images by true class (rows) and predicted class (columns)."""
        classes = self.per_class.index
        matrix = pd.DataFrame(self.document.get("confusion_matrix", []), classes, classes)
        return matrix.rename_axis(index="true", columns="predicted")

    def to_frame(self) -> pd.DataFrame:
        """One row per metric, with the columns `value`, `low` and `high`."""
        index = pd.Index(list(self), name="metric")
        return pd.DataFrame(list(self.values()), index, list(Estimate._fields))

    def __getitem__(self, name: str) -> Estimate:
        return self._estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def __getattr__(self, name: str) -> Estimate:
        estimates = self.__dict__.get("_estimates", {})  # missing while the object is copied
        if name in estimates:
            return estimates[name]  # type: ignore[no-any-return]
        hint = did_you_mean(name, estimates)
        raise AttributeError(f"there is no metric '{name}'. {hint}".rstrip())

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        cells = "".join(f"\n  {name}: {estimate}" for name, estimate in self.items())
        return f"Metrics of {self.run_id}, {self.evaluation}, n = {self.n:,}{cells}"

    def _repr_html_(self) -> str:
        caption = f"{self.run_id}, {self.evaluation}, n = {self.n:,}, with 95% intervals"
        return html_table(caption, ["metric", "value"], metric_rows(self))


def metric_rows(metrics: Mapping[str, Estimate]) -> list[list[str]]:
    """For each metric that is defined, what it is called and its value with the interval."""
    return [
        [write_heading(name), write_cell(name, estimate._asdict())]
        for name, estimate in metrics.items()
        if not math.isnan(estimate.value)
    ]


def html_table(caption: str, header: list[str], rows: list[list[str]]) -> str:
    """A small table for a notebook."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _estimate(cell: Mapping[str, float | None]) -> Estimate:
    numbers = (cell[part] for part in Estimate._fields)
    return Estimate(*(math.nan if number is None else number for number in numbers))
