"""FERPlus: ten votes for each image of FER2013, and the labels made of them.

The release (Barsoum et al., 2016, "Training deep networks for facial expression recognition with
crowd-sourced label distribution", arXiv:1608.01041; github.com/microsoft/FERPlus) is one table,
`fer2013new.csv`, with a row for each row of `fer2013.csv`, in the same order. The rules are those
of its own code, src/ferplus.py (`_process_data`), src/train.py and src/generate_training_data.py:

- A row without an image name, or with the label "unknown" or "not a face", is left out.
- A single vote for a label is an outlier and counts as none.
- `majority`: one label must have more than half of the votes.
- `probability`: labels are taken in order of their votes, those with equal votes together, until
  they have three quarters of the votes, or are three, or the next one is "unknown" or "not a face".
  They must have more than half of the votes, and be at most three.
- `multi_target`: labels with 30 % of the votes or more; together they must have more than half.
- PublicTest and PrivateTest always use `majority`, so that all rules are measured on the same
  images.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data.files.folders import INCOMPLETE, find, read_table, visible
from fer_bench.data.manifest import SOFT, Manifest, Problem, problem_of
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS

Rule = Literal["majority", "probability", "multi_target"]
RULES: tuple[Rule, ...] = ("majority", "probability", "multi_target")

TABLE = "fer2013new.csv"
PAGE = "github.com/microsoft/FERPlus"
USAGE, IMAGE = "Usage", "Image name"
# The order of the columns in the release.
EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
NO_EMOTION = {"unknown": "unknown", "NF": "not a face"}
VOTES = (*EMOTIONS, *NO_EMOTION)

OUTLIER = 1  # this many votes for one label count as none
ENOUGH, MOST_LABELS, MAJORITY, TARGET = 0.75, 3, 0.5, 0.3


class Label(NamedTuple):
    """The most voted expression of an image, and the share of each.

    `shares` are in the order of `EMOTIONS` and add up to 1.
    """

    hard: str
    shares: tuple[float, ...]


class NoLabelError(Exception):
    """The votes for an image give no label; the message is the reason in `Manifest.dropped`."""


def label(votes: Sequence[int], rule: Rule) -> Label:
    """The label by `rule` for `votes` in the order of `VOTES`. Raises: NoLabelError."""
    counted = [0 if number <= OUTLIER else number for number in votes]
    taken = _TAKE[rule](counted)
    if sum(taken) <= MAJORITY * sum(counted):
        raise NoLabelError("no majority of votes")
    first = VOTES[taken.index(max(taken))]
    if first in NO_EMOTION:
        raise NoLabelError(NO_EMOTION[first])
    emotions = taken[: len(EMOTIONS)]
    if rule == "multi_target":  # all labels count equally
        emotions = [int(number > 0) for number in emotions]
    return Label(first, tuple(number / sum(emotions) for number in emotions))


def _majority(votes: list[int]) -> list[int]:
    """The label with most votes; `label` checks that these are more than half."""
    return _only(votes, [votes.index(max(votes))])


def _probability(votes: list[int]) -> list[int]:
    """The labels with the most votes. Raises: NoLabelError for too many."""
    taken: list[int] = []  # indices in `votes`
    for place in sorted(range(len(votes)), key=lambda place: -votes[place]):
        part = sum(votes[other] for other in taken)
        full = part >= ENOUGH * sum(votes) or len(taken) >= MOST_LABELS
        # Labels with equal votes are taken together, in the order of the columns.
        if votes[place] == 0 or (full and votes[place] < votes[taken[-1]]):
            break
        if VOTES[place] in NO_EMOTION:
            taken = taken or [place]
            break
        taken.append(place)
    if len(taken) > MOST_LABELS:
        raise NoLabelError("votes for too many expressions")
    return _only(votes, taken)


def _multi_target(votes: list[int]) -> list[int]:
    """The labels with many votes."""
    enough = TARGET * sum(votes)
    return [number if number >= enough else 0 for number in votes]


def _only(votes: list[int], places: list[int]) -> list[int]:
    return [number if place in places else 0 for place, number in enumerate(votes)]


_TAKE = {"majority": _majority, "probability": _probability, "multi_target": _multi_target}


# The table -------------------------------------------------------------------------------------


def find_table(root: Path) -> Path:
    """The table of votes in or below `root`; the case of its name does not matter.

    Raises: DataError when there is none, or more than one.
    """
    folder = find(root, lambda place: _table(place) is not None)
    path = _table(folder) if folder else None
    if path is None:
        raise DataError(
            f"no {TABLE} with the votes of FERPlus beside the table of FER2013.\n"
            f"Get it from {PAGE} and put it there, or remove dataset.labels."
        )
    return path


def _table(folder: Path) -> Path | None:
    return next(
        (
            folder / entry.name
            for entry in visible(folder, Counter())
            if entry.name.casefold() == TABLE and entry.is_file()
        ),
        None,
    )


class _Row(NamedTuple):
    usage: str
    image: str
    votes: tuple[int, ...]


def read_rows(path: Path) -> list[_Row]:
    """The rows of the table, in order. Raises: DataError."""
    table = read_table(path, (USAGE, IMAGE, *VOTES))
    return [
        _Row(usage, image, _numbers(cells, line, path.name))
        for line, (usage, image, *cells) in enumerate(table.itertuples(index=False), start=2)
    ]


def _numbers(cells: Sequence[str], line: int, name: str) -> tuple[int, ...]:
    for cell, column in zip(cells, VOTES, strict=True):
        if not cell.isdecimal():
            raise DataError(
                f"'{name}', line {line}: {column} is {cell!r}, expected a number of votes.\n"
                f"Get the table again from {PAGE}."
            )
    return tuple(map(int, cells))


# The samples -----------------------------------------------------------------------------------


def relabelled(manifest: Manifest, path: Path, rule: Rule, rows_of_table: int) -> Manifest:
    """`manifest`, whose samples are rows of `fer2013.csv`, with the labels of FERPlus.

    Args:
        manifest: with a column `usage`, and ids that end in `_` and the number of the row.
        path: the table of votes.
        rule: the rule for the training split.
        rows_of_table: the number of rows in `fer2013.csv`, including those that cannot be used.

    Raises:
        DataError: the table of votes cannot be read, or belongs to other images.
    """
    rows = read_rows(path)
    numbers = [int(name.rpartition("_")[2]) for name in manifest.samples["sample_id"]]
    _check_rows(rows, numbers, manifest, path, rows_of_table)
    found: list[Label | None] = []
    dropped = Counter[str]()
    for number, split in zip(numbers, manifest.samples["split"], strict=True):
        try:
            found.append(_labelled(rows[number], rule if split == "train" else "majority"))
        except NoLabelError as reason:
            dropped[str(reason)] += 1
            found.append(None)
    stays = np.array([one is not None for one in found], dtype=bool)
    labels = [one for one in found if one is not None]
    samples = manifest.samples[stays].reset_index(drop=True)
    problems = (*manifest.problems, *_disagreement(samples, labels), _UNVERIFIED)
    samples = samples.assign(label=[one.hard for one in labels], **_soft(labels, rule))
    return replace(
        manifest,
        release=_named(manifest.release, rule),
        samples=samples,
        classes=EXPRESSIONS,
        dropped={**manifest.dropped, **dropped},
        problems=problems,
    )


def _labelled(row: _Row, rule: Rule) -> Label:
    if not row.image:
        raise NoLabelError("no image name")
    return label(row.votes, rule)


def _check_rows(
    rows: Sequence[_Row], numbers: Sequence[int], manifest: Manifest, path: Path, expected: int
) -> None:
    if len(rows) != expected:
        raise DataError(
            f"'{path.name}' has {len(rows):,} rows, but the table of FER2013 has {expected:,}.\n"
            f"The rows of the two are matched by their order. {INCOMPLETE}"
        )
    for number, usage in zip(numbers, manifest.samples["usage"], strict=True):
        if rows[number].usage != usage:
            raise DataError(
                f"'{path.name}', line {number + 2}: belongs to {rows[number].usage!r}, but that "
                f"row of the table of FER2013 belongs to {usage!r}.\n"
                f"The rows of the two are matched by their order. {INCOMPLETE}"
            )


def _soft(labels: Sequence[Label], rule: Rule) -> dict[str, NDArray[np.float64]]:
    """The columns of the soft labels; none for the hard labels of `majority`."""
    if rule == "majority":
        return {}
    shares = np.array([one.shares for one in labels]).reshape(-1, len(EMOTIONS))
    return {SOFT + name: shares[:, EMOTIONS.index(name)] for name in EXPRESSIONS}


def _disagreement(samples: pd.DataFrame, labels: Sequence[Label]) -> Iterator[Problem]:
    own = zip(samples["sample_id"], samples["label"], labels, strict=True)
    differ = [f"{name}: {old} is {new.hard}" for name, old, new in own if old != new.hard]
    text = "images have another label in FERPlus than in FER2013; FERPlus counts"
    yield from problem_of("label_disagreement", "info", differ, text)


_UNVERIFIED = Problem(
    "votes_unrecognised",
    "info",
    1,
    (TABLE,),
    "the authors publish no numbers of images per class for FERPlus, so its labels cannot be "
    "verified; rows and parts match the table of FER2013",
)


def _named(release: str, rule: Rule) -> str:
    """The name of the release with these labels, before its suffix `-unrecognised` if any."""
    base = release.removesuffix("-unrecognised")
    return f"{base}-ferplus-{rule}{release.removeprefix(base)}"
