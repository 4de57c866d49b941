"""Faces that the project draws itself, so that nothing needs to be downloaded to begin.

An expression is a set of facial action units, after the prototypes of EMFACS (Friesen and Ekman,
1983) in the terms of the Facial Action Coding System (Ekman and Friesen, 1978). A face is that
set at some intensity, on a random person, seen from a random side in random light. Its label,
valence and arousal are therefore known, not judged.

Lengths on a face are in face units: the origin lies between nose and eyes, x grows to the right of
the image, y grows downwards, and half the width of a head is about 0.8.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fer_bench.data.datasets.drawn.face import IMAGE_SIZE, draw_face
from fer_bench.data.manifest import Manifest
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS
from fer_bench.storage.replacement import replaced_folder

logger = logging.getLogger(__name__)

DEFAULT_SEED = 0
TRAIN_FACES = 2400
TEST_FACES = 600
RELEASE = "drawn-v1"  # to be raised whenever a change here changes a pixel
LABELS_FILE = "labels.csv"

COLUMNS = ("sample_id", "path", "split", "label", "valence", "arousal")

ADVICE = "Give a folder that does not exist yet, or draw the faces again here with --force."


def draw(
    root: Path,
    *,
    seed: int = DEFAULT_SEED,
    train: int = TRAIN_FACES,
    test: int = TEST_FACES,
    size: int = IMAGE_SIZE,
    force: bool = False,
) -> None:
    """Draw a dataset: `root/<split>/<class>/<index>.png` and `root/labels.csv`.

    The test faces come first in the population, so that asking for more or fewer training faces
    leaves the test set as it is. The folder appears only when it is complete.

    Args:
        root: the folder to make.
        seed: which population of faces.
        train: number of training faces, at least one for each expression.
        test: number of test faces, at least one for each expression.
        size: edge of the images in pixels.
        force: replace the dataset that was drawn into `root` before.

    Raises:
        DataError: `root` exists and must not be replaced.
        ValueError: fewer faces than expressions.
    """
    if min(train, test) < len(EXPRESSIONS):
        raise ValueError(f"{train} and {test} faces do not show all {len(EXPRESSIONS)} expressions")
    try:
        with replaced_folder(root, wait=True) as fresh:
            _check_free(root, force)
            _draw_splits(fresh, seed, {"test": test, "train": train}, size)
    except OSError as error:
        raise DataError(
            f"{root}: the faces cannot be drawn there ({error}).\n"
            "Give a folder that you may write, that has room and that no other command writes."
        ) from error


def _draw_splits(root: Path, seed: int, splits: Mapping[str, int], size: int) -> None:
    """Draw the given number of faces for each split, in this order, and their labels file."""
    order = [split for split, number in splits.items() for _ in range(number)]
    rows = [_save_face(root, seed, index, split, size) for index, split in enumerate(order)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(root / LABELS_FILE, index=False)


def _check_free(root: Path, force: bool) -> None:
    if not root.exists():
        return
    if not force:
        raise DataError(
            f"{root}: exists already.\nGive another folder, or --force to draw it again."
        )
    # Whatever else lies in a folder, it was not drawn, and nobody could draw it again.
    if not (root / LABELS_FILE).is_file():
        raise DataError(
            f"{root}: holds no {LABELS_FILE}, so it is no drawn dataset and is not replaced.\n"
            "Give another folder, or remove this one yourself."
        )


def _save_face(root: Path, seed: int, index: int, split: str, size: int) -> tuple[object, ...]:
    """Write one image below `root`; its row of the labels file, in the order of `COLUMNS`."""
    face = draw_face(seed, index, size)
    path = Path(split, face.label, f"{index:05d}.png")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    # Noise leaves little to compress, and without compression the file size, which is a part of
    # the fingerprint, is the same on every machine. The id therefore has to tell the seed.
    Image.fromarray(face.image).save(root / path, compress_level=0)
    sample_id = f"drawn-s{seed}-{index:05d}"
    return sample_id, path.as_posix(), split, face.label, face.valence, face.arousal


def read(root: Path) -> Manifest:
    """The manifest of the faces drawn into `root`; a missing folder is drawn first.

    Raises:
        DataError: the folder is not what `draw` made.
    """
    if not root.exists():
        _draw_defaults(root)
    samples = _read_labels(root / LABELS_FILE)
    manifest = Manifest("drawn", RELEASE, root, EXPRESSIONS, channels=3, samples=samples)
    _check_complete(manifest)
    return manifest


def _draw_defaults(root: Path) -> None:
    logger.info("%s does not exist: drawing %d faces", root, TRAIN_FACES + TEST_FACES)
    try:
        draw(root)
    except DataError:
        # Runs that start together draw the same faces; the first to finish serves them all.
        if not root.exists():
            raise


def _read_labels(path: Path) -> pd.DataFrame:
    """The labels file, all its cells filled, valence and arousal in range."""
    try:
        samples = pd.read_csv(path, dtype=dict.fromkeys(COLUMNS[:4], str))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}).\n{ADVICE}") from error
    missing = [column for column in COLUMNS if column not in samples]
    if missing:
        raise DataError(
            f"{path}: lacks the columns {', '.join(missing)}; "
            f"it has {', '.join(map(str, samples.columns))}.\n{ADVICE}"
        )
    samples = samples[list(COLUMNS)]
    blank = [column for column in COLUMNS if samples[column].isna().any()]
    if blank:
        raise DataError(f"{path}: blank cells in the columns {', '.join(blank)}.\n{ADVICE}")
    return samples.assign(
        valence=_unit_values(path, samples["valence"]),
        arousal=_unit_values(path, samples["arousal"]),
    )


def _unit_values(path: Path, column: "pd.Series[Any]") -> "pd.Series[float]":
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    wrong = column[~values.between(-1, 1)]
    if len(wrong):
        raise DataError(
            f"{path}: {column.name} must lie in [-1, 1], found {wrong.iloc[0]}.\n{ADVICE}"
        )
    return values


def _check_complete(manifest: Manifest) -> None:
    """Every listed image is there, and both splits show every expression."""
    root = manifest.root
    missing = [path for path in manifest.samples["path"] if not (root / path).is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(manifest.samples)} images are missing, "
            f"first {missing[0]}.\n{ADVICE}"
        )
    counts = manifest.counts()
    for split in ("train", "test"):
        empty = [name for name in EXPRESSIONS if not counts.get(split, {}).get(name)]
        if empty:
            raise DataError(f"{root}: the {split} split shows no {', '.join(empty)}.\n{ADVICE}")


def prepare(root: Path, archive: Path | None, force: bool) -> None:
    """Draw the default faces into `root`. Raises: DataError when an archive is given."""
    if archive is not None:
        raise DataError(
            f"{archive}: dataset 'drawn' takes no archive, it is drawn.\nLeave the archive out."
        )
    draw(root, force=force)


DATASETS.register(
    "drawn",
    DatasetSpec(
        read=lambda config: read(config.root),
        prepare=prepare,
        source="Drawn by fer-bench from facial action units; no real face, free to use and share.",
        classes=EXPRESSIONS,
    ),
)
