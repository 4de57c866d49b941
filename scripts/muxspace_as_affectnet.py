"""Writes the muxspace faces in the layout of AffectNet's Kaggle copy, to try transfer learning.

Takes the classes with more than 90 images (happiness, neutral, surprise, anger, sadness), resizes
the images to 96 × 96 RGB like that copy, and renames the files. Beside the folder it writes a table
for `dataset.groups` with one group per person: the part of the original file name before its
number.

The faces are those of github.com/muxspace/facial_expressions (Apache-2.0).
"""

import argparse
import csv
import io
import re
import zipfile
from collections import Counter
from pathlib import Path

from PIL import Image

FEWEST = 90
SIZE = 96
FOLDERS = {"happiness": "happy", "sadness": "sad"}  # other names are the same


def main() -> None:
    """Convert the archive on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="muxspace_faces.zip")
    parser.add_argument("--root", type=Path, default=Path("data/muxspace_affectnet"))
    arguments = parser.parse_args()
    root: Path = arguments.root
    with zipfile.ZipFile(arguments.archive) as archive:
        table = io.TextIOWrapper(archive.open("muxspace_faces/labels.csv"), encoding="utf-8")
        rows = list(csv.DictReader(table))
        sizes = Counter(row["emotion"] for row in rows)
        people: dict[str, int] = {}
        listed: list[tuple[object, ...]] = []
        groups: list[tuple[object, ...]] = []
        for number, row in enumerate(rows):
            if sizes[row["emotion"]] <= FEWEST:
                continue
            folder = FOLDERS.get(row["emotion"], row["emotion"])
            path = f"{folder}/image{number:07d}.jpg"
            write(archive.read(f"muxspace_faces/images/{row['image']}"), root / path)
            person = re.sub(r"_\d+\.jpg$", "", row["image"])
            groups.append((path, f"person {people.setdefault(person, len(people))}"))
            listed.append((len(listed), path, folder, 1.0))
    write_table(root / "labels.csv", ("", "pth", "label", "relFCs"), listed)
    beside = root.with_name(f"{root.name}.people.csv")
    write_table(beside, ("sample_id", "group"), groups)
    print(f"{root}: {len(listed):,} images; {beside}: {len(people):,} people")


def write(jpeg: bytes, path: Path) -> None:
    """Write a resized image as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(jpeg)) as image:
        image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(path, quality=95)


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
