"""Seeded ways to divide samples that depend on which samples there are, never on their order."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import pandas as pd

from fer_bench.errors import DataError


def carve_validation(samples: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Move about `fraction` of each class of the `train` rows to the `validation` split.

    Without a column `group`, the share of every class is exact to one sample. With it, groups (a
    person, a video) move as a whole and the shares are as close as the groups allow; a sample of
    unknown group stands alone.

    Args:
        samples: columns `sample_id`, `split`, `label` and perhaps `group`; left as it is.
        fraction: the part to move, in (0, 1).
        seed: another seed moves other samples.

    Returns:
        The same rows in the same order, with the new `split`.

    Raises:
        DataError: a class is too small to be in both parts.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    groups = _groups(samples)
    in_train = samples["split"] == "train"
    # Sorted, because a sum of floats depends on the order of its terms.
    train = samples[in_train].assign(group=groups[in_train]).sort_values("sample_id")
    if train.empty:
        raise DataError(
            "no samples in the train split to take a validation split from.\n"
            "Check that dataset.root names the whole dataset."
        )
    members = _labels_by_group(train)
    order = sorted(members, key=lambda group: _rank("validation", seed, group))
    chosen = _choose_groups({group: members[group] for group in order}, fraction)
    _check_both_parts(members, chosen)
    moved = in_train & groups.isin(chosen)
    return samples.assign(split=samples["split"].mask(moved, "validation"))


def undersample(samples: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, int]:
    """Reduce the `train` rows of every class to the number that the smallest class has.

    Returns:
        The rows that stay, in their order with index 0..n-1, and the number of rows dropped.
    """
    train = samples[samples["split"] == "train"]
    classes = [
        sorted(names, key=lambda name: _rank("undersample", seed, name))
        for _, names in train.groupby("label")["sample_id"]
    ]
    smallest = min(map(len, classes), default=0)
    surplus = {name for names in classes for name in names[smallest:]}
    stays = ~samples["sample_id"].isin(surplus)
    return samples[stays].reset_index(drop=True), len(surplus)


def split_digest(samples: pd.DataFrame) -> str:
    """SHA-256 over which sample is in which split, whatever the order of the rows."""
    pairs = zip(samples["sample_id"], samples["split"], strict=True)
    lines = sorted(f"{name}\t{split}" for name, split in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _rank(purpose: str, seed: int, name: str) -> str:
    """A place in a random order that depends on nothing but the arguments."""
    return hashlib.sha256(f"{purpose}\t{seed}\t{name}".encode()).hexdigest()


def _groups(samples: pd.DataFrame) -> pd.Series:
    """The group of every row, as text; a row without one is its own group."""
    alone = "sample " + samples["sample_id"].astype(str)
    if "group" not in samples:
        return alone
    return ("group " + samples["group"].astype(str)).where(samples["group"].notna(), alone)


def _labels_by_group(train: pd.DataFrame) -> dict[str, Counter[str]]:
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(train["group"], train["label"], strict=True):
        members[group][label] += 1
    return members


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    total = Counter[str]()
    for labels in counts:
        total.update(labels)
    return total


def _choose_groups(members: Mapping[str, Counter[str]], fraction: float) -> set[str]:
    """Take a group when that brings the shares of its classes closer to `fraction`.

    Groups are offered in the order of `members`. Then each class still missing gets the smallest
    group that has it. No group is taken that holds all that is left of a class.
    """
    sizes = _total(members.values())
    taken = Counter[str]()
    chosen: set[str] = set()

    def spares_every_class(group: str) -> bool:
        return all(taken[label] + count < sizes[label] for label, count in members[group].items())

    def take(group: str) -> None:
        chosen.add(group)
        taken.update(members[group])

    for group, labels in members.items():
        if _gain(labels, taken, sizes, fraction) > 0 and spares_every_class(group):
            take(group)
    for label in sorted(sizes):
        if not taken[label]:
            fitting = [
                group for group in members if members[group][label] and spares_every_class(group)
            ]
            if fitting:
                take(min(fitting, key=lambda group: members[group].total()))
    return chosen


def _gain(labels: Counter[str], taken: Counter[str], sizes: Counter[str], fraction: float) -> float:
    """How much closer to `fraction` the squared shares of the classes get by taking `labels`."""
    return sum(
        (taken[label] / sizes[label] - fraction) ** 2
        - ((taken[label] + count) / sizes[label] - fraction) ** 2
        for label, count in labels.items()
    )


def _check_both_parts(members: Mapping[str, Counter[str]], chosen: set[str]) -> None:
    sizes = _total(members.values())
    taken = _total(members[group] for group in chosen)
    for label in sorted(sizes):
        if not 0 < taken[label] < sizes[label]:
            holding = sum(label in labels for labels in members.values())
            groups = f" in {holding} group(s)" if holding < sizes[label] else ""
            raise DataError(
                f"class '{label}' has {sizes[label]} train sample(s){groups}, too few to have some "
                "in training and some in validation.\n"
                "Add samples of this class, or leave it out of the dataset."
            )
