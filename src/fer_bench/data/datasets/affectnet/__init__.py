"""AffectNet, in the three forms in which it is distributed.

- 2017: two CSV lists and whole photographs; the lists give the box of each face.
- 2021: faces of 224 px, and four tiny npy files for every face; the same number names different
  faces in `train_set` and `val_set`.
- Kaggle, by noamsegal: 29,042 faces of 96 px in class folders, and a list that contradicts them.

There is no public test split: everyone reports on the official validation split, which is therefore
`test` here.
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
    reading_download,
    subfolders,
    unpack_advice,
)
from fer_bench.data.manifest import Manifest, has_unsupported, left_out
from fer_bench.data.releases import Counts, counts, with_release
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
    """The images below the root, with valence and arousal if the release has them.

    Raises: DataError when the layout is none of the three, or a list names a file outside it.
    """
    root, findings = config.root, Findings()
    with reading_download(NAME, root) as followed:
        folder, form = _find_form(root)
        if config.labels and form.release != "affectnet-noamsegal":
            raise DataError(f"dataset.labels has no effect on {form.release}.\nRemove it.")
        samples, found = form.read(folder, config, findings)
        wrapper = folder.relative_to(root).as_posix()
        if wrapper != ".":
            samples["path"] = f"{wrapper}/" + samples["path"]
        samples = followed.without_copies(samples, findings.dropped)
        if samples.empty:
            raise DataError(
                f"no image with a label; left out: {left_out(findings.dropped)}.\n"
                f"{CONVERT if has_unsupported(findings.dropped) else INCOMPLETE}"
            )
        problems = (*findings.problems, *followed.problems())
    samples, dropped = samples.reset_index(drop=True), dict(findings.dropped)
    manifest = Manifest(NAME, "", root, EXPRESSIONS, 3, samples, dropped, problems, form.image_size)
    return with_release(manifest, form.release, {form.release: RELEASES[form.release]}, found)


class _Form(NamedTuple):
    """One of the forms of the dataset.

    `read` returns the samples, with paths relative to the given folder, and the numbers of images
    by which the release is recognised.
    """

    release: str
    holds: Callable[[Path], bool]
    read: Callable[[Path, Dataset, Findings], tuple[pd.DataFrame, Counts]]
    image_size: tuple[int, int] | None
    expected: str


def _find_form(root: Path) -> tuple[Path, _Form]:
    """The folder of the release, which is `root` or inside a wrapper, and its form."""

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
        raise DataError(f"'{folder.name}' contains both {names}.\nKeep each in its own folder.")
    return folder, found[0]


def _list_advice(root: Path) -> str:
    """The line about class folders without a list; empty when there are none."""
    if any(canonical(inner.name) for inner in subfolders(root, Counter())):
        return f"Name the list beside the class folders {LIST}, or use dataset.name: folder.\n"
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
            "images may not be redistributed."
        ),
        classes=EXPRESSIONS,
        labels=dict.fromkeys(("csv", "folder"), EXPRESSIONS),
    ),
)
