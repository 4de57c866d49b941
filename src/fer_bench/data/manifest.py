"""The checked table of samples: what a dataset holds, before any pixel is read."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data.files.file_names import NOT_AN_IMAGE, NOT_SUPPORTED, NOT_UTF8
from fer_bench.errors import DataError
from fer_bench.labels import AXES, SPLITS

COLUMNS = ("sample_id", "path", "split", "label")

# The face in the image, in pixels: left and top edge, width and height.
BOX = ("face_x", "face_y", "face_width", "face_height")

# Prefix of the column that holds the share of a class in each soft label.
SOFT = "soft_"

# Reasons in `Manifest.dropped` for files that may be images.
_WORTH_A_WARNING = (NOT_SUPPORTED, NOT_AN_IMAGE, NOT_UTF8)

Severity = Literal["info", "warning", "error"]

EXAMPLES = 5  # shown with a problem


class ManifestDocument(TypedDict):
    """What the JSON of `fer data stats` and `fer data audit` begins with."""

    dataset: str
    release: str
    fingerprint: str | None
    classes: list[str]
    counts: dict[str, dict[str, int]]
    dropped: dict[str, int]
    problems: list[dict[str, Any]]  # see `Problem`
    soft_labels: bool


@dataclass(frozen=True)
class Problem:
    """Something that the user of a dataset should know.

    Attributes:
        kind: a short name that programs can rely on, for example `label_disagreement`.
        severity: `error` when numbers measured on the data cannot be trusted.
        count: the number of samples, files or rows concerned.
        examples: the first few of them.
        text: what is wrong and what to do, in one sentence.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    text: str

    def to_json(self) -> dict[str, Any]:
        """The problem as a JSON document."""
        return asdict(self) | {"examples": list(self.examples)}


def problem_of(kind: str, severity: Severity, names: Iterable[str], text: str) -> list[Problem]:
    """A problem that concerns the given names, in a list; an empty list for no names."""
    concerned = tuple(names)
    if not concerned:
        return []
    return [Problem(kind, severity, len(concerned), concerned[:EXAMPLES], text)]


