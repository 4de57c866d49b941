"""What all releases of AffectNet share: emotion codes, dropped rows, findings."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from fer_bench.data.manifest import Problem, Severity, problem_of
from fer_bench.data.releases import Counts
from fer_bench.labels import CODES, EXPRESSIONS

# Codes that say why a picture shows no expression.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non-face"}

OUTSIDE = "label outside the map"

UNLISTED = "not listed"

NO_FILE = "listed without a file"

MISSING = -2  # what stands for a valence or arousal that nobody gave
EMOTIONS = ("valence", "arousal")


@dataclass
class Findings:
    """What is left out, by reason, and what a user should know."""

    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def drop(self, rows: pd.DataFrame, bad: "pd.Series[bool]", reason: str) -> pd.DataFrame:
        """The rows that are not bad."""
        if bad.any():
            self.dropped[reason] += int(bad.sum())
        return rows[~bad]

    def report(self, kind: str, severity: Severity, names: Iterable[str], text: str) -> None:
        """A problem, unless it concerns nothing."""
        self.problems += problem_of(kind, severity, names, text)

    def drop_repeated(self, rows: pd.DataFrame, name: str) -> pd.DataFrame:
        """The rows, without those whose column `name` an earlier row has as well."""
        twice = rows[name].duplicated()
        text = "a list names these more than once; the first row counts"
        self.report("listed_twice", "warning", rows.loc[twice, name], text)
        return self.drop(rows, twice, "listed twice")

    def report_no_file(self, names: Iterable[str]) -> None:
        """What is labelled, but is not there."""
        text = "these are labelled but have no image; unpack the whole archive again"
        self.report("listed_without_file", "error", names, text)

    def report_unlisted(self, names: Iterable[str], severity: Severity = "warning") -> None:
        """What is there, but is not labelled."""
        text = "these images have no label in the lists of the release"
        self.report("file_not_listed", severity, names, text)


def count_dropped(rows: pd.DataFrame) -> Counts:
    """Numbers of rows by split and label."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    pairs = zip(rows["split"].tolist(), rows["label"].tolist(), strict=True)
    for (split, label), count in Counter(pairs).items():
        found[split][label] = count
    return found


def with_known_labels(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The rows that show an expression, with a column `label` for the code in `expression`."""
    meaning = rows["expression"].map({**CODES["affectnet"], **NO_EXPRESSION})
    shown = meaning.isin(EXPRESSIONS)
    findings.dropped.update(Counter(meaning[~shown].astype(object).fillna(OUTSIDE)))
    unknown = rows[meaning.isna()]
    findings.report(
        "label_unknown",
        "error",
        [
            f"{name}: {code:g}"
            for name, code in zip(unknown["sample_id"], unknown["expression"], strict=True)
        ],
        "these expression codes are not among 0 to 10; get the annotations again",
    )
    return rows[shown].assign(label=meaning[shown].astype(str))


def with_emotions(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The rows, with NaN for each valence and arousal that is not in [-1, 1]."""
    values = rows[list(EMOTIONS)]
    fine = values.abs() <= 1
    missing = values == MISSING
    findings.report(
        "valence_arousal_missing",
        "info",
        rows.loc[missing.any(axis=1), "sample_id"],
        f"valence or arousal is {MISSING}, which means that nobody gave it",
    )
    findings.report(
        "valence_arousal_out_of_range",
        "error",
        rows.loc[(~fine & ~missing).any(axis=1), "sample_id"],
        "valence or arousal is no number from -1 to 1, and is not used; get the annotations again",
    )
    return rows.assign(**values.where(fine))
