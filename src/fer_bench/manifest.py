"""The checked sample table: a dataset after its folder was read and before any pixel is."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.errors import DataError

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
            `SPLITS`), `label` (one of `classes`); optional `valence` and `arousal` in [-1, 1].
        dropped: how many rows of the source were left out, by reason.
    """

    name: str
    release: str
    root: Path
    classes: tuple[str, ...]
    channels: int
    samples: pd.DataFrame
    dropped: Mapping[str, int] = field(default_factory=dict)

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
                f"{self.root}: {len(twice)} sample ids occur twice, first {twice.iloc[0]!r}."
            )
        for column, known in (("split", SPLITS), ("label", self.classes)):
            strange = sorted(set(samples[column]) - set(known))
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
        return np.array([index[label] for label in self.split(split)["label"]], dtype=np.int32)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples in each split that has any, in the order of `SPLITS`."""
        sizes = self.samples["split"].value_counts()
        return {split: int(sizes[split]) for split in SPLITS if split in sizes}

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of samples by split and class; classes without a sample count 0."""
        sizes = Counter(zip(self.samples["split"], self.samples["label"], strict=True))
        return {
            split: {name: sizes[split, name] for name in self.classes}
            for split in self.split_sizes()
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over id, split, label and file size of every sample, whatever their order."""
        columns = [self.samples[column] for column in ("sample_id", "path", "split", "label")]
        lines = sorted(
            f"{sample_id}\t{split}\t{label}\t{(self.root / path).stat().st_size}"
            for sample_id, path, split, label in zip(*columns, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
