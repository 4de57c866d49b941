"""Reading a table of predictions that another program has written, and checking all of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data.files.folders import listed
from fer_bench.data.manifest import Manifest
from fer_bench.data.sample_matching import how_paths_differ, sample_ids
from fer_bench.errors import FerError
from fer_bench.labels import EXPRESSIONS, SPELLINGS, canonical, ordered
from fer_bench.runs.predictions import TOLERANCE, predictions_frame
from fer_bench.spelling import did_you_mean
from fer_bench.storage.delimited import TableFormatError, numbers, read_delimited

# A sum this close to 1 is a matter of rounding; further away, the numbers are no probabilities.
ROUNDED = 0.05
ZERO_PROBABILITY = "Give a class that the model cannot predict the probability 0."

FloatArray = NDArray[np.float64]


class AdoptionError(FerError):
    """Predictions of another program that cannot become a run."""


def read_table(source: Path, content: bytes, *, needs_labels: bool) -> pd.DataFrame:
    """The rows of a table as text, at least one, each with its own `sample_id`.

    Args:
        source: the file, for messages.
        content: what it contains: text, separated by commas, semicolons, tabs or bars.
        needs_labels: whether the column `label` must be there.

    Raises:
        AdoptionError: it is not such a table.
    """
    try:
        table = read_delimited(content, "sample_id")
    except TableFormatError as error:
        raise AdoptionError(f"{source}: {error}") from error
    wanted = ["sample_id", "label"] if needs_labels else ["sample_id"]
    missing = [name for name in wanted if name not in table]
    if missing:
        advice = ""
        if len(table.columns) == 1:
            advice = "\nSeparate the columns by commas."
        elif "label" in missing:
            advice = "\nAdd the labels, or name the dataset that has them with --data."
        raise AdoptionError(
            f"{source}: missing column {' and '.join(missing)}; found {listed(table.columns)}."
            f"{advice}"
        )
    if table.empty:
        raise AdoptionError(f"{source}: has no rows.")
    repeated = table.loc[table["sample_id"].duplicated(), "sample_id"].unique().tolist()
    if repeated:
        raise AdoptionError(
            f"{source}: {_counted(repeated, 'sample id occurs', 'sample ids occur')} more than "
            f"once: {listed(repeated)}.\n"
            "Write one row per sample; average over several views of an image first."
        )
    return table


def _counted(names: Sequence[str], one: str, many: str) -> str:
    """`1 sample id occurs`, `3 sample ids occur`."""
    return f"1 {one}" if len(names) == 1 else f"{len(names):,} {many}"


@dataclass(frozen=True)
class ForeignTable:
    """A table of predictions, and what it is checked against.

    Attributes:
        source: the file, for messages.
        table: its rows as text, see `read_table`.
        split: the split that the predictions are for.
        manifest: the dataset that has the labels; None where the table has them.
    """

    source: Path
    table: pd.DataFrame
    split: str
    manifest: Manifest | None

    def predictions(self) -> tuple[pd.DataFrame, list[str]]:
        """The content of `predictions/<split>.csv`, and remarks about the table.

        Raises:
            AdoptionError: the classes, probabilities, labels or samples are not complete, unknown,
                or contradict the dataset.
        """
        columns = self._class_columns()
        probabilities = self._probabilities(columns)
        classes = tuple(columns)
        frame = predictions_frame(self._labels(classes), classes, probabilities, None)
        return frame, self._remarks(classes, probabilities)

    def _error(self, text: str) -> AdoptionError:
        return AdoptionError(f"{self.source}: {text}")

    # Classes

    def _class_columns(self) -> dict[str, str]:
        """The column of each class, in the order of the dataset or else of `labels.ordered`."""
        found: dict[str, str] = {}
        for column in [name for name in map(str, self.table) if name.startswith("p_")]:
            spelled = column.removeprefix("p_")
            name = self._class_name(spelled)
            if name is None:
                raise self._error(
                    f"column {column} does not name a known class; {self._known(spelled)}"
                )
            if name in found:
                raise self._error(f"columns {found[name]} and {column} both mean class {name}.")
            found[name] = column
        if len(found) < 2:
            raise self._error(
                "missing probabilities, one column p_<class> per class; found "
                f"{listed(self.table.columns)}."
            )
        if self.manifest:
            self._check_classes(found, self.manifest)
            return {name: found[name] for name in self.manifest.classes}
        return {name: found[name] for name in ordered(found)}

    def _class_name(self, text: str) -> str | None:
        """The class that `text` means: a class of the dataset, or else an expression."""
        return text if self.manifest and text in self.manifest.classes else canonical(text)

    def _known(self, text: str) -> str:
        """The known names, for a message about `text`."""
        classes = self.manifest.classes if self.manifest else ()
        others = [name for name in classes if name not in EXPRESSIONS]
        hint = did_you_mean(text, [*SPELLINGS, *others])
        names = ", ".join([*others, *EXPRESSIONS])
        return f"known classes: {names}, and their adjectives. {hint}".rstrip()

    def _check_classes(self, found: Iterable[str], manifest: Manifest) -> None:
        missing = [f"p_{name}" for name in manifest.classes if name not in found]
        if missing:
            raise self._error(
                f"missing {', '.join(missing)}: dataset '{manifest.name}' has the classes "
                f"{', '.join(manifest.classes)}.\n{ZERO_PROBABILITY}"
            )
        beyond = [name for name in found if name not in manifest.classes]
        if beyond:
            raise self._error(
                f"has probabilities for {', '.join(beyond)}, but dataset '{manifest.name}' has "
                f"only {', '.join(manifest.classes)}.\n"
                "Remove these columns, and divide the others by their sum."
            )

    # Probabilities

    def _probabilities(self, columns: dict[str, str]) -> FloatArray:
        """Shape (n, C), in the order of `columns`; each row sums to 1 within `TOLERANCE`."""
        found = np.stack([numbers(self.table[column]) for column in columns.values()], axis=1)
        names, ids = list(columns.values()), self.table["sample_id"]
        for row, column in np.argwhere(~np.isfinite(found))[:1]:
            text = self.table[names[column]].iloc[row]
            others = int((~np.isfinite(found)).any(axis=1).sum()) - 1
            raise self._error(
                f"{names[column]} of sample {ids.iloc[row]!r} is {text!r}, not a number"
                f"{f'; {others:,} more rows have the same problem' if others else ''}."
            )
        totals = found.sum(axis=1)
        for row in np.flatnonzero((np.abs(totals - 1) > TOLERANCE) | (found < 0).any(axis=1))[:1]:
            least = found[row].min()
            problem = f"contains {least:g}" if least < 0 else f"adds up to {totals[row]:.4f}"
            raise self._error(
                f"sample {ids.iloc[row]!r} {problem}; probabilities are not negative and add up "
                f"to 1.\n{_advice(found)}"
            )
        return found

    def _remarks(self, classes: Sequence[str], probabilities: FloatArray) -> list[str]:
        """Whether the column `predicted`, if any, contradicts the probabilities."""
        if "predicted" not in self.table:
            return []
        names = self.table["predicted"].map(
            lambda text: text if text in classes else canonical(text)
        )
        code = pd.Index(classes).get_indexer(pd.Index(names))
        chosen = np.where(code >= 0, probabilities[np.arange(len(code)), code], -1.0)
        differ = int((probabilities.max(axis=1) - chosen > TOLERANCE).sum())
        if not differ:
            return []
        return [
            f"the column predicted is not the most probable class in {differ:,} of {len(code):,} "
            "rows; the most probable class counts here"
        ]

    # Labels and samples

    def _labels(self, classes: tuple[str, ...]) -> pd.DataFrame:
        """Columns `sample_id` and `label`, one row per row of the table, in its order."""
        given = self._given_labels() if "label" in self.table else None
        if self.manifest is None:
            assert given is not None  # `read_table` has seen to it
            if beyond := [name for name in ordered(given) if name not in classes]:
                raise self._error(
                    f"has labels {', '.join(beyond)}, but columns p_<class> only for "
                    f"{', '.join(classes)}.\n{ZERO_PROBABILITY}"
                )
            return pd.DataFrame({"sample_id": self.table["sample_id"], "label": given})
        ids = self._matched(self.manifest)
        true = self.manifest.split(self.split).set_index("sample_id")["label"]
        labels = pd.Series(ids).map(true)
        if given is not None and (given.to_numpy() != labels.to_numpy()).any():
            differ = np.flatnonzero(given.to_numpy() != labels.to_numpy())
            examples = listed(
                f"{ids[index]} is {given.iloc[index]}, there {labels.iloc[index]}"
                for index in differ
            )
            raise self._error(
                f"{len(differ):,} of {len(ids):,} labels are not those of dataset "
                f"'{self.manifest.name}': {examples}.\n"
                "Check that it is the same release, or remove the column label."
            )
        return pd.DataFrame({"sample_id": ids, "label": labels})

    def _given_labels(self) -> "pd.Series[str]":
        names = {text: self._class_name(text) for text in self.table["label"].unique()}
        unknown = [text for text, name in names.items() if name is None]
        if unknown:
            raise self._error(
                f"label {unknown[0]!r} does not name a known class; {self._known(unknown[0])}"
            )
        return self.table["label"].map(names)

    def _matched(self, manifest: Manifest) -> list[str]:
        """The sample ids of the split that the table means: all of them, each once."""
        known = set(manifest.split(self.split)["sample_id"])
        ids = sample_ids(self.table["sample_id"].tolist(), manifest, self.split)
        unknown = [name for name in ids if name not in known]
        missing = sorted(known - set(ids))
        if unknown or missing:
            hint = how_paths_differ(unknown, manifest, self.split)
            problem = self._not_the_same(unknown, missing, manifest)
            raise self._error(f"{problem}\n{hint}" if hint else problem)
        return ids

    def _not_the_same(
        self, unknown: Sequence[str], missing: Sequence[str], manifest: Manifest
    ) -> str:
        where = f"the {self.split} split of dataset '{manifest.name}'"
        parts = []
        if unknown:
            split_of = manifest.samples.set_index("sample_id")["split"]
            others = Counter(split_of.reindex(list(unknown)).dropna())
            elsewhere = ", ".join(f"{count:,} in {split}" for split, count in others.items())
            found = f"{_counted(unknown, 'sample id is', 'sample ids are')} not in {where}"
            parts.append(f"{found}{f' ({elsewhere})' if elsewhere else ''}: {listed(unknown)}")
        if missing:
            place = "it" if unknown else where
            found = _counted(missing, f"sample of {place} is", f"samples of {place} are")
            parts.append(f"{found} missing: {listed(missing)}")
        advice = "Write one row per sample of the split, with its id or its path."
        return f"{'; '.join(parts)}.\n{advice}"


def _advice(values: FloatArray) -> str:
    """How to turn values that are not probabilities, shape (n, C), into probabilities."""
    totals = values.sum(axis=1)
    if np.allclose(totals, 100, rtol=0, atol=100 * ROUNDED):
        return "They look like percentages: divide them by 100."
    if ((values >= 0) & (values <= 1)).all():
        if (np.abs(totals - 1) < ROUNDED).all():
            return "They look rounded too far: write at least four decimals."
        return "Add all classes; if each class has an independent score, divide by their sum."
    return "They look like logits: apply softmax over the classes first."
