"""What the image files of a dataset hold: each is read once, by several processes when many.

No file stops this, whatever its bytes: what makes it useless is part of the answer.
"""

import multiprocessing
import os
import signal
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from fer_bench.duplicates import SIDE

# Fewer files than this are read sooner than a process has started.
FEW = 2000
_CHUNK = 256
# What the training pipeline decodes too.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
# What Pillow raises where the bytes of a file make no sense.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)

# Left, upper, right and lower edge in pixels of what is used of an image; None means all of it.
Box = tuple[int, int, int, int] | None
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
        workers: number of processes; None means one a processor, or this one for few files.
        on_progress: called with (files read, files in all).

    Returns:
        What was seen, in the order of `files`.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    if workers is None:
        workers = (os.cpu_count() or 1) if len(files) >= FEW else 1
    seen: list[Seen] = []
    for part in _map(partial(_inspect_chunk, mode=mode), chunks, workers):
        seen += part
        if on_progress:
            on_progress(len(seen), len(files))
    return seen


def _map(
    function: Callable[[Sequence[File]], list[Seen]], chunks: list[Sequence[File]], workers: int
) -> Iterator[list[Seen]]:
    if workers <= 1:
        yield from map(function, chunks)
        return
    with ProcessPoolExecutor(
        min(workers, len(chunks)),
        multiprocessing.get_context("spawn"),
        # Ctrl-C is for the process that the user started; it ends the others.
        initializer=partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    ) as executor:
        yield from executor.map(function, chunks)


def _inspect_chunk(files: Iterable[File], mode: str) -> list[Seen]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return [_inspect(path, box, mode) for path, box in files]


def _inspect(path: str, box: Box, mode: str) -> Seen:
    try:
        # Opening reads no more than the header, and refuses a bomb by that.
        with Image.open(path, formats=_FORMATS) as image:
            return _look_at(image, box, mode)
    except FileNotFoundError:
        return Seen("missing", "no such file")
    except _BOMB as error:
        return Seen("too_large", str(error).partition(" exceeds")[0])
    except UnidentifiedImageError:
        size = os.stat(path).st_size  # noqa: PTH116
        return Seen("undecodable", f"{size:,} bytes, not of a {', '.join(_FORMATS)} image")
    except _DAMAGE as error:
        detail = getattr(error, "strerror", None) or str(error)
        return Seen("truncated" if "truncated" in detail.lower() else "undecodable", detail)


def _look_at(image: Image.Image, box: Box, mode: str) -> Seen:
    width, height = image.size
    size = f"{width}x{height}"
    if box:
        left, upper, right, lower = box
        inner = (max(left, 0), max(upper, 0), min(right, width), min(lower, height))
        if inner[0] >= inner[2] or inner[1] >= inner[3]:
            return Seen("undecodable", f"its face lies outside of the {size} pixels", size)
        image = image.crop(inner)
    used = image.convert(mode)
    grey = used.convert("L")
    values = np.asarray(grey)
    darkest, brightest = int(values.min()), int(values.max())
    if brightest - darkest <= 2 or values.std() < 1:
        return Seen("blank", f"grey values from {darkest} to {brightest}", size)
    digest = blake2b(f"{used.size} ".encode() + used.tobytes(), digest_size=16).digest()
    thumbnail = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes()
    return Seen("", "", size, digest, thumbnail)
