"""What others report for an experiment, beside what was measured here, with a verdict.

A verdict compares two shares as if each came from a sample of its own of the same faces. It is
`better` or `worse` (ours against theirs) only where the 95% interval of the difference, after
Newcombe (1998, method 10), leaves zero out, else `consistent`. It says nothing of another training
run of theirs, and the caveat stands beside it. `cannot be compared`, whatever the numbers, where

- it was measured on another split than the one in this table (`val_…` or `train_…` beside test),
  or on another dataset, as far as the entry says so;
- it is of a metric that is not measured here, or no share in [0, 1];
- nobody says on how many images it was measured, since then it has no interval.

The interval of a published share is Wilson's. A mean over classes varies more than a share of all
images, which the rare classes see to: there, the number of images is reduced by as much as our own
bootstrap interval is wider than Wilson's would be.
"""

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from fer_bench.compare.member import Member, number, text
from fer_bench.compare.result import Row, Verdict
from fer_bench.metrics.intervals import CONFIDENCE

# Shares, of which more is better.
COMPARABLE = frozenset(
    {
        *("accuracy", "balanced_accuracy", "top2_accuracy"),
        *("macro_precision", "macro_recall", "macro_f1"),
        *("weighted_precision", "weighted_recall", "weighted_f1"),
        *("micro_precision_at_half", "micro_recall_at_half"),
    }
)
# What a metric that others print is called here; Keras's precision and recall count every class
# above one half as predicted.
_SAME = {"categorical_accuracy": "accuracy"}
_SAME_AT = {
    "rafdb4": {"precision": "micro_precision_at_half", "recall": "micro_recall_at_half"},
}
_SPLITS = {"val": "validation", "train": "train", "test": "test"}
_IMAGES = re.compile(r"([\d,]*\d) images\b")


@dataclass(frozen=True)
class _Share:
    """A share in [0, 1] and its 95% interval."""

    value: float
    low: float
    high: float


def judge_published(members: Iterable[Member], evaluation: str) -> list[dict[str, Any]]:
    """The `published` entries of all configurations, each once for an experiment's name.

    Args:
        members: the runs of a group.
        evaluation: what the group was measured on, for example `test+flip`.

    Returns:
        Entries as `Group.published` describes them.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, list[Row]] = {}
    for member in sorted(members, key=lambda member: member.row.name):
        for entry in member.config.get("published") or []:
            key = json.dumps([member.row.name, entry], sort_keys=True, default=str)
            entries[key] = entry
            rows.setdefault(key, []).append(member.row)
    return [_judge(entry, rows[key], evaluation) for key, entry in entries.items()]


def _judge(entry: Mapping[str, Any], rows: Sequence[Row], evaluation: str) -> dict[str, Any]:
    split, metric = _known_as(entry)
    value, images = number(entry.get("value")), _images(entry)
    # What was printed of training images has no counterpart beside it that would not mislead.
    ours = None if split == "train" != evaluation else _mean(rows, metric)
    theirs = None
    if value is not None and images and metric in COMPARABLE and 0 <= value <= 1:
        theirs = _wilson(value, images / _spread(ours, rows[0].n))
    verdict: Verdict = "cannot be compared"
    reason = _elsewhere(entry, split, rows[0], evaluation)
    if reason is None and (ours is None or metric not in COMPARABLE):
        reason = f"{entry.get('metric')} is no share that is measured here"
    if reason is None and images is None:
        reason = "on how many images it was measured is not known"
    if reason is None and ours and theirs:
        verdict, reason = _verdict(ours, theirs)
    return {
        "name": rows[0].name,
        "source": str(entry.get("source")),
        "metric": str(entry.get("metric")),
        "value": value,
        "caveat": text(entry.get("caveat")),
        "n": images,
        "low": theirs.low if theirs else None,
        "high": theirs.high if theirs else None,
        "ours": ours.value if ours else None,
        "verdict": verdict,
        "reason": reason or "the published value is no share in [0, 1]",
    }


def _known_as(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The split that a published metric is of, and what it is called here."""
    metric = str(entry.get("metric"))
    prefix, _, rest = metric.partition("_")
    split, metric = (_SPLITS[prefix], rest) if prefix in _SPLITS else ("test", metric)
    return split, _SAME_AT.get(str(entry.get("source")), _SAME).get(metric, metric)


def _images(entry: Mapping[str, Any]) -> int | None:
    """The number of images it was measured on: said as such, or at the start of the caveat."""
    said = number(entry.get("n"))
    found = _IMAGES.match(text(entry.get("caveat")) or "")
    if said is None and found:
        said = float(found[1].replace(",", ""))
    return int(said) if said and said >= 1 else None


def _elsewhere(entry: Mapping[str, Any], split: str, row: Row, evaluation: str) -> str | None:
    """Why the images are others than those of this table; None where nothing says so."""
    own_split, _, other_data = evaluation.partition("+")[0].partition("@")
    if split != own_split:
        return f"measured on {split} images, not on {own_split} images"
    dataset = text(entry.get("dataset"))
    if other_data or (dataset and dataset != row.dataset):
        return f"measured on another dataset ({dataset or row.dataset or 'its own'})"
    return None


def _mean(rows: Sequence[Row], metric: str) -> _Share | None:
    """Our value and its interval, as the means over seeds; None where a run lacks it."""
    parts = []
    for part in ("value", "low", "high"):
        found = [row.metrics.get(metric, {}).get(part) for row in rows]
        known = [value for value in found if value is not None]
        if len(known) < len(rows):
            return None
        parts.append(statistics.fmean(known))
    return _Share(*parts)


def _spread(ours: _Share | None, n: int) -> float:
    """How many times the variance of our value is that of a share of n images, at least 1."""
    if ours is None or not 0 < ours.value < 1:
        return 1.0
    plain = _wilson(ours.value, n)
    return max(1.0, ((ours.high - ours.low) / (plain.high - plain.low)) ** 2)


def _wilson(share: float, n: float) -> _Share:
    """Wilson's interval of a share of n, which need not be whole, as `statistics.wilson`."""
    square = float(ndtri((1 + CONFIDENCE) / 2)) ** 2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = math.sqrt(square * (share * (1 - share) / n + square / (4 * n * n))) / (1 + square / n)
    return _Share(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def _verdict(ours: _Share, theirs: _Share) -> tuple[Verdict, str]:
    """The verdict on ours, and the interval of the difference that it rests on."""
    difference = ours.value - theirs.value
    low = difference - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = difference + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    interval = f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"
    if low > 0:
        return "better", interval
    return ("worse", interval) if high < 0 else ("consistent", interval)
