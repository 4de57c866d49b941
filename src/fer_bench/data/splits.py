"""Seeded splits of samples, which depend on the set of samples and never on their order."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer_bench.errors import DataError


def carve(samples: pd.DataFrame, into: str, fraction: float, seed: int) -> pd.DataFrame:
    """Move about `fraction` of each class of the `train` rows to the split `into`.

    Without a column `group`, the share of every class is exact to one sample. With it, groups (a
    person, a video) move as a whole and the shares are as close as the groups allow; a sample
    without a group is a group of its own.

    Args:
        samples: columns `sample_id`, `split`, `label` and perhaps `group`; left as it is.
        into: the new split, `validation` or `test`.
        fraction: the share to move, in (0, 1).
        seed: another seed moves other samples.

    Returns:
        The same rows in the same order, with the new `split`.

    Raises:
        DataError: a class is too small for both parts.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    in_train = samples["split"] == "train"
    train = samples[in_train]
    if train.empty:
        raise DataError(
            f"no samples in the train split to take a {into} split from.\n"
            "Check that dataset.root names the whole dataset."
        )
    if "group" in train and train["group"].duplicated(keep=False)[train["group"].notna()].any():
        moved = in_train & _chosen_by_groups(samples, in_train, into, fraction, seed)
    else:
        moved = in_train & samples["sample_id"].isin(_chosen_singly(train, into, fraction, seed))
    _check_both_parts(samples[in_train], moved[in_train], into)
    return samples.assign(split=samples["split"].mask(moved, into))


def keep_fraction(samples: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, int]:
    """Keep a share of the `train` rows of every class, at least one row of each.

    What a smaller fraction keeps, a larger one keeps too, so that the results for several fractions
    are a learning curve.

    Args:
        samples: columns `sample_id`, `split` and `label`; left as it is.
        fraction: the share to keep, in (0, 1).
        seed: another seed keeps other samples.

    Returns:
        The remaining rows, in their order with index 0..n-1, and the number of dropped rows.
    """
    classes = _shuffled_classes(samples, f"fraction\t{seed}\t")
    kept = (max(math.floor(len(names) * fraction + 0.5), 1) for names in classes)
    surplus = {name for names, most in zip(classes, kept, strict=True) for name in names[most:]}
    return _without(samples, surplus)


def undersample(
    samples: pd.DataFrame, seed: int, per_class: int | None = None
) -> tuple[pd.DataFrame, int]:
    """Reduce the `train` rows of every class to at most `per_class`.

    Args:
        samples: columns `sample_id`, `split` and `label`; left as it is.
        seed: another seed keeps other samples.
        per_class: None means the size of the smallest class.

    Returns:
        The remaining rows, in their order with index 0..n-1, and the number of dropped rows.
    """
    classes = _shuffled_classes(samples, f"undersample\t{seed}\t")
    most = per_class or min(map(len, classes), default=0)
    return _without(samples, {name for names in classes for name in names[most:]})


def _shuffled_classes(samples: pd.DataFrame, key: str) -> list[list[str]]:
    """The ids of the `train` rows of each class, in the random order of `_shuffled`."""
    train = samples[samples["split"] == "train"]
    return [_shuffled(names.tolist(), key) for _, names in train.groupby("label")["sample_id"]]


def _without(samples: pd.DataFrame, surplus: set[str]) -> tuple[pd.DataFrame, int]:
    stays = ~samples["sample_id"].isin(surplus)
    return samples[stays].reset_index(drop=True), len(surplus)


def join_groups(samples: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Put samples into one group that share a group in `samples` or `groups`, or a chain of both.

    Args:
        samples: column `sample_id` and perhaps `group`.
        groups: columns `sample_id` and `group`; ids that are not in `samples` are ignored.

    Returns:
        `samples` with a column `group`, NaN for a sample without a group.
    """
    by_id = groups.drop_duplicates("sample_id").set_index("sample_id")["group"]
    known = samples["sample_id"].map(by_id)
    if "group" not in samples:
        return samples.assign(group=known)
    # Both kinds of group are nodes of one graph, samples its edges.
    named = [
        (f"{kind} " + column.astype(str)).where(column.notna())
        for kind, column in (("own", samples["group"]), ("given", known))
    ]
    codes, names = pd.factorize(pd.concat(named))
    first, second = codes[: len(samples)], codes[len(samples) :]
    both = (first >= 0) & (second >= 0)
    component = components(len(names), np.stack([first[both], second[both]], axis=1))
    code = np.where(first >= 0, first, second)
    group = [f"group {component[node]}" if node >= 0 else None for node in code]
    return samples.assign(group=pd.Series(group, index=samples.index, dtype=object))


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int32]:
    """The index of the connected component of each of `count` nodes, linked by pairs (m, 2)."""
    if not count:
        return np.empty(0, dtype=np.int32)
    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels: NDArray[np.int32] = connected_components(edges, directed=False)[1]
    return labels


def split_digest(samples: pd.DataFrame) -> str:
    """SHA-256 over the split of every sample, independent of the order of the rows."""
    pairs = zip(samples["sample_id"].tolist(), samples["split"].tolist(), strict=True)
    lines = sorted(f"{name}\t{split}" for name, split in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _shuffled(names: Iterable[str], key: str) -> list[str]:
    """The names in a random order in which the rank of each depends only on `key` and itself."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{key}{name}".encode()).digest())


