"""Custom tables: one row per image, in the forms that people and programs write."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from layouts import FOLDERS, Face, Layout, in_turn, save

SPLITS = {"Training": "train", "val": "validation", "TEST": "test"}


def csv(root: Path, faces: Sequence[Face]) -> Layout:
    """Path and label, and nothing else."""
    rows = []
    for number, face in enumerate(faces):
        rows.append((f"images/{number}.jpg", face.label))
        save(face.image, root / rows[-1][0])
    _write(root / "labels.csv", "path,label", [",".join(row) for row in rows])
    expected = [(path, path, "train", label) for path, label in rows]
    return _layout(root, pd.DataFrame(expected, columns=["sample_id", "path", "split", "label"]))


def spreadsheet(root: Path, faces: Sequence[Face]) -> Layout:
    """As a spreadsheet saves it: semicolons, byte order mark, Windows line ends, more columns."""
    lines, expected = [], []
    for number, (split, face) in enumerate(in_turn(faces, SPLITS)):
        path, person = f"faces/{number}.png", f"person {number % 11}"
        save(face.image, root / path)
        spelled = FOLDERS.get(face.label, face.label).upper()
        lines.append(
            f"{split};{spelled};faces\\{number}.png; {person} ;{face.valence};{face.arousal};F"
        )
        known = (SPLITS[split], face.label, face.valence, face.arousal, person, "F")
        expected.append((path, path, *known))
    header = "\ufeffUsage;Emotion;File Name;Subject;Valence;Arousal;sex"
    _write(root / "all faces.csv", header, lines, "\r\n")
    columns = ["sample_id", "path", "split", "label", "valence", "arousal", "group", "gender"]
    return _layout(root, pd.DataFrame(expected, columns=columns))


def _write(path: Path, header: str, lines: Sequence[str], end: str = "\n") -> None:
    path.write_bytes(end.join([header, *lines, ""]).encode())


def _layout(root: Path, samples: pd.DataFrame) -> Layout:
    return Layout({"name": "list", "root": str(root)}, samples, "list")
