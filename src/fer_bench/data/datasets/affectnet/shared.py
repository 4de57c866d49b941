"""What the releases of AffectNet share: codes of expressions, dropped rows, findings."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from fer_bench.data.manifest import Problem, Severity, problem_of
from fer_bench.data.releases import Counts
from fer_bench.labels import CODES, EXPRESSIONS

# Codes for pictures without an expression.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non-face"}
OUTSIDE = "label outside the map"
UNLISTED = "not listed"
NO_FILE = "listed without a file"
MISSING = -2  # in place of a valence or arousal that was not annotated
EMOTIONS = ("valence", "arousal")


@dataclass
class Findings:
    """Numbers of dropped rows by reason, and problems that the user should know."""

    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def drop(self, rows: pd.DataFrame, bad: "pd.Series[bool]", reason: str) -> pd.DataFrame:
        """The rows that are not bad; the others are counted."""
        if bad.any():
            self.dropped[reason] += int(bad.sum())
        return rows[~bad]

    def report(self, kind: str, severity: Severity, names: Iterable[str], text: str) -> None:
        """Add a problem, unless there are no names."""
        self.problems += problem_of(kind, severity, names, text)

    def drop_repeated(self, rows: pd.DataFrame, name: str) -> pd.DataFrame:
        """The first row for each value of the column `name`."""
        repeated = rows[name].duplicated()
        text = "a list names these more than once; the first row counts"
        self.report("listed_twice", "warning", rows.loc[repeated, name], text)
        return self.drop(rows, repeated, "listed twice")

    def report_no_file(self, names: Iterable[str]) -> None:
        """Report what is labelled but does not exist."""
        text = "these are labelled but have no image; unpack the whole archive again"
        self.report("listed_without_file", "error", names, text)

    def report_unlisted(self, names: Iterable[str], severity: Severity = "warning") -> None:
        """Report what exists but is not labelled."""
        text = "these images have no label in the lists of the release"
        self.report("file_not_listed", severity, names, text)


def count_labels(rows: pd.DataFrame) -> Counts:
    """Numbers of rows per split and label."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    pairs = zip(rows["split"].tolist(), rows["label"].tolist(), strict=True)
    for (split, label), count in Counter(pairs).items():
        found[split][label] = count
    return found


def with_known_labels(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The rows with an expression, and a column `label` for the code in `expression`."""
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
    """The rows, with NaN for each valence and arousal outside [-1, 1]."""
    values = rows[list(EMOTIONS)]
    valid = values.abs() <= 1
    missing = values == MISSING
    findings.report(
        "valence_arousal_missing",
        "info",
        rows.loc[missing.any(axis=1), "sample_id"],
        f"valence or arousal is {MISSING}, which means that it was not annotated",
    )
    findings.report(
        "valence_arousal_out_of_range",
        "error",
        rows.loc[(~valid & ~missing).any(axis=1), "sample_id"],
        "valence or arousal is no number from -1 to 1 and is not used; get the annotations again",
    )
    return rows.assign(**values.where(valid))
