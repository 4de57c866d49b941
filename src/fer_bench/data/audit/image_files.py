"""Inspecting the image files of a dataset: each is read once, by several threads.

A file that cannot be used does not stop the inspection; the reason is part of the result.
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
    """The content of one image file.

    Attributes:
        kind: why it cannot be used: `missing`, `undecodable`, `truncated`, `too_large` or `blank`;
            empty if it can.
        detail: more about the reason.
        size: width x height of the whole image, empty if unknown.
        digest: of the size and the pixels that are used; empty if it cannot be used.
        thumbnail: the used pixels as SIDE * SIDE grey values; empty if it cannot be used.
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
        files: name of each file, and the part of the image that is used.
        mode: the mode in which pixels are compared, `L` or `RGB`.
        workers: number of threads; None means one per usable core.
        on_progress: called with (files read, all files).

    Returns:
        The contents, in the order of `files`.
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
        return _content(crop(image, box), size)
    except ImageError as error:
        return Seen(error.fault, error.reason)
    except UnusableError as error:
        return Seen("undecodable", str(error), size)


def _content(pixels: Pixels, size: str) -> Seen:
    grey = to_grey(pixels)
    darkest, brightest = int(grey.min()), int(grey.max())
    if brightest - darkest <= 2 or grey.std() < 1:
        return Seen("blank", f"grey values from {darkest} to {brightest}", size)
    digest = blake2b(f"{pixels.shape} ".encode() + pixels.tobytes(), digest_size=16).digest()
    return Seen("", "", size, digest, resize(grey, SIDE).tobytes())
