"""What the layouts of FER2013 share: its parts and classes, and what reading a layout returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fer_bench.data.manifest import Problem
from fer_bench.labels import EXPRESSIONS

NAME = "fer2013"
CLASSES = EXPRESSIONS[:7]
SIDE = 48
SPLIT_OF_USAGE = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


@dataclass(frozen=True)
class Found:
    """The samples of one layout; `root` is the folder that their `path` is relative to.

    `source_digest` is that of the table that the images were written from, if they were.
    """

    layout: str
    root: Path
    samples: pd.DataFrame
    dropped: Mapping[str, int]
    problems: tuple[Problem, ...]
    source_digest: str | None = None
