"""AffectNet as the releases of 2017 and 2021 and the copy on Kaggle arrange it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from layouts import Face, Layout, in_turn, save

CODES = {
    "neutral": 0,
    "happiness": 1,
    "sadness": 2,
    "surprise": 3,
    "fear": 4,
    "disgust": 5,
    "anger": 6,
    "contempt": 7,
}
FOLDERS = {name: name for name in CODES} | {"happiness": "happy", "sadness": "sad"}
HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal"
)
IMAGES = "Manually_Annotated_Images"
EDGE = 64  # pixels of the photographs of 2017
SPLITS = ("train", "train", "test")


def _layout(root: Path, release: str, rows: list[dict[str, Any]], **options: Any) -> Layout:
    dataset = {"name": "affectnet", "root": str(root), **options}
    return Layout(dataset, pd.DataFrame(rows), release)


def lists_2017(root: Path, faces: Sequence[Face], lists: str = "", images: str = IMAGES) -> Layout:
    """The lists in the folder `lists`, the photographs in `images`, both below `root`.

    Each list also names three pictures without an expression: a none, an uncertain, a non-face.
    """
    rows = []
    lines = {"train": [HEADER], "test": [HEADER]}
    for index, (split, face) in enumerate(in_turn(faces, SPLITS)):
        name = _photograph_name(index)
        size = 20 + index % 10
        box = {"face_x": index % 7, "face_y": index % 5, "face_width": size, "face_height": size}
        _save_photograph(face.image, (index % 7, index % 5), size, root / images / name)
        emotions = {"valence": face.valence, "arousal": face.arousal}
        row = {"sample_id": f"{split}/{name}", "path": f"{images}/{name}", "split": split}
        rows.append({**row, "label": face.label, **box, **emotions})
        lines[split].append(_line(name, box, CODES[face.label], face.valence, face.arousal))
    for number, split in enumerate(lines):
        for code, valence in ((8, 0.25), (9, -2), (10, -2)):
            name = _photograph_name(1000 + 10 * number + code)
            box = dict.fromkeys(("face_x", "face_y", "face_width", "face_height"), 20)
            _save_photograph(faces[0].image, (20, 20), 20, root / images / name)
            lines[split].append(_line(name, box, code, valence, valence))
    (root / lists).mkdir(parents=True, exist_ok=True)
    for split, list_name in (("train", "training"), ("test", "validation")):
        (root / lists / f"{list_name}.csv").write_text("\n".join([*lines[split], ""]))
    return _layout(root, "affectnet-2017-csv", rows)


def _photograph_name(index: int) -> str:
    return f"{index % 3 + 1}/{hashlib.sha224(str(index).encode()).hexdigest()}.jpg"


def _save_photograph(face: Image.Image, corner: tuple[int, int], size: int, path: Path) -> None:
    photograph = Image.new("RGB", (EDGE, EDGE), (90, 120, 90))
    photograph.paste(face.convert("RGB").resize((size, size)), corner)
    save(photograph, path)


def _line(name: str, box: dict[str, int], code: int, valence: float, arousal: float) -> str:
    landmarks = ";".join(["12.34"] * 136)
    return ",".join([name, *map(str, box.values()), landmarks, f"{code},{valence},{arousal}"])


def sets_2021(root: Path, faces: Sequence[Face], stored: Callable[..., Any] = str) -> Layout:
    """The numbers have gaps and restart in `val_set`; `stored` converts a value before saving."""
    rows = []
    numbers = Counter[str]()
    for split, face in in_turn(faces, SPLITS):
        numbers[split] += 3
        number, folder = numbers[split], "train_set" if split == "train" else "val_set"
        path = f"{folder}/images/{number}.jpg"
        save(face.image, root / path, size=224)
        write_annotations(root / folder / "annotations", number, face, stored)
        row = {"sample_id": f"{split}/{number}", "path": path, "split": split, "label": face.label}
        emotions = {"valence": face.valence, "arousal": face.arousal}
        rows.append({**row, **emotions, "bytes": (root / path).stat().st_size})
    return _layout(root, "affectnet-2021-npy", rows)


def write_annotations(
    folder: Path, number: int, face: Face, stored: Callable[..., Any] = str
) -> None:
    """The four annotation files of one face."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{number}_exp.npy", np.array(stored(CODES[face.label])))
    np.save(folder / f"{number}_val.npy", np.array(stored(face.valence)))
    np.save(folder / f"{number}_aro.npy", np.array(stored(face.arousal)))
    np.save(folder / f"{number}_lnd.npy", np.full(136, 12.34))


def noamsegal(root: Path, faces: Sequence[Face]) -> Layout:
    """Class folders and a list that agrees with them."""
    rows, lines = [], [",pth,label,relFCs"]
    for index, path, face in _numbered(faces):
        save(face.image, root / path, size=96)
        lines.append(f"{index},{path},{FOLDERS[face.label]},{0.5 + index / 1000}")
        rows.append({"sample_id": path, "path": path, "split": "train", "label": face.label})
    (root / "labels.csv").write_text("\n".join([*lines, ""]))
    parts = {"train": 0.7, "validation": 0.2, "test": 0.1}
    return _layout(root, "affectnet-noamsegal", rows, split=parts)


def _numbered(faces: Sequence[Face]) -> Iterator[tuple[int, str, Face]]:
    for index, face in enumerate(faces):
        yield index, f"{FOLDERS[face.label]}/image{7 * index + 6:07}.jpg", face
