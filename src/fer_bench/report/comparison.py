"""The sentences of a comparison, for the terminal, for pages and for papers."""

from collections.abc import Mapping
from typing import Any

from fer_bench.comparison import CONCORDANCE, EXPRESSION_METRICS, Comparison
from fer_bench.metrics.intervals import ALPHA
from fer_bench.report.wording import MISSING

# How the model was selected, where that was not on validation images: the mark beside the run.
MARKS = {"test_split": "†", "unknown": "‡"}
MEANINGS = {
    "†": "chosen on test: the test images selected this model, so its score on them is too high",
    "‡": "how the model was selected is not known",
}
LETTERS = {
    "all": "Runs that share a letter do not differ significantly in accuracy "
    f"(Holm-adjusted p ≥ {ALPHA}).",
    "best": "a: accuracy does not differ significantly from that of the best run "
    f"(Holm-adjusted p ≥ {ALPHA}).",
}
TESTS = {
    EXPRESSION_METRICS: "accuracy by exact McNemar tests, macro F1 by a paired bootstrap",
    CONCORDANCE: "CCC by a paired bootstrap",
}
ONLY_THESE_MODELS = "The tests are about these trained models, not about other seeds."


def write_smallest(difference: float) -> str:
    """The smallest difference of two accuracies that a test set can show."""
    return (
        "On these images two such models can be distinguished if they differ by about "
        f"{100 * difference:.2f} points of accuracy (80% power; by less where both fail on the "
        "same images)."
    )


def write_published(entry: Mapping[str, Any]) -> tuple[str, str]:
    """A published value with its interval, and ours: percent for shares, plain otherwise."""
    share = entry.get("ours") is not None and entry["value"] is not None and entry["value"] <= 1
    in_percent = share or entry.get("low") is not None

    def shown(value: float | None) -> str:
        if value is None:
            return MISSING
        # What cannot be compared is shown as printed, without digits that nobody reported.
        return f"{100 * value:.2f}" if in_percent else f"{value:.5g}"

    theirs = shown(entry["value"])
    if entry.get("low") is not None:
        theirs += f" [{shown(entry['low'])}, {shown(entry['high'])}]"
    return theirs, shown(entry.get("ours"))


def write_verdict(entry: Mapping[str, Any]) -> str:
    """How ours relates to a published value, and why; empty if there is no verdict."""
    return ": ".join(filter(None, (entry.get("verdict"), entry.get("reason"))))


def write_caveat(entry: Mapping[str, Any]) -> str:
    """The number of images behind a published value, and what keeps it from being comparable."""
    n, caveat = entry.get("n"), entry["caveat"] or ""
    size = f"n = {n:,}" if n and not caveat.startswith((f"{n} ", f"{n:,} ")) else None
    return "; ".join(filter(None, (size, caveat)))


def pairs_by_reason(comparison: Comparison) -> dict[str, list[str]]:
    """For each reason that separates groups, the pairs of groups, counted from 1: `1 and 2`."""
    found: dict[str, list[str]] = {}
    for entry in comparison.not_comparable:
        first, second = (place + 1 for place in entry.groups)
        found.setdefault(entry.reason, []).append(f"{first} and {second}")
    return found


def write_reasons(comparison: Comparison) -> list[str]:
    """Why groups are not comparable: each reason once, with the pairs of groups."""
    found = pairs_by_reason(comparison)
    return [f"Groups {'; '.join(pairs)}: {reason}" for reason, pairs in found.items()]
