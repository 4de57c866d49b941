"""RAF-DB as the official release and the two copies on Kaggle arrange it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from layouts import Face, Layout, in_turn, save, seven

CODES = {
    "surprise": 1,
    "fear": 2,
    "disgust": 3,
    "happiness": 4,
    "sadness": 5,
    "anger": 6,
    "neutral": 7,
}
# In the order of their codes.
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")


@dataclass(frozen=True)
class Numbered:
    """A face under its number in the release."""

    sample_id: str
    split: str
    label: str
    image: Image.Image
    codes: tuple[int, int, int]

    @property
    def attributes(self) -> dict[str, str]:
        gender, race, age = self.codes
        return {"gender": GENDERS[gender], "race": RACES[race], "age": AGES[age]}


def numbered(faces: Sequence[Face]) -> list[Numbered]:
    """The faces of seven classes; every second face of a class is in the test split."""
    last: Counter[str] = Counter()
    result = []
    for split, face in in_turn(seven(faces), ("train", "test")):
        last[split] += 1
        number = f"{last[split]:0{5 if split == 'train' else 4}}"
        codes = (last[split] % 3, last[split] % 7 % 3, last[split] % 5)
        result.append(Numbered(f"{split}_{number}", split, face.label, face.image, codes))
    return sorted(result, key=lambda one: (one.split != "train", one.sample_id))


def official(
    root: Path, faces: Sequence[Face], images: str | None = None, attributes: bool = True
) -> Layout:
    """`basic/...`, with both folders of images unless `images` names the only one."""
    basic, people = root / "basic", numbered(faces)
    for one in people:
        if images != "original":
            save(one.image, basic / f"Image/aligned/{one.sample_id}_aligned.jpg", size=100)
        if images != "aligned":
            save(one.image, basic / f"Image/original/{one.sample_id}.jpg", size=130)
    lines = [f"{one.sample_id}.jpg {CODES[one.label]}\n" for one in people]
    write(basic / "EmoLabel/list_patition_label.txt", "".join(lines).encode())
    if attributes:
        write_attributes(basic / "Annotation", people)
    paths = {
        one.sample_id: (
            f"basic/Image/original/{one.sample_id}.jpg"
            if images == "original"
            else f"basic/Image/aligned/{one.sample_id}_aligned.jpg"
        )
        for one in people
    }
    options = {"images": images} if images else {}
    return _layout(root, people, paths, "rafdb-official", options, attributes)


def shuvoalok(root: Path, faces: Sequence[Face]) -> Layout:
    """`DATASET/<split>/<code>/`, and two lists beside `DATASET`."""
    people = numbered(faces)
    paths = {
        one.sample_id: (f"DATASET/{one.split}/{CODES[one.label]}/{one.sample_id}_aligned.jpg")
        for one in people
    }
    for one in people:
        save(one.image, root / paths[one.sample_id], size=100)
    _write_lists(root, people)
    return _layout(root, people, paths, "rafdb-shuvoalok")


def tanishmittal(root: Path, faces: Sequence[Face], lists: str = ".") -> Layout:
    """`dataset/aligned/<split>/<split>_images/`, and two lists in `lists`."""
    people = numbered(faces)
    paths = {
        one.sample_id: (
            f"dataset/aligned/{one.split}/{one.split}_images/{one.sample_id}_aligned.jpg"
        )
        for one in people
    }
    for one in people:
        save(one.image, root / paths[one.sample_id], size=100)
    _write_lists(root, people, lists)
    return _layout(root, people, paths, "rafdb-tanishmittal")


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_attributes(annotation: Path, people: Sequence[Numbered]) -> None:
    """The manual attributes of some people, and one file of every other kind of annotation."""
    landmarks = ["30.5\t41.0\n", "68.2\t40.1\n", "50.0 62.4\n", "34\t80\n", "66.75\t79.5\n"]
    for one in people:
        lines = [*landmarks, *(f"{code}\n" for code in one.codes)]
        write(annotation / f"manual/{one.sample_id}_manu_attri.txt", "".join(lines).encode())
    name = people[0].sample_id
    write(annotation / f"auto/{name}_auto_attri.txt", "".join(landmarks).encode())
    write(annotation / f"boundingbox/{name}_boundingbox.txt", b"10.0 12.0 90.0 95.0\n")


def _write_lists(root: Path, people: Sequence[Numbered], where: str = ".") -> None:
    for split in ("train", "test"):
        rows = _rows(people, split)
        content = "".join(["image,label\n", *rows])
        write(root / where.format(split=split) / f"{split}_labels.csv", content.encode())


def _rows(people: Sequence[Numbered], split: str) -> Iterator[str]:
    for one in people:
        if one.split == split:
            yield f"{one.sample_id}_aligned.jpg,{CODES[one.label]}\n"


def _layout(
    root: Path,
    people: Sequence[Numbered],
    paths: Mapping[str, str],
    release: str,
    options: Mapping[str, str] | None = None,
    attributes: bool = False,
) -> Layout:
    rows = [
        {
            "sample_id": one.sample_id,
            "path": paths[one.sample_id],
            "split": one.split,
            "label": one.label,
        }
        | (one.attributes if attributes else {})
        for one in people
    ]
    dataset = {"name": "rafdb", "root": root, **(options or {})}
    return Layout(dataset, pd.DataFrame(rows), release)
