"""Which symbolic links in a dataset's folder are followed: those that stay inside its root.

A link out of the root would let a dataset change while its folder does not, so it is refused and
reported. An image with several names through links is one image, under its own name if that is
read too.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

import pandas as pd

from fer_bench.data.manifest import Problem, problem_of

OUTSIDE = "symbolic link: out of the root"
NOWHERE = "symbolic link: to nothing"
CIRCLE = "symbolic link: to a folder around it"
AGAIN = "symbolic link: to an image counted already"

# Kind and text of the problem for links that are refused.
_ADVICE = {
    OUTSIDE: (
        "link_not_followed",
        "symbolic links out of dataset.root are not followed; set dataset.root to the folder that "
        "they lead to, or replace them by copies",
    ),
    NOWHERE: (
        "link_to_nothing",
        "symbolic links lead to nothing; restore their targets, or remove them",
    ),
}


class Links:
    """The symbolic links that were found below one root, each checked once."""

    def __init__(self, root: Path | None) -> None:
        """`root` may itself be a link; None: no link is followed."""
        self._root = None if root is None else os.path.realpath(root)
        self._base = "" if root is None else str(root)
        self._targets: dict[str, str] = {}  # target of each link that is followed, by its path
        self._refused: dict[str, str] = {}  # reason for each link that is not, by its path

    def refusal(self, link: str) -> str:
        """Why the link at this path is not followed; an empty string when it is."""
        key = os.path.normpath(link)
        if key not in self._targets and key not in self._refused:
            target = os.path.realpath(link)
            reason = self._reason_refused(link, target)
            if reason:
                self._refused[key] = reason
            else:
                self._targets[key] = target
        return self._refused.get(key, "")

    def _reason_refused(self, link: str, target: str) -> str:
        if not os.path.exists(target):  # noqa: PTH110 - also false for a link to itself
            return NOWHERE
        if self._root is None or not _is_in(target, self._root):
            return OUTSIDE
        if not os.path.isdir(target):  # noqa: PTH112 - only a folder can be around another
            return ""
        around = map(os.path.realpath, Path(link).parents)
        return CIRCLE if any(_is_in(place, target) for place in around) else ""

    def below(self, folder: Path) -> list[str]:
        """The links that were found below `folder`, relative to it."""
        place = os.path.normpath(folder)
        found = sorted(link for link in (*self._targets, *self._refused) if _is_in(link, place))
        return [os.path.relpath(link, place) for link in found]

    def lead_into(self, folder: Path) -> bool:
        """Whether a link that is followed leads to `folder` or to something in it."""
        place = os.path.realpath(folder)
        return any(_is_in(target, place) for target in self._targets.values())

    def drop_copies(self, paths: Sequence[str], dropped: Counter[str]) -> list[str]:
        """`paths`, relative to the root, without further names of the same file, which are counted.

        Of several names, the one without a link on the way stays, else the first.
        """
        if not self._targets:
            return list(paths)
        through = dict.fromkeys(path for path in paths if self._passes_link(path))
        own = (path for path in paths if path not in through)
        seen = {os.path.normpath(f"{self._root}/{path}") for path in own}
        kept = []
        for path in paths:
            target = self._target(path) if path in through else ""
            if target in seen:
                dropped[AGAIN] += 1
                continue
            if target:
                seen.add(target)
            kept.append(path)
        return kept

    def _target(self, path: str) -> str:
        """The target of `path`, which has a link on the way."""
        place = f"{self._base}/{path}"
        return self._targets.get(os.path.normpath(place)) or os.path.realpath(place)

    def without_copies(self, samples: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
        """The rows that `drop_copies` keeps; their column `path` is relative to the root."""
        paths = samples["path"].tolist()
        kept = self.drop_copies(paths, dropped)
        if len(kept) == len(paths):
            return samples
        return samples[samples["path"].isin(kept)].reset_index(drop=True)

    def _passes_link(self, path: str) -> bool:
        place = os.path.normpath(f"{self._base}/{path}")
        while place not in self._targets:
            parent = os.path.dirname(place)  # noqa: PTH120
            if len(parent) < len(self._base) or parent == place:
                return False
            place = parent
        return True

    def problems(self) -> list[Problem]:
        """The links that are not followed, as problems of the manifest."""
        return [
            problem
            for reason, (kind, text) in _ADVICE.items()
            for problem in problem_of(kind, "warning", self._shown(reason), text)
        ]

    def explanation(self) -> str:
        """The same as lines for an error message; empty when every link is followed."""
        lines = []
        for problem in self.problems():
            more = problem.count - len(problem.examples)
            shown = ", ".join(problem.examples) + (f" and {more:,} more" if more else "")
            lines.append(f"\n{problem.text[0].upper()}{problem.text[1:]}: {shown}.")
        return "".join(lines)

    def _shown(self, reason: str) -> list[str]:
        links = sorted(link for link, found in self._refused.items() if found == reason)
        return [f"{os.path.relpath(link, self._base)} -> {os.readlink(link)}" for link in links]  # noqa: PTH115


_current: ContextVar[Links] = ContextVar("links")


def current() -> Links:
    """The links of the dataset that is being read; outside of `below`, no link is followed."""
    return _current.get(None) or Links(None)


@contextlib.contextmanager
def below(root: Path) -> Iterator[Links]:
    """Follow links that stay inside `root` within the block."""
    links = Links(root)
    token = _current.set(links)
    try:
        yield links
    finally:
        _current.reset(token)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
