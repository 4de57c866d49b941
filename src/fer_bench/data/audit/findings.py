"""The audit: files that cannot be used, duplicates that leak, and what to leave out.

`fer_bench.data.audit.duplicates` finds the duplicates. Blank images are a finding of their own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

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
from fer_bench.data.manifest import (
    EXAMPLES,
    Manifest,
    ManifestDocument,
    Problem,
    Severity,
    problem_of,
)
from fer_bench.data.splits import components
from fer_bench.labels import SPLITS

OTHER_LABEL = "duplicate with another label"
_EXCLUDE = "set dataset.exclude to the quarantine file"
_FILES: dict[str, tuple[Severity, str]] = {
    "missing": ("error", "files were removed after the folder was read; unpack the download again"),
    "undecodable": ("error", f"files are not readable images; replace them, or {_EXCLUDE}"),
    "truncated": ("error", f"image files end too early; replace them, or {_EXCLUDE}"),
    "too_large": (
        "error",
        "files declare more than 89 million pixels, unlike any picture of a face, and were not "
        f"decoded; {_EXCLUDE}",
    ),
    "blank": ("warning", f"images show one shade of grey and nothing else; {_EXCLUDE}"),
}
_CHANGED = "cropped, mirrored, turned, zoomed, shifted, sheared, brightened or edited"
_DUPLICATES: dict[str, tuple[Severity, str]] = {
    "exact_duplicate_across_splits": (
        "error",
        f"images have an exact copy in another split, so scores reward memorisation; {_EXCLUDE}",
    ),
    "near_duplicate_across_splits": (
        "error",
        f"images show a photograph that is in another split too, {_CHANGED}, so scores reward "
        f"memorisation; {_EXCLUDE}",
    ),
    "exact_duplicate": (
        "warning",
        f"images have an exact copy in their own split; {_EXCLUDE}, which names those in train",
    ),
    "near_duplicate": (
        "info",
        f"images show a photograph that is in their own split more than once, {_CHANGED}; set "
        "dataset.groups to the groups file, so that validation gets no copy from train",
    ),
    "exact_duplicate_labels_differ": (
        "error",
        f"images have an exact copy with another label; {_EXCLUDE}, which names those in train",
    ),
    "near_duplicate_labels_differ": (
        "warning",
        "images show a photograph that has another label elsewhere; look at some of them: they "
        "limit the accuracy that can be reached",
    ),
}


class AuditDocument(ManifestDocument):
    """The document of `fer data audit`; `quarantined` is the number of samples to leave out.

    `copies` has the kinds of copies that were `looked_for` and `not_looked_for`.
    """

    copies: dict[str, list[str]]
    image_sizes: dict[str, int]
    quarantined: int


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        manifest: the audited dataset.
        problems: those of the manifest, then those of the images. For duplicates, `count` is the
            number of images that have one.
        image_sizes: number of files per size in pixels, width x height, the most frequent first.
        quarantine: columns `sample_id`, `path`, `reason` and `twin`; the samples that
            `dataset.exclude` should leave out. Of duplicates in two splits, the one in the earlier
            split; of exact duplicates in train, all but the first, or all if their labels differ;
            of a test split, only blank images and files that cannot be used. `twin` is the
            duplicate that is kept, or one with another label, or empty.
        groups: columns `sample_id` and `group`, for `dataset.groups`: samples that exact or near
            duplicates link are one group, named after its first sample.
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

    def to_json(self) -> AuditDocument:
        """The document that `fer data audit --json` prints."""
        return {
            **self.manifest.to_json(),
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
    """Read every image of a dataset, and look for anything that makes results on it doubtful.

    Args:
        manifest: the dataset in its official splits.
        overlaps: other datasets with some of the same images, and which images these are.
        workers: number of threads; None means one per usable core.
        on_progress: called with (images read, all images).
        on_compared: called with (different images compared, all different images).
    """
    # The findings must not depend on the order in which an adapter lists its samples.
    samples = manifest.samples.sort_values("sample_id", ignore_index=True)
    ordered = replace(manifest, samples=samples)
    seen = inspect_images(ordered, workers, on_progress)
    duplicates = find_duplicates(seen, on_compared=on_compared)
    problems = (
        *manifest.problems,
        *_file_problems(ordered, seen),
        *_duplicate_problems(samples, duplicates),
        *_contamination(manifest.name, overlaps),
    )
    sizes = Counter(file.size for file in seen if file.size)
    return Audit(
        manifest,
        problems,
        dict(sizes.most_common()),
        _quarantine(samples, seen, duplicates),
        _groups(samples, duplicates),
    )


# Files -----------------------------------------------------------------------------------------


def _file_problems(manifest: Manifest, seen: list[Seen]) -> Iterator[Problem]:
    names = manifest.samples["sample_id"]
    for kind, (severity, text) in _FILES.items():
        found = [
            f"{name} ({file.detail})"
            for name, file in zip(names, seen, strict=True)
            if file.kind == kind
        ]
        yield from problem_of(kind, severity, found, text)
    if manifest.image_size:
        height, width = manifest.image_size
        expected = f"{width}x{height}"
        wrong = [
            f"{name} ({file.size})"
            for name, file in zip(names, seen, strict=True)
            if file.size not in ("", expected)
        ]
        text = f"images are not {expected} as in {manifest.release}; use the official files"
        yield from problem_of("wrong_size", "warning", wrong, text)


def _contamination(name: str, overlaps: Mapping[str, str]) -> Iterator[Problem]:
    for other, which in overlaps.items():
        text = (
            f"dataset {name} shares images with dataset {other}: {which}; do not train on one of "
            "them and test on the other"
        )
        yield Problem("known_contamination", "warning", 1, (other,), text)


# Duplicates ------------------------------------------------------------------------------------


def _duplicate_problems(samples: pd.DataFrame, duplicates: Duplicates) -> Iterator[Problem]:
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
            counts = duplicates.count(relation, categories)
            alike = counts[np.arange(len(counts)), categories]
            concerned = np.flatnonzero(counts.sum(axis=1) > alike if differ else alike)
            if not len(concerned):
                continue
            kind = f"{relation}_duplicate{suffix}"
            severity, text = _DUPLICATES[kind]
            if kind == "exact_duplicate_labels_differ" and not (splits[concerned] == 0).any():
                severity = "warning"  # only images in train can be left out
            pairs = _example_pairs(duplicates, relation, categories, differ, concerned)
            examples = tuple(_shown(samples, *pair) for pair in pairs)
            where = _across(counts, splits) if categories is splits and differ else ""
            sizes = Counter(splits[concerned].tolist())
            where = where or ", ".join(f"{SPLITS[code]} {sizes[code]}" for code in sorted(sizes))
            yield Problem(kind, severity, len(concerned), examples, f"{text} ({where})")


def _codes(column: "pd.Series[str]", names: Iterable[str]) -> Codes:
    codes = {name: code for code, name in enumerate(names)}
    return np.array([codes[name] for name in column], dtype=np.intp)


def _across(counts: NDArray[np.int64], splits: Codes) -> str:
    """For each pair of splits, the number of images with a duplicate in the other one, as text."""
    shown = []
    for one, other in combinations(range(counts.shape[1]), 2):
        first = int(((splits == one) & (counts[:, other] > 0)).sum())
        second = int(((splits == other) & (counts[:, one] > 0)).sum())
        if first:
            names = f"{SPLITS[one]}/{SPLITS[other]}"
            shown.append(f"{names} {first + second} = {first} + {second}")
    return ", ".join(shown)


def _example_pairs(
    duplicates: Duplicates, relation: Relation, categories: Codes, differ: bool, concerned: Codes
) -> list[tuple[int, int]]:
    pairs: dict[tuple[int, int], None] = {}
    for image in concerned:
        others = duplicates.of(image, relation)
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


def _groups(samples: pd.DataFrame, duplicates: Duplicates) -> pd.DataFrame:
    known = duplicates.contents >= 0
    pairs = np.stack(duplicates.near.nonzero(), axis=1)
    component = components(duplicates.near.shape[0], pairs)[duplicates.contents[known]]
    names = samples.loc[known, "sample_id"].reset_index(drop=True)
    by_component = names.groupby(component)
    groups = pd.DataFrame({"sample_id": names, "group": by_component.transform("min")})
    groups = groups[by_component.transform("size") > 1]
    return groups.sort_values(["group", "sample_id"], ignore_index=True)


# Quarantine ------------------------------------------------------------------------------------

# (content, split) → the images with it, which are kept or left out together.
_Cells = dict[tuple[int, str], list[int]]
# An image to leave out → the reason, and the index of its duplicate.
_Leaving = dict[int, tuple[str, int]]


def _quarantine(samples: pd.DataFrame, seen: list[Seen], duplicates: Duplicates) -> pd.DataFrame:
    names = samples["sample_id"].tolist()
    cells = _cells(samples, duplicates)
    leaving = _copied_in_later_splits(cells, duplicates)
    leaving |= _surplus_copies(cells, leaving, samples["label"].tolist())
    rows = []
    for image, (name, path, file) in enumerate(zip(names, samples["path"], seen, strict=True)):
        if file.kind:
            rows.append((name, path, file.kind, ""))
        elif image in leaving:
            reason, twin = leaving[image]
            rows.append((name, path, reason, names[twin]))
    return pd.DataFrame(rows, columns=["sample_id", "path", "reason", "twin"])


def _cells(samples: pd.DataFrame, duplicates: Duplicates) -> _Cells:
    cells: _Cells = {}
    cells_of_images = zip(duplicates.contents.tolist(), samples["split"], strict=True)
    for image, (content, split) in enumerate(cells_of_images):
        if content >= 0:
            cells.setdefault((content, split), []).append(image)
    return cells


def _copied_in_later_splits(cells: _Cells, duplicates: Duplicates) -> _Leaving:
    leaving: _Leaving = {}
    kept = dict(cells)
    # The last splits first: an image is only left out for a duplicate that is kept.
    for position in reversed(range(len(SPLITS) - 1)):
        later = SPLITS[:position:-1]
        for content, split in sorted(cells):
            if split != SPLITS[position]:
                continue
            if found := _kept_copy(content, later, kept, duplicates):
                leaving |= dict.fromkeys(kept.pop((content, split)), found)
    return leaving


def _kept_copy(
    content: int, splits: Iterable[str], kept: _Cells, duplicates: Duplicates
) -> tuple[str, int] | None:
    """The reason to leave `content` out and its duplicate in one of `splits`; exact ones first."""
    near = row_columns(duplicates.near, content).tolist()
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
