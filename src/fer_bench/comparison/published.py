"""Published values beside those measured here, with a verdict.

A verdict compares two proportions as if each came from its own sample of the same faces. It is
`better` or `worse` (ours against theirs) only where the 95% interval of the difference (Newcombe
1998, method 10) excludes zero, otherwise `consistent`. It does not account for another training run
of theirs, and the caveat is shown beside it. The verdict is `cannot be compared` where the value

- was measured on another split than the one compared (`val_…` or `train_…` beside test), or on
  another dataset, as far as the entry says so;
- is of a metric that is not measured here, or is no proportion in [0, 1];
- has no known number of images, and therefore no interval.

A published validation value is shown beside our own validation value, where the run was evaluated
on its validation split.

The interval of a published value is Wilson's. A mean over classes varies more than a proportion of
all images, because of the rare classes. For such a mean the number of images is divided by the
square of the ratio between our own bootstrap interval and Wilson's.
"""

import contextlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from fer_bench.comparison.member import Document, Member, number, text
from fer_bench.comparison.result import Verdict
from fer_bench.errors import RunError
from fer_bench.metrics.intervals import wilson_of_share
from fer_bench.metrics.schema import headline_cells
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_metrics

# Proportions, of which more is better: only these get a verdict.
COMPARABLE = frozenset(
    {
        *("accuracy", "balanced_accuracy", "top2_accuracy"),
        *("macro_precision", "macro_recall", "macro_f1"),
        *("weighted_precision", "weighted_recall", "weighted_f1"),
        *("micro_precision_at_half", "micro_recall_at_half"),
    }
)
# What Keras calls it, and other names that mean the same wherever they are printed.
_SYNONYMS = {"categorical_accuracy": "accuracy"}
_SPLITS = {"val": "validation", "train": "train", "test": "test"}


@dataclass(frozen=True)
class _Published:
    """A published value as a configuration states it.

    Attributes:
        metric: as the source calls it.
        split: what it was measured on.
        known_as: what the metric is called here.
        n: number of images; None where unknown.
    """

    source: str
    metric: str
    split: str
    known_as: str
    value: float | None
    caveat: str | None
    n: int | None
    dataset: str | None

    @classmethod
    def read(cls, entry: Document) -> "_Published":
        metric = str(entry.get("metric"))
        prefix, _, rest = metric.partition("_")
        split, plain = (_SPLITS[prefix], rest) if prefix in _SPLITS else ("test", metric)
        images = number(entry.get("n"))
        return cls(
            source=str(entry.get("source")),
            metric=metric,
            split=split,
            known_as=text(entry.get("metric_as")) or _SYNONYMS.get(plain, plain),
            value=number(entry.get("value")),
            caveat=text(entry.get("caveat")),
            n=int(images) if images and images >= 1 else None,
            dataset=text(entry.get("dataset")),
        )


@dataclass(frozen=True)
class _Estimate:
    """A proportion in [0, 1] with its 95% interval."""

    value: float
    low: float
    high: float


def judge_published(members: Iterable[Member], evaluation: str) -> list[dict[str, Any]]:
    """The `published` entries of all configurations, each once per experiment name.

    Args:
        members: the runs of a group.
        evaluation: what the group was measured on, for example `test+flip`.

    Returns:
        Entries as `Group.published` describes them.
    """
    stated: dict[str, _Published] = {}
    sharing: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda member: member.row.name):
        for entry in member.config.get("published") or []:
            # Without `n` and `metric_as`, which configurations of older runs lack.
            parts = [entry.get(part) for part in ("source", "metric", "value", "caveat", "dataset")]
            key = json.dumps([member.row.name, *parts], default=str)
            found, known = _Published.read(entry), stated.get(key)
            if known is None or (found.n and not known.n) or "metric_as" in entry:
                stated[key] = replace(found, n=found.n or (known.n if known else None))
            sharing.setdefault(key, []).append(member)
    return [_judge(found, sharing[key], evaluation) for key, found in stated.items()]


