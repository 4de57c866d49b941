"""Which release of a dataset a folder holds, recognised by its numbers of images."""

from collections.abc import Mapping
from dataclasses import replace

from fer_bench.data.manifest import Manifest, Problem
from fer_bench.labels import EXPRESSIONS

Counts = Mapping[str, Mapping[str, int]]


def counts(names: str, numbers: str) -> dict[str, int]:
    """Numbers of images by class, from the names and numbers as a table prints them."""
    return dict(zip(names.split(), map(int, numbers.split()), strict=True))


# The three parts of FER2013; repacks under other names have the same numbers.
_SEVEN = " ".join(EXPRESSIONS[:7])
FER2013 = {
    "Training": counts(_SEVEN, "4965 7215 4830 3171 4097 436 3995"),
    "PublicTest": counts(_SEVEN, "607 895 653 415 496 56 467"),
    "PrivateTest": counts(_SEVEN, "626 879 594 416 528 55 491"),
}


def with_release(
    manifest: Manifest, layout: str, known: Mapping[str, Counts], found: Counts | None = None
) -> Manifest:
    """The manifest, named after the release in `known` that has exactly its numbers of images.

    Args:
        manifest: the dataset; left as it is.
        layout: names the release, with `-unrecognised`, when none has these numbers.
        known: {split: {class: number of images}} of every release, by its name.
        found: the numbers to recognise it by; None: those of its samples.

    Returns:
        The manifest; when no release has these numbers, with a problem that says how they differ
        from those of the nearest release.
    """
    release, unknown = recognise(manifest.counts() if found is None else found, known)
    name = release or f"{layout}-unrecognised"
    return replace(manifest, release=name, problems=(*unknown, *manifest.problems))


def recognise(found: Counts, known: Mapping[str, Counts]) -> tuple[str | None, tuple[Problem, ...]]:
    """The name of the release in `known` that has exactly the numbers `found`, and no problem.

    When there is none: None, and a problem whose examples say how the numbers differ from those of
    the nearest release.
    """
    differences = {name: _differences(found, expected) for name, expected in known.items()}
    nearest = min(differences, key=lambda name: len(differences[name]))
    if not differences[nearest]:
        return nearest, ()
    examples = tuple(differences[nearest])
    text = f"the numbers of images differ from those of {nearest}"
    return None, (Problem("release_unrecognised", "warning", len(examples), examples, text),)


def _differences(found: Counts, expected: Counts) -> list[str]:
    splits = list(dict.fromkeys([*expected, *found]))
    cells = [
        (split, name, found.get(split, {}).get(name, 0), expected.get(split, {}).get(name, 0))
        for split in splits
        for name in dict.fromkeys([*expected.get(split, {}), *found.get(split, {})])
    ]
    return [
        f"{split} {name} {n} instead of {known}" for split, name, n, known in cells if n != known
    ]
