"""Custom folder trees: class folders, with or without folders per split and per person."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from layouts import Face, Layout, in_turn, save


def flat(root: Path, faces: Sequence[Face]) -> Layout:
    """Class folders only."""
    return _write(root, faces, [("", "train", None)])


def split(root: Path, faces: Sequence[Face]) -> Layout:
    """Class folders in three split folders."""
    return _write(
        root,
        faces,
        [("train/", "train", None), ("val/", "validation", None), ("test/", "test", None)],
    )


def people(root: Path, faces: Sequence[Face]) -> Layout:
    """Class folders with one folder per person, and some images outside of these."""
    return _write(
        root,
        faces,
        [("", "train", "Zoë"), ("", "train", "person 7"), ("", "train", None)],
    )


def _write(
    root: Path, faces: Sequence[Face], places: Iterable[tuple[str, str, str | None]]
) -> Layout:
    """Each class goes in turn to the places: folder above it, its split, folder inside it."""
    expected = []
    for number, ((above, name, group), face) in enumerate(in_turn(faces, places)):
        path = f"{above}{face.label}/{group + '/' if group else ''}{number}.jpg"
        save(face.image, root / path)
        expected.append((path, path, name, face.label, group))
    samples = pd.DataFrame(expected, columns=["sample_id", "path", "split", "label", "group"])
    if samples["group"].isna().all():
        samples = samples.drop(columns="group")
    return Layout({"name": "folder", "root": str(root)}, samples, "folder")
