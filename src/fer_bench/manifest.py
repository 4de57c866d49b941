"""The checked sample table: a dataset after its folder was read and before any pixel is."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.errors import DataError
from fer_bench.filenames import NOT_AN_IMAGE, NOT_SUPPORTED, NOT_UTF8

# One order for every dataset; a dataset without contempt uses the first seven.
EXPRESSIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
SPLITS = ("train", "validation", "test")
COLUMNS = ("sample_id", "path", "split", "label")
# The face in the image, in pixels: left and upper edge, width and height.
BOX = ("face_x", "face_y", "face_width", "face_height")
AXES = ("valence", "arousal")
ATTRIBUTES = ("gender", "race", "age")

# Reasons in `Manifest.dropped` for files that may have been meant as images.
_WORTH_A_WARNING = (NOT_SUPPORTED, NOT_AN_IMAGE, NOT_UTF8)

Severity = Literal["info", "warning", "error"]
EXAMPLES = 5  # of what a problem concerns


@dataclass(frozen=True)
class Problem:
    """Something about a dataset that its user should know.

    Attributes:
        kind: a short name that programs can rely on, for example `label_disagreement`.
        severity: `error` where numbers measured on the data cannot be trusted.
        count: how many samples, files or rows it concerns.
        examples: the first few of them.
        text: what is wrong, and what to do, in one sentence.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    text: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in the JSON of `fer data`."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "examples": list(self.examples),
            "text": self.text,
        }


def problem_of(kind: str, severity: Severity, names: Iterable[str], text: str) -> list[Problem]:
    """The problem that concerns what is named, or none when nothing is."""
    concerned = list(names)
    if not concerned:
        return []
    return [Problem(kind, severity, len(concerned), tuple(concerned[:EXAMPLES]), text)]


def left_out(dropped: Mapping[str, int]) -> str:
    """What `Manifest.dropped` counts, in one line.

    For example `2 hidden, 4 not an image; format not supported: .heic 3, .avif 1`: what comes
    after a colon in a reason is told together.
    """
    plain, detailed = [], defaultdict[str, list[str]](list)
    for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
        kind, _, detail = reason.partition(": ")
        if count and detail:
            detailed[kind].append(f"{detail} {count:,}")
        elif count:
            plain.append(f"{count:,} {reason}")
    groups = [f"{kind}: {', '.join(details)}" for kind, details in detailed.items()]
    return "; ".join([", ".join(plain), *groups] if plain else groups) or "nothing"


def has_unsupported(dropped: Mapping[str, int]) -> bool:
    """Whether images were left out for their format."""
    return any(reason.startswith(f"{NOT_SUPPORTED}: ") for reason in dropped)