def _judge(entry: _Published, members: Sequence[Member], evaluation: str) -> dict[str, Any]:
    row = members[0].row
    ours = _mean(_own_cells(entry, members, evaluation))
    theirs = None
    in_range = entry.value is not None and 0 <= entry.value <= 1
    if entry.value is not None and in_range and entry.n and entry.known_as in COMPARABLE:
        theirs = _wilson(entry.value, entry.n / _variance_ratio(ours, row.n))
    verdict: Verdict = "cannot be compared"
    reason = _measured_elsewhere(entry, row.dataset, evaluation)
    if reason is None and (ours is None or entry.known_as not in COMPARABLE):
        reason = f"{entry.metric} is no proportion that is measured here"
    elif reason is None and entry.n is None:
        reason = "it is unknown on how many images it was measured"
    elif reason is None and not in_range:
        reason = "the published value is no proportion in [0, 1]"
    elif reason is None and ours and theirs:
        verdict, reason = _verdict(ours, theirs)
    return {
        "name": row.name,
        "source": entry.source,
        "metric": entry.metric,
        "value": entry.value,
        "caveat": entry.caveat,
        "n": entry.n,
        "low": theirs.low if theirs else None,
        "high": theirs.high if theirs else None,
        "ours": ours.value if ours else None,
        "verdict": verdict,
        "reason": reason or "",
    }


def _measured_elsewhere(entry: _Published, dataset: str | None, evaluation: str) -> str | None:
    """Why the images are not those of this comparison; None where nothing says so."""
    own_split, _, other_data = evaluation.partition("+")[0].partition("@")
    if entry.split != own_split:
        return f"measured on {entry.split} images, not on {own_split} images"
    if other_data or (entry.dataset and entry.dataset != dataset):
        return f"measured on another dataset ({entry.dataset or dataset or 'its own'})"
    return None


def _own_cells(
    entry: _Published, members: Sequence[Member], evaluation: str
) -> list[Mapping[str, float | None] | None]:
    """The metric of each run on the split that the published value is of; None where unknown."""
    if entry.split == evaluation.partition("+")[0].partition("@")[0]:
        return [member.row.metrics.get(entry.known_as) for member in members]
    if entry.split == "validation":
        return [_validation_cell(member, entry.known_as) for member in members]
    # Other test images, and training images, have no counterpart that would not mislead.
    return [None]


def _validation_cell(member: Member, metric: str) -> Mapping[str, float | None] | None:
    run = RunDirectory(member.path.parents[1])
    with contextlib.suppress(RunError):  # most runs are not evaluated on their validation split
        cell = headline_cells(read_metrics(run, "validation")).get(metric)
        return cast(Mapping[str, float | None] | None, cell)
    return None


def _mean(cells: Iterable[Mapping[str, float | None] | None]) -> _Estimate | None:
    """Our value and its interval as means over seeds; None where a run lacks it."""
    found = list(cells)
    parts = [[cell.get(p) if cell else None for cell in found] for p in ("value", "low", "high")]
    known = [[number for number in part if number is not None] for part in parts]
    if any(len(numbers) < len(part) for numbers, part in zip(known, parts, strict=True)):
        return None
    return _Estimate(*map(statistics.fmean, known))


def _variance_ratio(ours: _Estimate | None, n: int) -> float:
    """The variance of our value over that of a proportion of n images, at least 1."""
    if ours is None or not 0 < ours.value < 1:
        return 1.0
    plain = _wilson(ours.value, n)
    return max(1.0, ((ours.high - ours.low) / (plain.high - plain.low)) ** 2)


def _wilson(share: float, n: float) -> _Estimate:
    low, high = wilson_of_share(share, n)
    return _Estimate(share, min(max(low, 0.0), share), max(min(high, 1.0), share))


def _verdict(ours: _Estimate, theirs: _Estimate) -> tuple[Verdict, str]:
    """The verdict on ours, and the interval of the difference that it rests on."""
    difference = ours.value - theirs.value
    low = difference - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = difference + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    interval = f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"
    if low > 0:
        return "better", interval
    return ("worse", interval) if high < 0 else ("consistent", interval)