def _chosen_singly(train: pd.DataFrame, into: str, fraction: float, seed: int) -> set[str]:
    """The ids to move when there are no groups: the first of each class by rank."""
    chosen: set[str] = set()
    for _, names in train.groupby("label")["sample_id"]:
        # The number whose share is nearest to the fraction; the larger of two equally near ones.
        nearest = math.floor(len(names) * fraction + 0.5)
        number = min(max(nearest, 1), len(names) - 1)
        chosen.update(_shuffled(names.tolist(), f"{into}\t{seed}\tsample ")[:number])
    return chosen


def _chosen_by_groups(
    samples: pd.DataFrame, in_train: "pd.Series[bool]", into: str, fraction: float, seed: int
) -> "pd.Series[bool]":
    """Which rows to move when groups move as a whole."""
    groups = _groups(samples)
    # Sorted, because a sum of floats depends on the order of its terms.
    train = samples[in_train].assign(group=groups[in_train]).sort_values("sample_id")
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(train["group"], train["label"], strict=True):
        members[group][label] += 1
    order = _shuffled(members, f"{into}\t{seed}\t")
    return groups.isin(_choose_groups({group: members[group] for group in order}, fraction))


def _groups(samples: pd.DataFrame) -> pd.Series:
    """The group of every row, as text; a row without one is its own group."""
    alone = "sample " + samples["sample_id"].astype(str)
    return ("group " + samples["group"].astype(str)).where(samples["group"].notna(), alone)


def _choose_groups(members: Mapping[str, Counter[str]], fraction: float) -> set[str]:
    """Take a group when that brings the shares of its classes closer to `fraction`.

    Groups are tried in the order of `members`. Then each class that is still missing gets the
    smallest group with it. A group with all remaining samples of a class is never taken.
    """
    sizes = sum(members.values(), Counter[str]())
    taken = Counter[str]()
    chosen: set[str] = set()

    def leaves_every_class(group: str) -> bool:
        return all(taken[label] + count < sizes[label] for label, count in members[group].items())

    def take(group: str) -> None:
        chosen.add(group)
        taken.update(members[group])

    for group, labels in members.items():
        if _gain(labels, taken, sizes, fraction) > 0 and leaves_every_class(group):
            take(group)
    for label in sorted(sizes):
        if not taken[label]:
            fitting = [
                group for group in members if members[group][label] and leaves_every_class(group)
            ]
            if fitting:
                take(min(fitting, key=lambda group: members[group].total()))
    return chosen


def _gain(labels: Counter[str], taken: Counter[str], sizes: Counter[str], fraction: float) -> float:
    """By how much taking `labels` reduces the squared distances of the shares from `fraction`."""
    return sum(
        (taken[label] / sizes[label] - fraction) ** 2
        - ((taken[label] + count) / sizes[label] - fraction) ** 2
        for label, count in labels.items()
    )


def _check_both_parts(train: pd.DataFrame, moved: "pd.Series[bool]", into: str) -> None:
    parts = train["label"].groupby([train["label"], moved]).size().unstack(fill_value=0)
    for label, row in parts.iterrows():
        if len(parts.columns) < 2 or not row.all():
            rows = train[train["label"] == label]
            grouped = "group" in rows and rows["group"].nunique() < len(rows)
            groups = f" in {rows['group'].nunique(dropna=False)} group(s)" if grouped else ""
            raise DataError(
                f"class '{label}' has {len(rows)} train sample(s){groups}, too few for both "
                f"training and {into}.\n"
                "Add samples of this class, or leave it out of the dataset."
            )
