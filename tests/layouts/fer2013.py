"""FER2013 as the challenge and Kaggle offer it: one table, or folders of images."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from layouts import FOLDERS, Face, Layout, in_turn, save, seven

# The order of the table; that of the folders differs.
CODES = {
    "anger": 0,
    "disgust": 1,
    "fear": 2,
    "happiness": 3,
    "sadness": 4,
    "surprise": 5,
    "neutral": 6,
}
SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def csv(root: Path, faces: Sequence[Face]) -> Layout:
    """`fer2013.csv` as in the archive of the challenge."""
    rows, expected = [], []
    for number, (usage, face) in enumerate(in_turn(seven(faces), SPLITS)):
        pixels = _shown(face.image.convert("L").resize((48, 48)).tobytes())
        rows.append(f"{CODES[face.label]},{pixels},{usage}\n")
        name, split = f"{usage}_{number}", SPLITS[usage]
        path = f"{split}/{name}.png"
        expected.append((name, path, split, face.label, usage, len(pixels)))
    root.mkdir(parents=True, exist_ok=True)
    (root / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))
    columns = ["sample_id", "path", "split", "label", "usage", "bytes"]
    samples = pd.DataFrame(expected, columns=columns)
    return _layout(root, samples, "fer2013-csv-unrecognised")


@lru_cache
def _shown(pixels: bytes) -> str:
    return " ".join(map(str, pixels))


# The columns of FERPlus after the two that identify the image.
VOTES = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)


def ferplus_majority(root: Path, faces: Sequence[Face]) -> Layout:
    """The table of FER2013 with the table of FERPlus."""
    return _ferplus(root, faces, "majority")


def ferplus_probability(root: Path, faces: Sequence[Face]) -> Layout:
    """The same; training uses the distribution of votes."""
    return _ferplus(root, faces, "probability")


def ferplus_multi_target(root: Path, faces: Sequence[Face]) -> Layout:
    """The same; training uses every expression with many votes."""
    return _ferplus(root, faces, "multi_target")


def _ferplus(root: Path, faces: Sequence[Face], rule: str) -> Layout:
    """Seven votes for the expression and three for another; FER2013 has no contempt."""
    shown = [face if face.label in CODES else replace(face, label="neutral") for face in faces]
    layout = csv(root, shown)
    others = [VOTES[(VOTES.index(face.label) + 1) % 8] for face in faces]
    turns = [usage for usage, _ in in_turn(shown, SPLITS)]
    votes = [{face.label: 7, other: 3} for face, other in zip(faces, others, strict=True)]
    write_votes(root / "fer2013new.csv", zip(turns, votes, strict=True))
    samples = layout.samples.assign(label=[face.label for face in faces])
    dataset = layout.dataset | {"labels": rule}
    return Layout(dataset, samples, f"fer2013-csv-ferplus-{rule}-unrecognised")


def write_votes(path: Path, rows: Iterable[tuple[str, dict[str, int]]]) -> None:
    """`fer2013new.csv` as the release has it: parts of the challenge, and votes by name.

    A row without an image name is one whose votes have the name `no name`.
    """
    lines = []
    for number, (usage, votes) in enumerate(rows):
        name = "" if "no name" in votes else f"fer{number:07d}.png"
        lines.append(",".join([usage, name, *(str(votes.get(vote, 0)) for vote in VOTES)]))
    path.write_text("\n".join([",".join(["Usage", "Image name", *VOTES]), *lines, ""]))


def write_faces(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """`fer2013.csv` with grey faces of one grey value each: part of the challenge and label."""
    lines = [
        f"{CODES[label]},{' '.join([str(number % 256)] * 48 * 48)},{usage}"
        for number, (usage, label) in enumerate(rows)
    ]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]))


def msambare(root: Path, faces: Sequence[Face]) -> Layout:
    """`train` and `test` (both test parts) of a copy with other file names."""
    expected = []
    for number, (usage, face) in enumerate(in_turn(seven(faces), SPLITS)):
        split = "train" if usage == "Training" else "test"
        path = f"{split}/{FOLDERS[face.label]}/im{number}.jpg"
        save(face.image, root / path, mode="L", size=48)
        expected.append((f"{split}/{face.label}/im{number}.jpg", path, split, face.label))
    samples = pd.DataFrame(expected, columns=["sample_id", "path", "split", "label"])
    return _layout(root, samples, "fer2013-msambare-unrecognised")


def msambare_original_names(root: Path, faces: Sequence[Face]) -> Layout:
    """`train` and `test` as downloaded: the file names distinguish the two test parts."""
    folders = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
    return _with_names(root, faces, folders)


def original_names(root: Path, faces: Sequence[Face]) -> Layout:
    """One folder per part of the challenge."""
    return _with_names(root, faces, SPLITS)


def _with_names(root: Path, faces: Sequence[Face], folders: dict[str, str]) -> Layout:
    expected = []
    for number, (usage, face) in enumerate(in_turn(seven(faces), SPLITS)):
        name = f"{usage}_{10000 + 37 * number}"
        path = f"{folders[usage]}/{FOLDERS[face.label]}/{name}.jpg"
        save(face.image, root / path, mode="L", size=48)
        expected.append((name, path, SPLITS[usage], face.label, usage))
    samples = pd.DataFrame(expected, columns=["sample_id", "path", "split", "label", "usage"])
    return _layout(root, samples, "fer2013-original-names-unrecognised")


def _layout(root: Path, samples: pd.DataFrame, release: str) -> Layout:
    return Layout({"name": "fer2013", "root": str(root)}, samples, release)
