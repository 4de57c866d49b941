"""The outcomes of the benchmark: paired ratios, and their table."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measuring import Ratio, paired_ratio

from baselines.children import Measurement, Reading
from baselines.rows import Opponent, Row

OURS = "fer-bench"
HEADING = (
    *("row", "network", "what", f"{OURS} images/s", "plain script", "its images/s"),
    *("ratio [95%]", "target", "reached"),
)


@dataclass(frozen=True)
class Outcome:
    """fer-bench compared with one plain script.

    Attributes:
        row: the row.
        opponent: the plain script.
        ours: the turns of fer-bench.
        plain: the turns of the plain script, in the same order.
    """

    row: Row
    opponent: Opponent
    ours: Sequence[Reading]
    plain: Sequence[Reading]

    @property
    def ratio(self) -> Ratio:
        """How many times as fast fer-bench was, taken within each pair."""
        ours, plain = ([turn.speed for turn in turns] for turns in (self.ours, self.plain))
        return paired_ratio(ours, plain)

    @property
    def reached(self) -> bool:
        """Whether the median ratio is at least the target."""
        return self.ratio.median >= self.opponent.target

    @property
    def speeds(self) -> tuple[float, float]:
        """The median images per second of fer-bench and of the plain script."""
        ours, plain = (
            statistics.median(turn.speed for turn in turns) for turns in (self.ours, self.plain)
        )
        return ours, plain

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        ours, plain = self.speeds
        return (
            *(self.row.name, self.row.task.network, self.row.what, f"{ours:.1f}"),
            *(self.opponent.name, f"{plain:.1f}", str(self.ratio), f"{self.opponent.target:g}"),
            "yes" if self.reached else "no",
        )

    def to_json(self, measured: Measurement, machine: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON object with every single turn."""
        document: dict[str, Any] = {
            "row": self.row.name,
            "network": self.row.task.network,
            "what": self.row.what,
            "against": self.opponent.name,
            "ratio": self.ratio.median,
            "ratios": [a.speed / b.speed for a, b in zip(self.ours, self.plain, strict=True)],
            "target": self.opponent.target,
            "reached": self.reached,
            "machine": dict(machine),
        }
        sides = (("ours", OURS, self.ours), ("plain", self.opponent.name, self.plain))
        for (side, name, turns), speed in zip(sides, self.speeds, strict=True):
            document |= {
                f"{side}_images_per_second": speed,
                f"{side}_images": [turn.images for turn in turns],
                f"{side}_seconds": [turn.seconds for turn in turns],
                f"{side}_peak_bytes": measured.peak_bytes[name],
            }
        return document


def outcomes_of(row: Row, opponents: Sequence[Opponent], measured: Measurement) -> list[Outcome]:
    """fer-bench compared with each plain script, paired by round."""
    turns = {name: [readings[name] for readings in measured.rounds] for name in measured.rounds[0]}
    return [Outcome(row, against, turns[OURS], turns[against.name]) for against in opponents]