def left_out(dropped: Mapping[str, int]) -> str:
    """The counts of `Manifest.dropped` in one line.

    For example `2 hidden, 4 not an image; format not supported: .heic 3, .avif 1`: reasons that
    differ only after a colon are listed together.
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
    """Whether images were left out because of their format."""
    return any(reason.startswith(f"{NOT_SUPPORTED}: ") for reason in dropped)


@dataclass(frozen=True)
class Manifest:
    """The samples of a dataset: one row per sample.

    Attributes:
        name: the registered name of the dataset.
        release: the release that was recognised, for example `opencv-emotion-public`.
        root: the folder that `path` is relative to.
        classes: class names in the order of the model's logits; canonical ones, unless
            `dataset.classes` renames them.
        channels: 1 when every image is grey (and stays one channel up to the model), else 3.
        samples: columns `sample_id` (unique), `path` (relative to `root`), `split` (one of
            `SPLITS`), `label` (one of `classes`); optional: `valence` and `arousal` in [-1, 1] or
            NaN, `group` (samples of one person or source, which stay in one split), the columns
            of `BOX` (the part of the image that is used), of `ATTRIBUTES` (subgroups of people),
            `usage` (the part of the release) and `bytes` (size of the source, if that is not the
            file). Soft labels are a column `soft_<class>` for every class: shares in [0, 1] that
            add up to 1. Training then uses this distribution; counts, balance and evaluation use
            `label`.
        dropped: the number of rows of the source that were left out, by reason.
        problems: what the user should know.
        image_size: height and width in pixels of every image, if the release fixes them.
        source_digest: SHA-256 of the file that the images were written from, if they were.
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
    source_digest: str | None = None

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
            unknown = sorted(set(samples[column].unique()) - set(known))
            if unknown:
                raise DataError(
                    f"{self.root}: unknown {column} {unknown[0]!r}; known: {', '.join(known)}."
                )
        if self.is_soft:
            self._check_soft_labels()

    def _check_soft_labels(self) -> None:
        present = [name for name in map(str, self.samples) if name.startswith(SOFT)]
        if sorted(present) != sorted(SOFT + name for name in self.classes):
            raise ValueError(f"manifest of {self.name} has {present} for {list(self.classes)}")
        shares = _shares(self.samples, self.classes)
        wrong = ~((shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) < 1e-4))
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{self.root}: the soft label of {self.samples['sample_id'].iloc[row]!r} is "
                f"{shares[row].tolist()}.\nShares must not be negative and must add up to 1."
            )

    @property
    def is_soft(self) -> bool:
        """Whether the samples have soft labels."""
        return any(str(name).startswith(SOFT) for name in self.samples)

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split with index 0..n-1. Raises: DataError when there are none."""
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

    def soft_labels(self, split: str) -> NDArray[np.float32] | None:
        """Shares in one split, shape (n, len(classes)), rows summing to 1; None for hard labels."""
        if not self.is_soft:
            return None
        return _shares(self.split(split), self.classes).astype(np.float32)

    def shared_classes(self) -> set[str]:
        """The classes that have a share in any soft label."""
        if not self.is_soft:
            return set()
        return {name for name in self.classes if self.samples[SOFT + name].any()}

    def valence_arousal(self, split: str) -> NDArray[np.float32]:
        """Valence and arousal of one split, shape (n, 2), in [-1, 1], NaN where unknown."""
        rows = self.split(split)
        if not set(AXES) <= set(rows):
            return np.full((len(rows), 2), np.nan, dtype=np.float32)
        return rows[list(AXES)].to_numpy(np.float32)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples per split, in the order of `SPLITS`, without empty splits."""
        sizes = self.samples["split"].value_counts()
        return {split: int(sizes[split]) for split in SPLITS if split in sizes}

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of samples per split and class; 0 for classes without a sample."""
        columns = (self.samples[column].tolist() for column in ("split", "label"))
        sizes = Counter(zip(*columns, strict=True))
        return {
            split: {name: sizes[split, name] for name in self.classes}
            for split in self.split_sizes()
        }

    def warnings(self) -> list[str]:
        """One line for each warning and error, with examples.

        The last line counts the files that were left out and may be images.
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
            if count and reason.partition(": ")[0] in _WORTH_A_WARNING
        }
        if files:
            lines.append(f"{self.root}: files were left out: {left_out(files)}")
        return lines

    def to_json(self) -> ManifestDocument:
        """The manifest as a JSON document; its fingerprint is None when files are missing."""
        try:
            fingerprint = self.fingerprint
        except OSError:
            fingerprint = None
        return {
            "dataset": self.name,
            "release": self.release,
            "fingerprint": fingerprint,
            "classes": list(self.classes),
            "counts": self.counts(),
            "dropped": dict(self.dropped),
            "problems": [problem.to_json() for problem in self.problems],
            "soft_labels": self.is_soft,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the id, split, label and size in bytes of every sample, in any order.

        It covers the boxes of faces and the soft labels too, if there are any.
        """
        samples = self.samples
        if "bytes" in samples:
            sizes = samples["bytes"].tolist()
        else:
            root = str(self.root)
            sizes = [os.stat(f"{root}/{path}").st_size for path in samples["path"]]  # noqa: PTH116
        columns = [samples[column].tolist() for column in ("sample_id", "split", "label")]
        boxes = [samples[column].tolist() for column in BOX if column in samples]
        shares = [samples[SOFT + name].tolist() for name in self.classes if self.is_soft]
        soft = [[f"{share:.6f}" for share in column] for column in shares]
        rows = zip(*columns, sizes, *boxes, *soft, strict=True)
        lines = sorted("\t".join(map(str, row)) for row in rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def regrouped(manifest: Manifest, groups: Mapping[str, Collection[str]], reason: str) -> Manifest:
    """The samples of some classes, under new classes that each stand for a group of them.

    The shares of soft labels are added within each group and normalised again. If another group
    then has a larger share than the group of the label, it becomes the label.

    Args:
        manifest: left as it is.
        groups: new class → classes of `manifest` in that group, in the order of the new classes;
            a class is in one group at most.
        reason: the reason in `dropped` that counts samples of all other classes.
    """
    group_of = {name: group for group, names in groups.items() for name in names}
    labels = manifest.samples["label"].map(group_of)
    stays = labels.notna()
    samples = manifest.samples[stays].assign(label=labels[stays]).reset_index(drop=True)
    if manifest.is_soft:
        samples = _soft_in_groups(samples, groups)
    dropped = dict(manifest.dropped)
    if not stays.all():
        dropped[reason] = dropped.get(reason, 0) + int((~stays).sum())
    return replace(manifest, samples=samples, classes=tuple(groups), dropped=dropped)


def _soft_in_groups(samples: pd.DataFrame, groups: Mapping[str, Collection[str]]) -> pd.DataFrame:
    shares = np.stack([_shares(samples, list(names)).sum(axis=1) for names in groups.values()], 1)
    shares /= shares.sum(axis=1, keepdims=True)
    names = np.array(list(groups))
    own = shares[np.arange(len(samples)), pd.Index(names).get_indexer(pd.Index(samples["label"]))]
    overtaken = shares.max(axis=1) > own + 1e-9  # sums of the same votes may differ by rounding
    label = samples["label"].mask(overtaken, pd.Series(names[shares.argmax(axis=1)]))
    others = samples.drop(columns=[name for name in samples if str(name).startswith(SOFT)])
    columns = {SOFT + name: shares[:, code] for code, name in enumerate(groups)}
    return others.assign(label=label, **columns)


def _shares(samples: pd.DataFrame, classes: Collection[str]) -> NDArray[np.float64]:
    """The soft labels of these classes, shape (n, len(classes))."""
    return samples[[SOFT + name for name in classes]].to_numpy(np.float64)
