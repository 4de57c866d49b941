"""Pairs of turns → ratios, and ratios → lines of text."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.children import Measurement, Reading
from baselines.rows import Opponent, Row

OURS = "fer-bench"
NONE = "-"


@dataclass(frozen=True)
class Outcome:
    """fer-bench against one plain script.

    Attributes:
        row: what was measured.
        opponent: the plain script.
        ours: the turns of fer-bench.
        plain: the turns of the plain script, each beside the one of fer-bench it is paired with.
    """

    row: Row
    opponent: Opponent
    ours: Sequence[Reading]
    plain: Sequence[Reading]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast fer-bench was, by pair."""
        return [a.speed / b.speed for a, b in zip(self.ours, self.plain, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """Whether the median is the target or more; None without a target."""
        return None if self.opponent.target is None else self.ratio >= self.opponent.target

    @property
    def speeds(self) -> tuple[float, float]:
        """Median images a second of fer-bench and of the plain script."""
        ours, plain = (
            statistics.median(turn.speed for turn in turns) for turns in (self.ours, self.plain)
        )
        return ours, plain

    def __str__(self) -> str:
        ours, plain = self.speeds
        return (
            f"{self.row.name} ({self.row.network}): {OURS} {ours:.1f} images/s, "
            f"{self.opponent.name} {plain:.1f} images/s, ratio {_ratio(self)}, "
            f"target {_target(self)}, reached: {_verdict(self)}"
        )


def outcomes_of(row: Row, opponents: Sequence[Opponent], measured: Measurement) -> list[Outcome]:
    """fer-bench against each plain script, paired by round."""
    ours = [turns[OURS] for turns in measured.rounds]
    return [
        Outcome(row, against, ours, [turns[against.name] for turns in measured.rounds])
        for against in opponents
    ]


def append_json(
    path: Path, outcome: Outcome, measured: Measurement, machine: Mapping[str, Any]
) -> None:
    """One more line of JSON, with every single turn."""
    row, against = outcome.row, outcome.opponent
    ours, plain = outcome.speeds
    document = {
        "row": row.name,
        "network": row.network,
        "what": row.what,
        "against": against.name,
        "ours_images_per_second": ours,
        "plain_images_per_second": plain,
        "ratio": outcome.ratio,
        "ratios": outcome.ratios,
        "target": against.target,
        "reached": outcome.reached,
        "ours_images": [turn.images for turn in outcome.ours],
        "plain_images": [turn.images for turn in outcome.plain],
        "ours_seconds": [turn.seconds for turn in outcome.ours],
        "plain_seconds": [turn.seconds for turn in outcome.plain],
        "ours_peak_bytes": measured.peak_bytes[OURS],
        "plain_peak_bytes": measured.peak_bytes[against.name],
        "machine": dict(machine),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")


def markdown(outcomes: Sequence[Outcome], machine: Mapping[str, Any]) -> str:
    """The table of all rows, below what is known of the machine."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    heading = (
        "row",
        "network",
        "what",
        f"{OURS} images/s",
        "plain script",
        "its images/s",
        "ratio [of the pairs]",
        "target",
        "reached",
    )
    scale = "" if machine["scale"] == 1 else f", {machine['scale']:g} times as many as said below"
    lines = [
        f"- machine: {machine['cpu']}, {machine['cores']} cores usable, {machine['system']}",
        f"- {OURS} on {machine['device']}, in {machine['precision']}",
        f"- versions: {versions}",
        f"- images: {machine['images']}{scale}; seed {machine['seed']}",
        f"- pairs: {machine['pairs']}; {machine['date']}",
        f"- `{machine['command']}`",
        "",
        f"| {' | '.join(heading)} |",
        "|" + "---|" * len(heading),
        *(f"| {' | '.join(_cells(outcome))} |" for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row, (ours, plain) = outcome.row, outcome.speeds
    return (
        row.name,
        row.network,
        row.what,
        f"{ours:.1f}",
        outcome.opponent.name,
        f"{plain:.1f}",
        _ratio(outcome),
        _target(outcome),
        _verdict(outcome),
    )


def _ratio(outcome: Outcome) -> str:
    return f"{outcome.ratio:.2f} [{min(outcome.ratios):.2f}, {max(outcome.ratios):.2f}]"


def _target(outcome: Outcome) -> str:
    target = outcome.opponent.target
    return NONE if target is None else f"{target:g}"


def _verdict(outcome: Outcome) -> str:
    if outcome.reached is None:
        return NONE
    return "yes" if outcome.reached else "no"
