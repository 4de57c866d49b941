"""The content of files that are known by name, size and time of change.

These three stay the same when a program restores the time of a file that it changed, or when a disk
loses a bit. So the SHA-256 of each file is kept when it is read, and some are read again later.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.device.threads import in_order
from fer_bench.errors import DataError
from fer_bench.labels import ATTRIBUTES, AXES
from fer_bench.storage.files import read_bounded

# Which files a start reads again: a sample, all, or none.
Verify = Literal["sample", "all", "none"]
# The sample: so many images of each split, and about so many bytes of them. Reading 200 small files
# takes milliseconds; a change of 1 % of the files is found by 87 % of the samples.
SAMPLE = 200
SAMPLE_BYTES = 64 * 2**20
# Larger files of labels are read again with `all` only.
LABEL_BYTES = 50 * 2**20

# Beside what was made from the files: the SHA-256 of the rest, then that of each file.
FILE = "contents.bin"
_DIGEST_BYTES = 32
_PART = 25  # files that a thread reads at once

# SHA-256 of each file, shape (n, 32).
Digests = NDArray[np.uint8]
# The key of the labels among the digests of a dataset; the others are names of splits.
LABELS = "labels"

_verify: ContextVar[Verify] = ContextVar("verify", default="sample")


@dataclass(frozen=True)
class TrainedOn:
    """The content that a run was trained on.

    Attributes:
        run_id: of the run.
        contents: `dataset.content_digest` of its `run.json`; empty for a run of an older version.
        advice: what to do instead of restoring the files, as a sentence.
    """

    run_id: str
    advice: str
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """What the files of a dataset are compared with.

    Attributes:
        which: the files that are read again to find out whether they changed.
        trained_on: a run that must have seen the same content; None for any content.
    """

    which: Verify = "sample"
    trained_on: TrainedOn | None = None


SAMPLED = Verification()


@contextlib.contextmanager
def verifying(verify: Verify) -> Iterator[None]:
    """What `verified` returns within the block."""
    token = _verify.set(verify)
    try:
        yield
    finally:
        _verify.reset(token)


def verified() -> Verify:
    """Which files are read again."""
    return _verify.get()


# One file --------------------------------------------------------------------------------------


def file_digest(path: str | Path) -> bytes:
    """The SHA-256 of a file, 32 bytes. Raises: DataError when it cannot be read."""
    try:
        # `hashlib.file_digest` would first clear a buffer that is larger than most images.
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.sha256(file.read()).digest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: OSError) -> DataError:
    """The error that a file of the dataset cannot be read."""
    return DataError(
        f"{path}: this image cannot be read ({error.strerror}).\n"
        "Restore the file from the original archive."
    )


def label_file_changed(path: Path, kept: str) -> bool:
    """Whether a file of labels has another SHA-256 than the one that was kept (hexadecimal)."""
    if verified() == "none" or (verified() == "sample" and path.stat().st_size > LABEL_BYTES):
        return False
    return label_file_digest(path) != kept


def label_file_digest(path: Path) -> str:
    """The SHA-256 of a file that may be large, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Many files ------------------------------------------------------------------------------------


def digests_of(paths: Sequence[str]) -> Digests:
    """The SHA-256 of each file, shape (n, 32). Raises: DataError when one cannot be read."""
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    return as_array([one for part in in_order(_read_part, parts) for one in part[0]])


def as_array(digests: Sequence[bytes]) -> Digests:
    """Digests of 32 bytes each as an array."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST_BYTES)


def changed(paths: Sequence[str], kept: Digests, verify: Verify) -> list[int]:
    """The indices of the files that were read again and have another content than was kept.

    Args:
        paths: names of files.
        kept: their digests, shape (n, 32).
        verify: which of them to read.

    Raises: DataError when one cannot be read.
    """
    rows = chosen(len(paths), verify)
    parts = [rows[start : start + _PART] for start in range(0, len(rows), _PART)]
    found, size = [], 0
    files = in_order(lambda part: _read_part([paths[row] for row in part]), parts)
    for part, (digests, read) in zip(parts, files, strict=True):
        found += [row for row, own in zip(part, digests, strict=True) if own != kept[row].tobytes()]
        size += read
        if verify == "sample" and size > SAMPLE_BYTES:
            break
    return found


def _read_part(paths: Sequence[str]) -> tuple[list[bytes], int]:
    """The digests of some files, and their bytes together."""
    digests, size = [], 0
    for path in paths:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError as error:
            raise unreadable(path, error) from error
        digests.append(hashlib.sha256(content).digest())
        size += len(content)
    return digests, size


def chosen(count: int, verify: Verify) -> list[int]:
    """The files that are read again; every day another sample, so that all have their turn."""
    if verify == "none":
        return []
    if verify == "all" or count <= SAMPLE:
        return list(range(count))
    generator = np.random.default_rng([datetime.now(UTC).toordinal(), count])
    return sorted(generator.choice(count, SAMPLE, replace=False).tolist())


def write(folder: Path, digests: Digests) -> None:
    """Keep digests in a folder."""
    content = digests.tobytes()
    (folder / FILE).write_bytes(hashlib.sha256(content).digest() + content)


def read(folder: Path, count: int) -> Digests | None:
    """The digests that `write` kept in a folder, shape (count, 32).

    Returns: None where an older version kept none.

    Raises: ValueError or OSError when they are not as they were written.
    """
    try:
        content = read_bounded(folder / FILE)
    except FileNotFoundError:
        return None
    own, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if len(rest) != count * _DIGEST_BYTES or hashlib.sha256(rest).digest() != own:
        raise ValueError(f"{folder / FILE}: is not what was written")
    return np.frombuffer(rest, np.uint8).reshape(count, _DIGEST_BYTES)


# A dataset -------------------------------------------------------------------------------------


def images_digest(ids: Sequence[str], digests: Digests) -> str:
    """SHA-256 over the ids of samples and the content of their images, in any order."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    hashed = hashlib.sha256("\n".join(ids[row] for row in order).encode())
    hashed.update(digests[order].tobytes())
    return hashed.hexdigest()


def labels_digest(samples: pd.DataFrame) -> str:
    """SHA-256 over class, valence, arousal and attributes of all samples, in any order."""
    ids = samples["sample_id"].tolist()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    hashed = hashlib.sha256()
    for column in ("sample_id", "label", *(name for name in ATTRIBUTES if name in samples)):
        values = samples[column].tolist()
        hashed.update("\n".join(str(values[row]) for row in order).encode())
    for column in (name for name in AXES if name in samples):
        numbers = samples[column].to_numpy(np.float64)[order]
        # Six digits, one kind of zero and one of NaN: what a label file can say.
        rounded = np.where(np.isnan(numbers), np.nan, np.round(numbers, 6) + 0.0)
        hashed.update(rounded.astype("<f8").tobytes())
    return hashed.hexdigest()
