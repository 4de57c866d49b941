"""AffectNet, in the three forms in which it is passed on.

- 2017: two lists in CSV and whole photographs, in which the lists say where the face is.
- 2021: faces of 224 px, and for every face four tiny npy files; the same number names one face in
  `train_set` and another one in `val_set`.
- Kaggle, by noamsegal: 29,042 faces of 96 px in class folders, and a list that contradicts them.

There is no public test split: everyone reports on the official validation split, which therefore
is `test` here.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.affectnet.csv_2017 import (
    IMAGES,
    holds_lists,
    read_lists,
)
from fer_bench.data.datasets.affectnet.kaggle import LIST, holds_classes, read_classes
from fer_bench.data.datasets.affectnet.npy_2021 import holds_sets, read_sets
from fer_bench.data.datasets.affectnet.shared import Findings
from fer_bench.data.files.folders import (
    CONVERT,
    INCOMPLETE,
    contents,
    find,
    reading,
    subfolders,
    unpack_advice,
)
from fer_bench.data.manifest import Manifest, has_unsupported, left_out
from fer_bench.data.releases import Counts, counts, recognise
from fer_bench.data.spec import DatasetSpec, preparation
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS, canonical
from fer_bench.registry import DATASETS

NAME = "affectnet"

_EIGHT = " ".join(EXPRESSIONS)

_500_EACH = dict.fromkeys(EXPRESSIONS, 500)

RELEASES: Mapping[str, Counts] = {
    "affectnet-2017-csv": {
        "train": counts(_EIGHT, "74874 134416 25459 14090 6378 3803 24882 3750"),
        "test": _500_EACH,
    },
    "affectnet-2021-npy": {
        "train": counts(_EIGHT, "74874 134415 25459 14090 6378 3803 24882 3750"),
        "test": _500_EACH | {"contempt": 499},
    },
    "affectnet-noamsegal": {"train": counts(_EIGHT, "5126 5044 3091 4039 3176 2477 3218 2871")},
}


def read(config: Dataset) -> Manifest:
    """The images below the root, valence and arousal where the release has them.

    Raises: DataError when the layout is none of the three, or a list leads out of its folder.
    """
    root = config.root
    findings = Findings()
    advice = f"Unpack the download: fer data prepare {NAME} ARCHIVE --root {root}"
    with reading(root, advice) as met:
        folder, form = _find_form(root)
        if config.labels and form.release != "affectnet-noamsegal":
            raise DataError(f"dataset.labels has no effect on {form.release}.\nRemove it.")
        samples, found = form.read(folder, config, findings)
        wrapper = folder.relative_to(root).as_posix()
        if wrapper != ".":
            samples["path"] = f"{wrapper}/" + samples["path"]
        samples = met.without_copies(samples, findings.dropped)
        if samples.empty:
            raise DataError(
                f"no image with a label; left out: {left_out(findings.dropped)}.\n"
                f"{CONVERT if has_unsupported(findings.dropped) else INCOMPLETE}"
            )
        findings.problems += met.problems()
    release, problems = recognise(found, {form.release: RELEASES[form.release]})
    return Manifest(
        NAME,
        release or f"{form.release}-unrecognised",
        root,
        EXPRESSIONS,
        3,
        samples.reset_index(drop=True),
        dict(findings.dropped),
        (*problems, *findings.problems),
        form.image_size,
    )


class _Form(NamedTuple):
    """One of the forms of the dataset.

    `read` returns the samples, their paths relative to the folder that it is given, and the
    numbers by which the release is recognised.
    """

    release: str
    holds: Callable[[Path], bool]
    read: Callable[[Path, Dataset, Findings], tuple[pd.DataFrame, Counts]]
    image_size: tuple[int, int] | None
    expected: str


def _find_form(root: Path) -> tuple[Path, _Form]:
    """The folder of the release, `root` or one that wraps it, and which of the forms it has."""

    def forms(folder: Path) -> list[_Form]:
        return [form for form in FORMS if form.holds(folder)]

    folder = find(root, lambda folder: bool(forms(folder)))
    if folder is None:
        expected = "".join(f"\n- {form.release}: {form.expected}" for form in FORMS)
        raise DataError(
            f"no release of AffectNet; found {contents(root)}.\n"
            f"{unpack_advice(root, NAME)}{_list_advice(root)}Expected one of:{expected}"
        )
    found = forms(folder)
    if len(found) > 1:
        names = " and ".join(form.release for form in found)
        raise DataError(f"'{folder.name}' holds {names} side by side.\nKeep each in its folder.")
    return folder, found[0]


def _list_advice(root: Path) -> str:
    """The line about class folders without a list; empty when there are none."""
    if any(canonical(inner.name) for inner in subfolders(root, Counter())):
        return f"Name the list beside the class folders {LIST}, or take dataset.name: folder.\n"
    return ""


FORMS = (
    _Form(
        "affectnet-2017-csv",
        holds_lists,
        read_lists,
        None,
        f"training.csv and validation.csv beside a folder {IMAGES} or Manually_Annotated",
    ),
    _Form(
        "affectnet-2021-npy",
        holds_sets,
        read_sets,
        (224, 224),
        "folders train_set and val_set, each with images and annotations",
    ),
    _Form(
        "affectnet-noamsegal",
        holds_classes,
        read_classes,
        (96, 96),
        f"{LIST} beside eight class folders, anger to surprise",
    ),
)

DATASETS.register(
    NAME,
    DatasetSpec(
        read=read,
        prepare=preparation(
            NAME,
            "the authors' page (by application) or "
            "kaggle.com/datasets/noamsegal/affectnet-training-data",
        ),
        source=(
            "From its authors, by application and signed agreement: for research only, and the "
            "images may not be passed on."
        ),
        classes=EXPRESSIONS,
        labels=dict.fromkeys(("csv", "folder"), EXPRESSIONS),
    ),
)
