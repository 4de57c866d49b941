"""Writers for the layout of every release, and what the tests of the adapters share."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from PIL import Image

from fer_bench.data.manifest import Manifest, Problem
from fer_bench.data.releases import Counts

# The names of the class folders in most releases without contempt.
FOLDERS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprise",
}
FORMATS = {".jpg": "JPEG", ".png": "PNG"}
Part = TypeVar("Part")


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

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of samples per split and class, without classes that have none."""
        found: dict[str, dict[str, int]] = {}
        pairs = zip(self.samples["split"], self.samples["label"], strict=True)
        for (split, label), count in Counter(pairs).items():
            found.setdefault(split, {})[label] = count
        return found


Writer = Callable[..., Layout]
Written = Callable[[Writer, int], Layout]


# Faces and files -------------------------------------------------------------------------------


def of_each(number: int, faces: Sequence[Face]) -> list[Face]:
    """The first `number` faces of every expression, in their order."""
    seen: Counter[str] = Counter()
    chosen = []
    for face in faces:
        seen[face.label] += 1
        if seen[face.label] <= number:
            chosen.append(face)
    return chosen


def seven(faces: Sequence[Face]) -> list[Face]:
    """The faces with one of the seven expressions in `FOLDERS`."""
    return [face for face in faces if face.label in FOLDERS]


def in_turn(faces: Sequence[Face], parts: Iterable[Part]) -> Iterator[tuple[Part, Face]]:
    """Assign the faces of each expression to the parts in turn."""
    turns = {face.label: cycle(parts) for face in faces}
    return ((next(turns[face.label]), face) for face in faces)


def save(image: Image.Image, path: Path, mode: str = "RGB", size: int | None = None) -> None:
    """Write `image` in the format of the suffix of `path`; creates the folder."""
    content = _encoded(image.tobytes(), image.mode, image.size, path.suffix, mode, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@lru_cache(maxsize=2000)  # most tests write the same few faces
def _encoded(
    pixels: bytes, mode: str, shape: tuple[int, int], suffix: str, to_mode: str, to_size: int | None
) -> bytes:
    picture = Image.frombytes(mode, shape, pixels).convert(to_mode)
    if to_size:
        picture = picture.resize((to_size, to_size))
    file = io.BytesIO()
    picture.save(file, FORMATS[suffix])
    return file.getvalue()


def change(path: Path, old: bytes, new: bytes) -> None:
    """Replace the first `old` in a file."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def zipped(folder: Path, archive: Path) -> Path:
    """Write `folder` with all its files into `archive`."""
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*.*")):
            opened.write(path, path.relative_to(folder.parent))
    return archive


# What was read ---------------------------------------------------------------------------------


def by_id(samples: pd.DataFrame) -> pd.DataFrame:
    """Sorted by ID, to compare samples that are read in another order than they were written."""
    return samples.sort_values("sample_id", ignore_index=True)


def problems(manifest: Manifest) -> dict[str, Problem]:
    """The problems by kind, without the one that these layouts have too few images."""
    found = {problem.kind: problem for problem in manifest.problems}
    assert len(found) == len(manifest.problems), f"duplicate kind: {manifest.problems}"
    found.pop("release_unrecognised", None)
    return found


def assert_samples(manifest: Manifest, layout: Layout, check_dtype: bool = True) -> None:
    """Assert that exactly the samples of `layout` were read and that their images exist."""
    found, expected = by_id(manifest.samples), by_id(layout.samples)
    pd.testing.assert_frame_equal(found, expected, check_dtype=check_dtype, check_exact=True)
    assert list(manifest.samples.index) == list(range(len(layout.samples))), "not 0 to n-1"
    absent = [path for path in manifest.samples["path"] if not (manifest.root / path).is_file()]
    assert not absent, f"no file: {absent}"


def sizes(releases: Mapping[str, Counts]) -> dict[str, dict[str, int]]:
    """Number of images per release and split, from {release: {split: {class: number}}}."""
    return {
        name: {split: sum(counts.values()) for split, counts in of.items()}
        for name, of in releases.items()
    }
