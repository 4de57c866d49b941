"""AffectNet as copied to Kaggle: one folder per class, and one CSV list."""

from collections import Counter
from pathlib import Path

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.affectnet.shared import (
    NO_FILE,
    OUTSIDE,
    UNLISTED,
    Findings,
    count_labels,
)
from fer_bench.data.files.folders import (
    class_folders,
    class_images,
    has_file,
    inside,
    read_table,
    subfolders,
)
from fer_bench.data.manifest import COLUMNS
from fer_bench.data.releases import Counts
from fer_bench.labels import EXPRESSIONS, canonical

LIST = "labels.csv"


def holds_classes(folder: Path) -> bool:
    """Whether `folder` holds this copy."""
    inner = subfolders(folder, Counter())
    return has_file(folder, LIST) and any(canonical(path.name) for path in inner)


def read_classes(folder: Path, config: Dataset, findings: Findings) -> tuple[pd.DataFrame, Counts]:
    """The samples of this copy, and its numbers of images."""
    files = _class_files(folder, findings.dropped)
    rows = _class_list(folder / LIST, findings).merge(files, how="outer", on="key")
    rows = rows.assign(split="train", sample_id=rows["path"])
    _report_disagreement(rows, config.labels or "csv", findings)

    absent = rows["path"].isna()
    findings.report_no_file(rows.loc[absent, "pth"])
    rows = findings.drop(rows, absent, NO_FILE)
    found = count_labels(rows.assign(label=rows["folder"]))
    unlisted = rows["pth"].isna()
    if config.labels == "folder":
        findings.report_unlisted(rows.loc[unlisted, "path"], "info")
        return rows.assign(label=rows["folder"])[list(COLUMNS)], found
    findings.report_unlisted(rows.loc[unlisted, "path"])
    rows = findings.drop(rows, unlisted, UNLISTED)
    unknown = rows["label"].isna()
    names = [f"{row.path}: {row.text!r}" for row in rows[unknown].itertuples()]
    text = f"these labels in {LIST} are unknown expressions; get the list again"
    findings.report("label_unknown", "error", names, text)
    return findings.drop(rows, unknown, OUTSIDE)[list(COLUMNS)], found


def _class_files(folder: Path, dropped: Counter[str]) -> pd.DataFrame:
    """All images: `path`, class of the `folder`, and a `key` to find it in the list."""
    dropped["outside a class folder"] -= 1  # the list itself
    files = [
        (f"{label}/{name}", f"{inner.name}/{name}", label)
        for label, inner in class_folders(folder, EXPRESSIONS, dropped, complete=False).items()
        for name in class_images(inner, dropped)
    ]
    dropped += Counter[str]()  # without what is 0
    return pd.DataFrame(files, columns=["key", "path", "folder"])


def _class_list(path: Path, findings: Findings) -> pd.DataFrame:
    """All rows of the list: its `pth` and `text`, `label` or NaN, and `key`."""
    table = read_table(path, ("pth", "label")).rename(columns={"label": "text"})
    names = [inside(name, path.name) for name in table["pth"]]
    parts = [name.rpartition("/") for name in names]
    keys = [f"{canonical(parent) or parent}/{name}" for parent, _, name in parts]
    rows = table.assign(pth=names, key=keys, label=table["text"].map(canonical))
    return findings.drop_repeated(rows, "key")


def _report_disagreement(rows: pd.DataFrame, used: str, findings: Findings) -> None:
    both = rows[rows["folder"].notna() & rows["label"].notna()]
    other = both[both["folder"] != both["label"]]
    rate = len(other) / max(len(both), 1)
    text = (
        f"{len(other):,} of {len(both):,} images ({rate:.1%}) are in another class folder than "
        f"{LIST} says; dataset.labels: {used} decides"
    )
    names = [f"{row.path}: {row.label}" for row in other.itertuples()]
    findings.report("label_disagreement", "warning", names, text)
