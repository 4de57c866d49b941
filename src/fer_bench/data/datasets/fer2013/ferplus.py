"""FERPlus: ten votes for each image of FER2013, and what is made of them.

The release (Barsoum et al., 2016, "Training deep networks for facial expression recognition with
crowd-sourced label distribution", arXiv:1608.01041; github.com/microsoft/FERPlus) is one table,
`fer2013new.csv`, with a row for each row of `fer2013.csv`, in its order. The rules are those of
its own code, src/ferplus.py (`_process_data`), src/train.py and src/generate_training_data.py:

- A row without an image name is left out. So is one whose label is "unknown" or "not a face".
- A single vote for anything is an outlier and counts as none.
- `majority`: one label must have more than half of the votes.
- `probability`: labels are taken from the most voted one down, those with equal votes together,
  until they have three quarters of the votes, or are three, or it is the turn of "unknown" or "not
  a face". They must have more than half of the votes, and not be more than three.
- `multi_target`: labels with 30 % of the votes or more, which must have more than half together.
- PublicTest and PrivateTest go by `majority` whatever training goes by, so that all three are
  measured on the same images.
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

OUTLIER = 1  # so many votes for one label count as none
ENOUGH, MOST_LABELS, MAJORITY, TARGET = 0.75, 3, 0.5, 0.3


class Label(NamedTuple):
    """What the votes for an image make: its most voted expression, and a share for each.

    `shares` are in the order of `EMOTIONS` and add up to 1.
    """

    hard: str
    shares: tuple[float, ...]


class NoLabelError(Exception):
    """The votes for an image make no label; the message is the reason, by which it is counted."""


def label(votes: Sequence[int], rule: Rule) -> Label:
    """The label that `votes`, in the order of `VOTES`, make by `rule`. Raises: NoLabelError."""
    counted = [0 if number <= OUTLIER else number for number in votes]
    taken = _TAKE[rule](counted)
    if sum(taken) <= MAJORITY * sum(counted):
        raise NoLabelError("no majority of votes")
    first = VOTES[taken.index(max(taken))]
    if first in NO_EMOTION:
        raise NoLabelError(NO_EMOTION[first])
    emotions = taken[: len(EMOTIONS)]
    if rule == "multi_target":  # all that are right are equally right
        emotions = [int(number > 0) for number in emotions]
    return Label(first, tuple(number / sum(emotions) for number in emotions))


def _majority(votes: list[int]) -> list[int]:
    """The label with most votes; `label` asks whether these are more than half."""
    return _only(votes, [votes.index(max(votes))])


def _probability(votes: list[int]) -> list[int]:
    """The leading labels. Raises: NoLabelError when they are too many."""
    taken: list[int] = []  # places in `votes`
    for place in sorted(range(len(votes)), key=lambda place: -votes[place]):
        part = sum(votes[other] for other in taken)
        full = part >= ENOUGH * sum(votes) or len(taken) >= MOST_LABELS
        # Labels with equal votes come together, in the order of the columns.
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
    """The labels that many gave."""
    enough = TARGET * sum(votes)
    return [number if number >= enough else 0 for number in votes]


def _only(votes: list[int], places: list[int]) -> list[int]:
    return [number if place in places else 0 for place, number in enumerate(votes)]


_TAKE = {"majority": _majority, "probability": _probability, "multi_target": _multi_target}


# The table -------------------------------------------------------------------------------------


def find_table(root: Path) -> Path:
    """The table of votes in or below `root`, whatever the case of its name.

    Raises: DataError when there is none, or more than one.
    """
    folder = find(root, lambda place: _table(place) is not None)
    path = _table(folder) if folder else None
    if path is None:
        raise DataError(
            f"no {TABLE}, which has the votes of FERPlus, beside the table of FER2013.\n"
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
    """The rows of the table, in its order. Raises: DataError."""
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
        rule: what is made of the votes of training.
        rows_of_table: how many rows `fer2013.csv` has, those that could not be read included.

    Raises:
        DataError: the table of votes cannot be read, or is of other images.
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
            f"'{path.name}' has {len(rows):,} rows, and the table of FER2013 has {expected:,}.\n"
            f"The rows belong together by their order. {INCOMPLETE}"
        )
    for number, usage in zip(numbers, manifest.samples["usage"], strict=True):
        if rows[number].usage != usage:
            raise DataError(
                f"'{path.name}', line {number + 2}: is of {rows[number].usage!r}, and that row of "
                f"the table of FER2013 is of {usage!r}.\n"
                f"The rows belong together by their order. {INCOMPLETE}"
            )


def _soft(labels: Sequence[Label], rule: Rule) -> dict[str, NDArray[np.float64]]:
    """The columns of the soft labels; none with `majority`, whose labels are hard."""
    if rule == "majority":
        return {}
    shares = np.array([one.shares for one in labels]).reshape(-1, len(EMOTIONS))
    return {SOFT + name: shares[:, EMOTIONS.index(name)] for name in EXPRESSIONS}


def _disagreement(samples: pd.DataFrame, labels: Sequence[Label]) -> Iterator[Problem]:
    own = zip(samples["sample_id"], samples["label"], labels, strict=True)
    differ = [f"{name}: {old} is {new.hard}" for name, old, new in own if old != new.hard]
    text = "images have another label in FERPlus than in FER2013; that of FERPlus counts"
    yield from problem_of("label_disagreement", "info", differ, text)


_UNVERIFIED = Problem(
    "votes_unrecognised",
    "info",
    1,
    (TABLE,),
    "the authors publish no numbers of images by class for the labels of FERPlus, so that these "
    "cannot be recognised by them; rows and parts are those of the table of FER2013",
)


def _named(release: str, rule: Rule) -> str:
    """The name of the release, with what it says of the images kept at its end."""
    base = release.removesuffix("-unrecognised")
    return f"{base}-ferplus-{rule}{release.removeprefix(base)}"
