"""The image files of one split: what the cache and a run know of their content."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fer_bench.data import contents
from fer_bench.data.contents import Digests, Verification
from fer_bench.errors import DataError
from fer_bench.storage.cache import existing

# The kind of the entries of the cache that have the digests alone, of splits that are not decoded.
KIND = "contents"


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split, compared with what was kept of their content.

    Attributes:
        root: the folder of the dataset.
        split: the name of the split.
        paths: absolute file names.
        ids: of the samples.
        check: what they are compared with.
        source: the digest of the file that the images were written from, if they were; it stands
            for their content then, since other versions write other files for the same pixels.
        digests: of the files, in order, collected while they are read for an entry of the cache.
    """

    root: Path
    split: str
    paths: Sequence[str]
    ids: Sequence[str]
    check: Verification
    source: str | None = None
    digests: list[bytes] = field(default_factory=list)

    def keep(self, folder: Path) -> None:
        """Write the collected digests into a folder."""
        contents.write(folder, contents.as_array(self.digests))

    def keep_all(self, folder: Path) -> None:
        """Read all files, and write their digests into a folder. Raises: DataError."""
        contents.write(folder, contents.digests_of(self.paths))

    def kept(self, folder: Path) -> Digests | None:
        """What `keep` wrote. Raises: ValueError or OSError when it is damaged."""
        return contents.read(folder, len(self.paths))

    def digest(self, digests: Digests) -> str:
        """What a run records of the content of this split."""
        return self.source or contents.images_digest(self.ids, digests)

    def changed(self, folder: Path) -> str | None:
        """Why what is kept in `folder` has to be made again; None if it is up to date.

        Raises:
            DataError: the files are not those of the run that `check` names, or one cannot be read.
            ValueError or OSError: what is kept is damaged.
        """
        kept = self.kept(folder)
        if kept is None:
            if not os.access(folder.parent, os.W_OK):  # a cache that others fill
                return None
            return _OLDER.format(root=self.root, split=self.split)
        rows = contents.changed(self.paths, kept, self.check.which)
        expected = self._expected
        is_of_run = expected in (None, self.digest(kept))
        if not rows and is_of_run:
            return None
        if expected is not None:
            rows = self._check_now(kept, expected, is_of_run=is_of_run)
        return _CHANGED.format(files=self._named(rows), split=self.split)

    def compare(self, present: Digests) -> None:
        """Make sure that files which were read just now, with these digests, are those of the run.

        Raises:
            DataError: they are not; the message names them if it can.
        """
        if self._expected not in (None, self.digest(present)):
            raise self._refusal(present, self._known())

    def names(self) -> Any:
        """A hash that has the name, size and time of change of each file.

        Raises: DataError when one is missing.
        """
        hashed, above = hashlib.sha256(), f"{self.root}{os.sep}"
        for path in self.paths:
            status = _status(path)
            name = path.removeprefix(above)
            hashed.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return hashed

    @property
    def _expected(self) -> str | None:
        run = self.check.trained_on
        return run.contents.get(self.split) if run else None

    def _check_now(self, kept: Digests, expected: str, *, is_of_run: bool) -> list[int]:
        """The files that are not what is kept, all of which are read.

        Raises: DataError when they are not those of the run either.
        """
        present = contents.digests_of(self.paths)
        rows: list[int] = np.flatnonzero((present != kept).any(axis=1)).tolist()
        if self.digest(present) != expected:
            raise self._refusal(present, kept if is_of_run else self._known())
        return rows

    def _known(self) -> Digests | None:
        """What an entry of `KIND` has kept of these files, if there is one."""
        try:
            entry = existing(KIND, self.names().hexdigest())
            return self.kept(entry) if entry else None
        except (OSError, ValueError):
            return None

    def _refusal(self, present: Digests, before: Digests | None) -> DataError:
        """The error that the files are not those of the run, which had the digests `before`."""
        run = self.check.trained_on
        assert run is not None  # there was something to compare with
        what = f"{self.root}: some of its {self.split} images"
        if before is not None and self.digest(before) == self._expected and not self.source:
            what = self._named(np.flatnonzero((present != before).any(axis=1)).tolist())
        return DataError(
            f"{what}: the content changed since {run.run_id} was trained, though not "
            f"the names and sizes.\nRestore the original files. {run.advice}"
        )

    def _named(self, rows: Sequence[int]) -> str:
        """The first of these files, and how many more there are."""
        more = f" and {len(rows) - 1:,} more {self.split} images" if len(rows) > 1 else ""
        return f"{self.paths[rows[0]]}{more}" if rows else f"{self.root}, {self.split}"


_CHANGED = (
    "warning: {files}: the content changed, though name and size did not; what the cache holds "
    "of the {split} images is made again"
)
_OLDER = (
    "{root}: an older version decoded the {split} images without a digest of each file; they are "
    "read again, once"
)


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 - twice as fast as Path for 100,000 files
    except OSError as error:
        raise contents.unreadable(path, error) from error
