"""Matching names from elsewhere to the samples of a dataset: ids, or paths in any form."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fer_bench.data.manifest import Manifest

# Name → id of the only sample that it can mean; None unless there is exactly one.
_Find = Callable[[str], str | None]


def sample_ids(given: Sequence[str], manifest: Manifest, split: str) -> list[str]:
    """The ids of the samples of a split that `given` names.

    The names are ids; or paths below the dataset's folder; or paths that lead to the same files;
    or paths whose ends each match one image of the dataset. One of these must hold for all names,
    and they must be different samples of the split.

    Args:
        given: the names as they were written.
        manifest: the dataset.
        split: the name of the split.

    Returns:
        An id for each name, in their order; the names themselves when nothing fits all of them.
    """
    known = set(manifest.split(split)["sample_id"])
    if known.issuperset(given):
        return list(given)
    paths = [_as_posix(name) for name in given]
    for way in (_below_root, _same_file, _same_end):
        found = _all(map(way(manifest, paths), paths))
        if found and len(set(found)) == len(found) and known.issuperset(found):
            return found
    return list(given)


def how_paths_differ(given: Sequence[str], manifest: Manifest, split: str) -> str:
    """Advice with an example path from each side; empty when the names are not paths."""
    theirs = next((_as_posix(name) for name in given if "/" in _as_posix(name)), None)
    paths = manifest.split(split)["path"].tolist()
    if theirs is None or not paths:
        return ""
    last = theirs.rpartition("/")[2]
    ours = next((path for path in paths if path.rpartition("/")[2] == last), paths[0])
    first = f"{ours.partition('/')[0]}/" if "/" in ours else "the name of the file"
    cut = first in theirs or "/" not in ours
    advice = f"cut everything before {first}" if cut else f"let each begin with {first}"
    return f"The file has paths such as {theirs}, the dataset {ours}: {advice}."


def _as_posix(name: str) -> str:
    return os.path.normpath(name.replace("\\", "/")) if name else name


def _all(found: Iterable[str | None]) -> list[str] | None:
    """Everything that was found, or None as soon as something was not."""
    names = []
    for name in found:
        if name is None:
            return None
        names.append(name)
    return names


def _unambiguous(pairs: Iterable[tuple[object, str]]) -> dict[object, str]:
    """The pairs (key, id) whose key occurs once."""
    listed = list(pairs)
    times = Counter(key for key, _ in listed)
    return {key: sample_id for key, sample_id in listed if times[key] == 1}


def _pairs(samples: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(samples["path"].tolist(), samples["sample_id"].tolist(), strict=True))


# Ways ------------------------------------------------------------------------------------------


def _below_root(manifest: Manifest, _: Sequence[str]) -> _Find:
    """Paths below the dataset's folder, or beginning with that folder as it was typed."""
    ids: Mapping[object, str] = _unambiguous(_pairs(manifest.samples))
    root = f"{os.path.normpath(manifest.root)}/"
    return lambda path: ids.get(path.removeprefix(root))


def _same_file(manifest: Manifest, _: Sequence[str]) -> _Find:
    """Paths that lead to the files of the dataset, through any links."""
    root = os.fspath(manifest.root)
    ids = _unambiguous(
        (_identity(f"{root}/{path}"), name) for path, name in _pairs(manifest.samples)
    )
    ids.pop(None, None)
    return lambda path: ids.get(_identity(path))


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it does not exist."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _same_end(manifest: Manifest, given: Sequence[str]) -> _Find:
    """Paths where one ends with the whole of the other, and no other image fits.

    A common end is not enough: `train/1/0001.jpg` is not `test/1/0001.jpg`.
    """
    depths = {path.count("/") + 1 for path in given}
    whole: dict[str, set[str]] = defaultdict(set)
    ends: dict[str, set[str]] = defaultdict(set)
    for path, sample_id in _pairs(manifest.samples):
        whole[path].add(sample_id)
        parts = path.split("/")
        for depth in depths:
            if depth < len(parts):
                ends["/".join(parts[-depth:])].add(sample_id)

    def find(path: str) -> str | None:
        parts = path.strip("/").split("/")
        fitting = set(ends.get(path, ()))
        for start in range(len(parts)):
            fitting |= whole.get("/".join(parts[start:]), set())
        return fitting.pop() if len(fitting) == 1 else None

    return find
