"""The result of a comparison: runs in groups, and their differences."""

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.measure import NAMES

# Shown in tables of runs and tested between pairs, as far as the runs predict it.
EXPRESSION_METRICS = ("accuracy", "macro_f1")
CONCORDANCE = tuple(f"{axis}_ccc" for axis in AXES)
PAIR_METRICS = (*EXPRESSION_METRICS, *CONCORDANCE)

Verdict = Literal["consistent", "better", "worse", "cannot be compared"]


@dataclass(frozen=True)
class Row:
    """One run; None for what the run does not record.

    Attributes:
        run_id: the folder's name.
        selection_metric: the metric that chose the epoch of the model.
        n: number of samples measured.
        metrics: {name: {`value`, `low`, `high`}}, names as in `metrics.NAMES`, with at least
            `EXPRESSION_METRICS` or `CONCORDANCE`, by what the run predicts.
        views: of each image at test time: `none` (the image itself), `flip` or `ten_crop`.
        class_rule: how classes were treated that the model or the data lack (`intersection`,
            `mask_logits`); None on its own dataset.
        selection: the split that chose the model: `validation`, `test_split`, or `unknown` for
            adopted predictions.
        letter: runs of a group that share a letter do not differ significantly in accuracy; the
            best has `a`. Empty for a run without expressions, for one alone in its group, and for
            one that is worse than the best where only pairs with the best are tested.
        parent: the run whose training it continues; None for most runs.
        resamples: number of bootstrap resamples behind the intervals of `metrics`.
        per_class: {class: {`recall`, `f1`}}.
    """

    run_id: str
    name: str
    seed: int | None
    status: str
    dataset: str | None
    backbone: str | None
    weights: str | None
    parameters: int | None
    image_size: int | None
    selection_metric: str | None
    n: int
    metrics: Mapping[str, Mapping[str, float | None]]
    images_per_second: float | None
    seconds: float | None
    views: str = "none"
    class_rule: str | None = None
    selection: str = "validation"
    letter: str = ""
    parent: str | None = None
    resamples: int | None = None
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def value(self, metric: str) -> float:
        """A metric's value; NaN where it is not defined or not predicted."""
        value = self.metrics[metric]["value"] if metric in self.metrics else None
        return math.nan if value is None else value

    def columns(self) -> dict[str, Any]:
        """All columns by name: the facts about the run, and the values of its metrics."""
        facts = {name: getattr(self, name) for name in ROW_COLUMNS}
        return facts | {name: cell["value"] for name, cell in self.metrics.items()}


ROW_COLUMNS = tuple(
    name for name in Row.__dataclass_fields__ if name not in ("metrics", "per_class")
)
# Columns for choosing and sorting runs; letters are known only after both.
COLUMNS = (*(name for name in ROW_COLUMNS if name not in ("letter", "status")), *NAMES)


