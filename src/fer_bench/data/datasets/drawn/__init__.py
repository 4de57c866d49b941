"""Faces that the project draws itself, so that a first run needs no download.

An expression is a set of facial action units, after the prototypes of EMFACS (Friesen and Ekman,
1983) in the terms of the Facial Action Coding System (Ekman and Friesen, 1978). A face shows that
set at some intensity, on a random person, in a random pose and random light. Its label, valence and
arousal are therefore exact, not judged.

Lengths on a face are in face units: the origin is between nose and eyes, x increases to the right
of the image, y downwards, and half the width of a head is about 0.8.
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
from fer_bench.storage.delimited import TableFormatError, read_columns
from fer_bench.storage.replacement import replaced_folder

logger = logging.getLogger(__name__)

DEFAULT_SEED = 0
TRAIN_FACES = 2400
TEST_FACES = 600
RELEASE = "drawn-v1"  # increase it when a change here changes a pixel
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

    The test faces come first in the population, so that the test set does not depend on the number
    of training faces. The folder appears only when it is complete.

    Args:
        root: the folder to make.
        seed: which population of faces.
        train: number of training faces, at least one for each expression.
        test: number of test faces, at least one for each expression.
        size: edge of the images in pixels.
        force: replace a dataset that was drawn into `root` before.

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
            "Give a folder with write permission and free space that no other command uses."
        ) from error


def _draw_splits(root: Path, seed: int, splits: Mapping[str, int], size: int) -> None:
    """Draw the given number of faces for each split, in order, and write their labels file."""
    order = [split for split, number in splits.items() for _ in range(number)]
    rows = [_save_face(root, seed, index, split, size) for index, split in enumerate(order)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(root / LABELS_FILE, index=False)


def _check_free(root: Path, force: bool) -> None:
    if not root.exists():
        return
    if not force:
        raise DataError(
            f"{root}: already exists.\nGive another folder, or --force to draw it again."
        )
    # Anything else in a folder was not drawn, and could not be drawn again.
    if not (root / LABELS_FILE).is_file():
        raise DataError(
            f"{root}: has no {LABELS_FILE}, so it is not a drawn dataset and is not replaced.\n"
            "Give another folder, or remove this one yourself."
        )


def _save_face(root: Path, seed: int, index: int, split: str, size: int) -> tuple[object, ...]:
    """Write one image below `root`, and return its row of the labels file."""
    face = draw_face(seed, index, size)
    path = Path(split, face.label, f"{index:05d}.png")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    # Noise can hardly be compressed, and without compression the file size, which is a part of the
    # fingerprint, is the same on every machine. The id must therefore contain the seed.
    Image.fromarray(face.image).save(root / path, compress_level=0)
    sample_id = f"drawn-s{seed}-{index:05d}"
    return sample_id, path.as_posix(), split, face.label, face.valence, face.arousal


def read(root: Path) -> Manifest:
    """The manifest of the faces in `root`, which are drawn first if the folder does not exist.

    Raises:
        DataError: the folder is not a complete drawn dataset.
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
        # Runs that start together draw the same faces; the first one to finish is enough.
        if not root.exists():
            raise


def _read_labels(path: Path) -> pd.DataFrame:
    """The labels file. Raises: DataError unless its columns, cells and values are complete."""
    try:
        samples = read_columns(path, COLUMNS)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}).\n{ADVICE}") from error
    except TableFormatError as error:
        raise DataError(f"{path}: {error}\n{ADVICE}") from error
    blank = [column for column in COLUMNS if (samples[column] == "").any()]
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
    """Raises: DataError unless all listed images exist and both splits show every expression."""
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
            f"{archive}: dataset 'drawn' is drawn, not unpacked.\nLeave the archive out."
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