@dataclass(frozen=True)
class Manifest:
    """One row a sample.

    Attributes:
        name: the registered name of the dataset.
        release: which release was recognised, for example `opencv-emotion`.
        root: the folder that `path` is relative to.
        classes: canonical class names, in the order of the model's logits.
        channels: 1 when every image is grey (kept as one channel until the model), else 3.
        samples: columns `sample_id` (unique), `path` (relative to `root`), `split` (one of
            `SPLITS`), `label` (one of `classes`); optional: `valence` and `arousal` in [-1, 1] or
            NaN, `group` (samples of one person or source; they stay in one split), the columns of
            `BOX` (what of the image is used), of `ATTRIBUTES` (subgroups of people), `usage` (the
            part of the release) and `bytes` (size of the source, where that is not the file).
        dropped: how many rows of the source were left out, by reason.
        problems: what reading found that a user should know.
        image_size: height and width in pixels of every image, where the release fixes them.
    """

    name: str
    release: str
    root: Path
    classes: tuple[str, ...]
    channels: int
    samples: pd.DataFrame
    dropped: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.samples]
        if missing:
            raise ValueError(f"manifest of {self.name} lacks the columns {missing}")
        self._check_samples()

    def _check_samples(self) -> None:
        samples = self.samples
        if samples.empty:
            raise DataError(
                f"{self.root}: no images found for dataset '{self.name}'.\n"
                "Check that dataset.root names the unpacked folder."
            )
        twice = samples.loc[samples["sample_id"].duplicated(), "sample_id"]
        if len(twice):
            raise DataError(
                f"{self.root}: {len(twice)} sample ids occur twice, first {twice.iloc[0]!r}.\n"
                "Remove one of the two, or unpack the download again."
            )
        for column, known in (("split", SPLITS), ("label", self.classes)):
            strange = sorted(set(samples[column].unique()) - set(known))
            if strange:
                raise DataError(
                    f"{self.root}: {column} {strange[0]!r} is none of {', '.join(known)}."
                )

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, index 0..n-1. Raises: DataError when it is empty."""
        rows = self.samples[self.samples["split"] == name]
        if rows.empty:
            present = ", ".join(f"{split} ({n})" for split, n in self.split_sizes().items())
            raise DataError(
                f"dataset '{self.name}' at {self.root} has no '{name}' split; it has {present}."
            )
        return rows.reset_index(drop=True)

    def codes(self, split: str) -> NDArray[np.int32]:
        """Class indices of one split, shape (n,), in [0, len(classes))."""
        index = {name: code for code, name in enumerate(self.classes)}
        labels = self.split(split)["label"].tolist()
        return np.array([index[label] for label in labels], dtype=np.int32)

    def valence_arousal(self, split: str) -> NDArray[np.float32]:
        """Valence and arousal of one split, shape (n, 2), in [-1, 1], NaN where unknown."""
        rows = self.split(split)
        if not set(AXES) <= set(rows):
            return np.full((len(rows), 2), np.nan, dtype=np.float32)
        return rows[list(AXES)].to_numpy(np.float32)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples in each split that has any, in the order of `SPLITS`."""
        sizes = self.samples["split"].value_counts()
        return {split: int(sizes[split]) for split in SPLITS if split in sizes}

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of samples by split and class; classes without a sample count 0."""
        columns = (self.samples[column].tolist() for column in ("split", "label"))
        sizes = Counter(zip(*columns, strict=True))
        return {
            split: {name: sizes[split, name] for name in self.classes}
            for split in self.split_sizes()
        }

    def warnings(self) -> list[str]:
        """A line for each problem that is more than for information, with examples.

        The last says how many files were left out that may have been meant as images.
        """
        lines = []
        for problem in self.problems:
            if problem.severity != "info":
                shown = "; ".join(problem.examples[:3])
                more = f"; and {problem.count - 3:,} more" if problem.count > 3 else ""
                lines.append(f"{self.root}: {problem.text}: {shown}{more}")
        files = {
            reason: count
            for reason, count in self.dropped.items()
            if reason.partition(": ")[0] in _WORTH_A_WARNING and count
        }
        if files:
            lines.append(f"{self.root}: files were left out: {left_out(files)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """What the JSON of `fer data stats` and `fer data audit` begins with."""
        return {
            "dataset": self.name,
            "release": self.release,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "counts": self.counts(),
            "dropped": dict(self.dropped),
            "problems": [problem.to_json() for problem in self.problems],
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what decides a sample, whatever the order: id, split, label, size in bytes.

        Where only a part of each image is used, its box too.
        """
        samples = self.samples
        if "bytes" in samples:
            sizes = samples["bytes"].tolist()
        else:
            root = str(self.root)
            sizes = [os.stat(f"{root}/{path}").st_size for path in samples["path"]]  # noqa: PTH116
        columns = [samples[column].tolist() for column in ("sample_id", "split", "label")]
        boxes = [samples[column].tolist() for column in BOX if column in samples]
        rows = zip(*columns, sizes, *boxes, strict=True)
        lines = sorted("\t".join(map(str, row)) for row in rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
