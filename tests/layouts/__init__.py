"""Writers of every layout, as the releases have it, and what an adapter must read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image


@dataclass(frozen=True)
class Face:
    """One picture to write into a layout; valence and arousal in [-1, 1]."""

    image: Image.Image
    label: str
    valence: float
    arousal: float


@dataclass(frozen=True)
class Layout:
    """A written release: the `dataset` section that reads it and the samples expected then.

    `samples` has the columns of the manifest that the adapter must produce, in any order of rows.
    """

    dataset: dict[str, Any]
    samples: pd.DataFrame
    release: str


def save(image: Image.Image, path: Path, mode: str = "RGB", size: int | None = None) -> None:
    """Write `image` as the suffix of `path` says, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = image.convert(mode)
    if size:
        picture = picture.resize((size, size))
    picture.save(path)
