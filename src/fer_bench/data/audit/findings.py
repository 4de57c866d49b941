"""What is wrong with the images of a dataset: files that cannot be used, and copies that leak.

Which images are duplicates is known to `fer_bench.data.audit.duplicates`.
Blank images are a finding of their own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data.audit.duplicates import (
    LOOKED_FOR,
    NOT_LOOKED_FOR,
    Codes,
    Duplicates,
    Progress,
    Relation,
    find_duplicates,
    inspect_images,
    row_columns,
)
from fer_bench.data.audit.image_files import Seen
from fer_bench.data.audit.perceptual_hash import components
from fer_bench.data.manifest import EXAMPLES, Manifest, Problem, Severity
from fer_bench.labels import SPLITS

OTHER_LABEL = "duplicate with another label"
_EXCLUDE = "set dataset.exclude to the quarantine file"
_FILES: dict[str, tuple[Severity, str]] = {
    "missing": ("error", "files have vanished since the folder was read; unpack the download anew"),
    "undecodable": ("error", f"files hold no image that can be read; replace them, or {_EXCLUDE}"),
    "truncated": ("error", f"image files end too early; replace them, or {_EXCLUDE}"),
    "too_large": (
        "error",
        "files declare more than 89 million pixels, which no picture of a face has, and were not "
        f"decoded; {_EXCLUDE}",
    ),
    "blank": ("warning", f"images show one shade of grey and nothing else; {_EXCLUDE}"),
}
_CHANGED = "cropped, mirrored, turned, zoomed, shifted, sheared, brightened or edited"
_TWINS: dict[str, tuple[Severity, str]] = {
    "exact_duplicate_across_splits": (
        "error",
        f"images have an exact copy in another split, so that scores reward memory; {_EXCLUDE}",
    ),
    "near_duplicate_across_splits": (
        "error",
        f"images show a photograph that another split holds too, {_CHANGED}, so that scores reward "
        f"memory; {_EXCLUDE}",
    ),
    "exact_duplicate": (
        "warning",
        f"images have an exact copy in their own split; {_EXCLUDE}, which names those in train",
    ),
    "near_duplicate": (
        "info",
        f"images show a photograph that their own split holds twice, {_CHANGED}; set "
        "dataset.groups to the groups file, so that validation gets no copy from train",
    ),
    "exact_duplicate_labels_differ": (
        "error",
        f"images have an exact copy with another label; {_EXCLUDE}, which names those in train",
    ),
    "near_duplicate_labels_differ": (
        "warning",
        "images show a photograph that has another label elsewhere; look at some of them, for "
        "they bound the accuracy that can be reached",
    ),
}


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        manifest: what was audited.
        problems: those of the manifest, then those of the images. The `count` of a kind of
            duplicates is the number of images that have such a twin.
        image_sizes: number of files by size in pixels, width x height, the most frequent first.
        quarantine: columns `sample_id`, `path`, `reason` and `twin`; what `dataset.exclude` should
            leave out. Of copies in two splits that in the earlier one goes; of equal ones in train
            all but the first go, or all where their labels differ. Nothing in a test split is
            named but files that cannot be used and blank images. `twin` is the sample that is kept
            instead, a copy with another label, or empty.
        groups: columns `sample_id` and `group`, as `dataset.groups` takes it: everything that is
            linked by exact or near duplicates, named by its first sample.
    """

    manifest: Manifest
    problems: tuple[Problem, ...]
    image_sizes: dict[str, int]
    quarantine: pd.DataFrame
    groups: pd.DataFrame

    @property
    def failed(self) -> bool:
        """Whether any problem is an error."""
        return any(problem.severity == "error" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """As `fer data audit --json` prints it; the fingerprint is None where files are missing."""
        manifest = self.manifest
        try:
            fingerprint = manifest.fingerprint
        except OSError:  # reported as a problem
            fingerprint = None
        return {
            "dataset": manifest.name,
            "release": manifest.release,
            "fingerprint": fingerprint,
            "classes": list(manifest.classes),
            "counts": manifest.counts(),
            "dropped": dict(manifest.dropped),
            "problems": [problem.to_json() for problem in self.problems],
            "copies": {"looked_for": list(LOOKED_FOR), "not_looked_for": list(NOT_LOOKED_FOR)},
            "image_sizes": self.image_sizes,
            "quarantined": len(self.quarantine),
        }


def audit(
    manifest: Manifest,
    overlaps: Mapping[str, str],
    workers: int | None,
    on_progress: Progress | None = None,
    on_compared: Progress | None = None,
) -> Audit:
    """Read every image of a dataset and look for what makes numbers measured on it doubtful.

    Args:
        manifest: the dataset in its official splits.
        overlaps: other datasets that hold some of the same images, and which these are.
        workers: number of threads; None means one a usable core.
        on_progress: called with (images read, images in all).
        on_compared: called with (different images compared, different images in all).
    """
    # The findings must not depend on the order in which an adapter lists its samples.
    samples = manifest.samples.sort_values("sample_id", ignore_index=True)
    ordered = replace(manifest, samples=samples)
    seen = inspect_images(ordered, workers, on_progress)
    twins = find_duplicates(seen, on_compared=on_compared)
    problems = (
        *manifest.problems,
        *_file_problems(ordered, seen),
        *_twin_problems(samples, twins),
        *_contamination(manifest.name, overlaps),
    )
    sizes = Counter(file.size for file in seen if file.size)
    return Audit(
        manifest,
        problems,
        dict(sizes.most_common()),
        _quarantine(samples, seen, twins),
        _groups(samples, twins),
    )


# Files -----------------------------------------------------------------------------------------


def _file_problems(manifest: Manifest, seen: list[Seen]) -> Iterator[Problem]:
    names = manifest.samples["sample_id"]
    for kind, (severity, text) in _FILES.items():
        found = [(name, file) for name, file in zip(names, seen, strict=True) if file.kind == kind]
        if found:
            examples = tuple(f"{name} ({file.detail})" for name, file in found[:EXAMPLES])
            yield Problem(kind, severity, len(found), examples, text)
    if manifest.image_size:
        height, width = manifest.image_size
        expected = f"{width}x{height}"
        wrong = [
            f"{name} ({file.size})"
            for name, file in zip(names, seen, strict=True)
            if file.size not in ("", expected)
        ]
        if wrong:
            text = f"images are not {expected} as in {manifest.release}; use the official files"
            yield Problem("wrong_size", "warning", len(wrong), tuple(wrong[:EXAMPLES]), text)


def _contamination(name: str, overlaps: Mapping[str, str]) -> Iterator[Problem]:
    for other, which in overlaps.items():
        text = (
            f"dataset {name} shares images with dataset {other}: {which}; never train on one of "
            "them to be tested on the other"
        )
        yield Problem("known_contamination", "warning", 1, (other,), text)


# Duplicates ------------------------------------------------------------------------------------


def _twin_problems(samples: pd.DataFrame, twins: Duplicates) -> Iterator[Problem]:
    splits = _codes(samples["split"], SPLITS)
    labels = _codes(samples["label"], sorted(set(samples["label"])))
    cases = (
        ("_across_splits", splits, True),
        ("", splits, False),
        ("_labels_differ", labels, True),
    )
    relations: tuple[Relation, ...] = ("exact", "near")
    for suffix, categories, differ in cases:
        for relation in relations:
            counts = twins.count(relation, categories)
            alike = counts[np.arange(len(counts)), categories]
            concerned = np.flatnonzero(counts.sum(axis=1) > alike if differ else alike)
            if not len(concerned):
                continue
            kind = f"{relation}_duplicate{suffix}"
            severity, text = _TWINS[kind]
            if kind == "exact_duplicate_labels_differ" and not (splits[concerned] == 0).any():
                severity = "warning"  # nothing can be left out: other splits stay as they are
            pairs = _example_pairs(twins, relation, categories, differ, concerned)
            examples = tuple(_shown(samples, *pair) for pair in pairs)
            where = _across(counts, splits) if categories is splits and differ else ""
            where = where or _within(splits[concerned])
            yield Problem(kind, severity, len(concerned), examples, f"{text} ({where})")


def _codes(column: "pd.Series[str]", names: Iterable[str]) -> Codes:
    codes = {name: code for code, name in enumerate(names)}
    return np.array([codes[name] for name in column], dtype=np.intp)


def _within(splits: Codes) -> str:
    """How many of the images lie in each split."""
    return ", ".join(f"{SPLITS[code]} {sum(splits == code)}" for code in np.unique(splits))


def _across(counts: NDArray[np.int64], splits: Codes) -> str:
    """How many images have a twin in the other split, for each pair of splits."""
    shown = []
    for one, other in combinations(range(counts.shape[1]), 2):
        first = int(((splits == one) & (counts[:, other] > 0)).sum())
        second = int(((splits == other) & (counts[:, one] > 0)).sum())
        if first:
            names = f"{SPLITS[one]}/{SPLITS[other]}"
            shown.append(f"{names} {first + second} = {first} + {second}")
    return ", ".join(shown)


def _example_pairs(
    twins: Duplicates, relation: Relation, categories: Codes, differ: bool, concerned: Codes
) -> list[tuple[int, int]]:
    pairs: dict[tuple[int, int], None] = {}
    for image in concerned:
        others = twins.of(image, relation)
        other = others[(categories[others] != categories[image]) == differ][0]
        pairs[min(image, other), max(image, other)] = None
        if len(pairs) == EXAMPLES:
            break
    return list(pairs)


def _shown(samples: pd.DataFrame, one: int, other: int) -> str:
    rows = samples.iloc[sorted((one, other), key=lambda row: SPLITS.index(samples["split"][row]))]
    names, labels = rows["sample_id"].tolist(), rows["label"].tolist()
    if labels[0] != labels[1]:
        names = [f"{name} ({label})" for name, label in zip(names, labels, strict=True)]
    return " = ".join(names)


def _groups(samples: pd.DataFrame, twins: Duplicates) -> pd.DataFrame:
    known = twins.contents >= 0
    pairs = np.stack(twins.near.nonzero(), axis=1)
    component = components(twins.near.shape[0], pairs)[twins.contents[known]]
    names = samples.loc[known, "sample_id"].reset_index(drop=True)
    by_component = names.groupby(component)
    groups = pd.DataFrame({"sample_id": names, "group": by_component.transform("min")})
    groups = groups[by_component.transform("size") > 1]
    return groups.sort_values(["group", "sample_id"], ignore_index=True)


# Quarantine ------------------------------------------------------------------------------------

# The images of one content in one split, which share their fate.
_Cells = dict[tuple[int, str], list[int]]
# An image that goes: why, and the index of its twin.
_Leaving = dict[int, tuple[str, int]]


def _quarantine(samples: pd.DataFrame, seen: list[Seen], twins: Duplicates) -> pd.DataFrame:
    names = samples["sample_id"].tolist()
    cells = _cells(samples, twins)
    leaving = _copies_in_later_splits(cells, twins)
    leaving |= _surplus_copies(cells, leaving, samples["label"].tolist())
    rows = []
    for image, (name, path, file) in enumerate(zip(names, samples["path"], seen, strict=True)):
        if file.kind:
            rows.append((name, path, file.kind, ""))
        elif image in leaving:
            reason, twin = leaving[image]
            rows.append((name, path, reason, names[twin]))
    return pd.DataFrame(rows, columns=["sample_id", "path", "reason", "twin"])


def _cells(samples: pd.DataFrame, twins: Duplicates) -> _Cells:
    cells: _Cells = {}
    cells_of_images = zip(twins.contents.tolist(), samples["split"], strict=True)
    for image, (content, split) in enumerate(cells_of_images):
        if content >= 0:
            cells.setdefault((content, split), []).append(image)
    return cells


def _copies_in_later_splits(cells: _Cells, twins: Duplicates) -> _Leaving:
    leaving: _Leaving = {}
    kept = dict(cells)
    # From the last split on: a copy goes only where the other one stays.
    for position in reversed(range(len(SPLITS) - 1)):
        later = SPLITS[:position:-1]
        for content, split in sorted(cells):
            if split == SPLITS[position] and (found := _kept_copy(content, later, kept, twins)):
                leaving |= dict.fromkeys(kept.pop((content, split)), found)
    return leaving


def _kept_copy(
    content: int, splits: Iterable[str], kept: _Cells, twins: Duplicates
) -> tuple[str, int] | None:
    """The reason to leave `content` out, and the twin in one of `splits`; exact ones first."""
    near = row_columns(twins.near, content).tolist()
    for relation, contents in (("exact", [content]), ("near", near)):
        for split in splits:
            for other in contents:
                if (other, split) in kept:
                    return f"{relation} duplicate in {split}", kept[other, split][0]
    return None


def _surplus_copies(cells: _Cells, leaving: _Leaving, labels: list[str]) -> _Leaving:
    surplus: _Leaving = {}
    for (_, split), images in cells.items():
        if split != "train" or images[0] in leaving:
            continue
        first, *others = images
        contrary = {labels[image]: image for image in reversed(images)}
        if len(contrary) == 1:
            surplus |= dict.fromkeys(others, ("exact duplicate in train", first))
            continue
        for image in images:
            twin = min(other for label, other in contrary.items() if label != labels[image])
            surplus[image] = (OTHER_LABEL, twin)
    return surplus
