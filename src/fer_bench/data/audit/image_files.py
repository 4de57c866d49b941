"""What the image files of a dataset hold: each is read once, by several threads.

No file stops this, whatever its bytes: what makes it useless is part of the answer.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from fer_bench.data.audit.perceptual_hash import SIDE
from fer_bench.data.images import (
    Box,
    ImageError,
    Pixels,
    UnusableError,
    crop,
    read_image,
    resize,
    to_grey,
)
from fer_bench.device.threads import in_order

_AT_A_TIME = 64
File = tuple[str, Box]


class Seen(NamedTuple):
    """What one file showed.

    Attributes:
        kind: what makes it useless: `missing`, `undecodable`, `truncated`, `too_large` or `blank`;
            otherwise empty.
        detail: more about that.
        size: width x height of the whole image, empty where the file does not tell.
        digest: stands for the size and the pixels that are used, empty for a useless file.
        thumbnail: the same as SIDE * SIDE grey values, empty for a useless file.
    """

    kind: str
    detail: str
    size: str = ""
    digest: bytes = b""
    thumbnail: bytes = b""


def inspect_all(
    files: Sequence[File],
    mode: str,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Decode every file.

    Args:
        files: name of the file, and what is used of it.
        mode: `L` or `RGB`, in which pixels are compared.
        workers: number of threads; None means one a usable core.
        on_progress: called with (files read, files in all).

    Returns:
        What was seen, in the order of `files`.
    """
    parts = [files[start : start + _AT_A_TIME] for start in range(0, len(files), _AT_A_TIME)]
    seen: list[Seen] = []
    for part in in_order(partial(_inspect_part, channels=len(mode)), parts, workers):
        seen += part
        if on_progress:
            on_progress(len(seen), len(files))
    return seen


def _inspect_part(files: Sequence[File], channels: int) -> list[Seen]:
    return [_inspect(path, box, channels) for path, box in files]


def _inspect(path: str, box: Box, channels: int) -> Seen:
    size = ""
    try:
        image = read_image(path, channels)
        size = f"{image.shape[1]}x{image.shape[0]}"
        return _look_at(crop(image, box), size)
    except ImageError as error:
        return Seen(error.fault, error.reason)
    except UnusableError as error:
        return Seen("undecodable", str(error), size)


def _look_at(pixels: Pixels, size: str) -> Seen:
    grey = to_grey(pixels)
    darkest, brightest = int(grey.min()), int(grey.max())
    if brightest - darkest <= 2 or grey.std() < 1:
        return Seen("blank", f"grey values from {darkest} to {brightest}", size)
    digest = blake2b(f"{pixels.shape} ".encode() + pixels.tobytes(), digest_size=16).digest()
    return Seen("", "", size, digest, resize(grey, SIDE).tobytes())