@dataclass(frozen=True)
class Pair:
    """The difference `a` minus `b` of two runs on the same samples.

    Attributes:
        low: lower bound of the difference's 95% interval, see `test`.
        high: upper bound.
        p: two-sided p of `test`.
        p_holm: p adjusted for all tests of the group.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    test: str


@dataclass(frozen=True)
class ExperimentPair(Pair):
    """The difference of two experiments, as the means over their seeds: `a` minus `b`.

    `a` and `b` are names as in `Seeds.name`, and `metric` is one of `EXPRESSION_METRICS`.

    Attributes:
        seeds: number of runs of each.
    """

    seeds: tuple[int, int]


@dataclass(frozen=True)
class Seeds:
    """Runs of one experiment that differ only in the seed.

    Attributes:
        name: the experiment's, unique in its group.
        metrics: {name: {`mean`, `sd`, `values`}} for those of `PAIR_METRICS` that every run has; sd
            is the sample standard deviation (n - 1).
    """

    name: str
    run_ids: tuple[str, ...]
    seeds: tuple[int | None, ...]
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """Runs that may be ranked: one test set, one list of classes, one protocol.

    They are sorted as requested, by default best first: by accuracy, followed by runs that predict
    no expression, by the mean of their concordance correlations.

    Attributes:
        test_fingerprint: of sample ids and labels.
        n: number of those samples.
        published: published values for these experiments: `name` (of our experiment), `source`,
            `metric`, `value`, `caveat` (or None), `n` (number of images, or None), `low` and `high`
            (95% interval, or None), `ours` (our value on the same split, the mean over seeds, or
            None), `verdict` (a `Verdict`, of ours against theirs) and `reason`, one sentence.
        half_width: half the 95% interval of the best accuracy; None where no run predicts
            expressions.
        classes: names of the classes, sorted; empty where no run predicts expressions.
        views: as in `Row`.
        class_rule: as in `Row`.
        selection: `test_split` where the models were chosen on the test split, otherwise
            `validation` (which includes runs where it is unknown).
        pairs_with: whether `pairs` has `all` pairs or only those with the `best` run.
        experiments: differences between experiments of at least two seeds each.
        smallest_difference: in accuracy, that this test set can be expected to show; None where no
            run predicts expressions.
        remarks: sentences about runs of the same seed, or with the same predictions.
    """

    test_fingerprint: str
    n: int
    runs: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    seeds: tuple[Seeds, ...]
    published: tuple[Mapping[str, Any], ...]
    half_width: float | None
    classes: tuple[str, ...] = ()
    views: str = "none"
    class_rule: str | None = None
    selection: str = "validation"
    pairs_with: Literal["all", "best"] = "all"
    experiments: tuple[ExperimentPair, ...] = ()
    smallest_difference: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """Which of `EXPRESSION_METRICS` and `CONCORDANCE` any of its runs have."""
        present = {name for row in self.runs for name in row.metrics}
        return tuple(
            kind for kind in (EXPRESSION_METRICS, CONCORDANCE) if present.intersection(kind)
        )


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why.

    Attributes:
        twin: the run that it is a copy of; None where it is left out for another reason.
    """

    run_id: str
    reason: str
    twin: str | None = None


@dataclass(frozen=True)
class NotComparable:
    """Why the runs of two groups are not ranked together.

    Attributes:
        groups: positions in `Comparison.groups`, from 0.
        reason: `not comparable: different test images`.
    """

    groups: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Comparison:
    """All runs of a folder on one evaluation. Rows of different groups are not comparable.

    Attributes:
        split: the evaluation: `test`, `test+flip`, `test@fer2013`.
        not_comparable: every two groups, and why they are separate.
        where: the condition that chose the runs; None for all runs.
        not_chosen: number of runs that it did not choose.
        sort: the column or metric that the runs of each group are sorted by.
    """

    split: str
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    not_comparable: tuple[NotComparable, ...] = ()
    where: str | None = None
    not_chosen: int = 0
    sort: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The document that `fer compare --json` prints."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per run; each metric has three columns, two of them with `_low` and `_high`.

        `group` counts from 1: rows of different groups are not comparable.
        """
        rows = [
            _flat(number, group, row)
            for number, group in enumerate(self.groups, start=1)
            for row in group.runs
        ]
        return pd.DataFrame(rows, columns=_frame_columns(set().union(*rows)))


def _frame_columns(present: Container[str]) -> list[str]:
    """The columns of expression always, those of valence and arousal where a run predicts them."""
    names = [name for name in NAMES if name in METRICS or name in present]
    cells = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return ["group", "test_fingerprint", *ROW_COLUMNS, *cells]


def _flat(number: int, group: Group, row: Row) -> dict[str, Any]:
    flat = {name: getattr(row, name) for name in ROW_COLUMNS}
    for name, cell in row.metrics.items():
        flat |= {name: cell["value"], f"{name}_low": cell["low"], f"{name}_high": cell["high"]}
    return {"group": number, "test_fingerprint": group.test_fingerprint, **flat}
