"""Decoding image files: the only place where pixels of a dataset are read.

Training, evaluation, the audit and the search for duplicates all read through here, so that they
see the same pixels. The content of a file determines its format, not the suffix of its name:

- JPEG (grey, RGB, CMYK and YCCK with Adobe's inverted inks), PNG, BMP, GIF, WebP and TIFF; the
  first frame or page of each;
- 16 bits per channel: the high byte is kept; grey values of 32 bits or floats have no known range
  and are refused;
- palettes are applied; alpha is dropped and the colour beneath it kept, as in OpenCV and Keras;
- the EXIF orientation is applied before a face box is cut out;
- RGB becomes grey by ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.

Colour profiles are not applied.
"""

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from fer_bench.errors import DataError

# Part of the key of everything in the cache that was computed from pixels. Increase it when
# decoding or resizing changes.
VERSION = 2
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF")
# Pillow treats a BMP without its file header as a format of its own.
_PILLOW_FORMATS = (*FORMATS, "DIB")
# No picture of a face has more. Pillow warns from this limit on; here it is an error.
MOST_PIXELS = 89_478_485

Pixels = NDArray[np.uint8]
# Left, top, right and bottom edge in pixels of the part of an image that is used; None: all of it.
Box = tuple[int, int, int, int] | None
Fault = Literal["missing", "undecodable", "truncated", "too_large"]

_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)
# What Pillow raises for damaged files.
_DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, OverflowError, ZeroDivisionError),
    *(LookupError, AttributeError, RuntimeError, MemoryError, struct.error, zlib.error),
)
# Tags of EXIF and TIFF.
_ORIENTATION, _BITS, _PHOTOMETRIC = 274, 258, 262
# Keys of metadata that may contain an orientation.
_ORIENTATION_SOURCES = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
_WHITE_IS_ZERO = 0
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)

# Pillow warns about metadata that it cannot read, but no pixel depends on them. The filter is set
# once for the process because `warnings.catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Load the other formats now, instead of in several threads at once.
Image.preinit()


class ImageError(DataError, ValueError):
    """A file that cannot be decoded.

    It is a ValueError too: TensorFlow then treats it as an invalid argument and not as a lost
    worker when it is raised in an input pipeline.

    Attributes:
        fault: what is wrong, in one word that programs can rely on.
        reason: what is wrong, in words, with the size of the file but without its name.
    """

    def __init__(self, path: str, fault: Fault, reason: str) -> None:
        file = Path(path)
        length = f"{file.stat().st_size:,} bytes; " if file.is_file() else ""
        self.fault, self.reason = fault, length + reason
        super().__init__(
            f"{path}: this image cannot be decoded ({self.reason}).\n"
            "Replace the file from the original archive, or leave it out: `fer data audit` lists "
            "all such files for dataset.exclude."
        )


class UnusableError(ValueError):
    """An image can be decoded but not used; the message says why, without the name of the file."""


def read_image(
    path: str, channels: int, box: Box = None, digests: list[bytes] | None = None
) -> Pixels:
    """Decode a file.

    Args:
        path: the name of the file.
        channels: 1 for grey, 3 for RGB.
        box: the part of the upright image that is used; it is clipped to the image.
        digests: the SHA-256 of the file is appended to it.

    Returns:
        Values in [0, 255], shape (height, width, channels).

    Raises:
        ImageError: the file cannot be decoded, or no pixel is inside `box`.
    """
    with _opened(path, digests) as image:
        image.load()
        upright = _upright(_eight_bits(image), _orientation(image))
        mode = "L" if channels == 1 else "RGB"
        pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
        return crop(pixels.reshape(*pixels.shape[:2], channels), box)


def crop(pixels: Pixels, box: Box) -> Pixels:
    """The part of an image (height, width, channels) inside a box.

    Raises:
        UnusableError: no pixel is inside the box.
    """
    if box is None:
        return pixels
    left, upper, right, lower = (max(edge, 0) for edge in box)
    inside = pixels[upper:lower, left:right]
    if not inside.size:
        height, width = pixels.shape[:2]
        raise UnusableError(f"its face box is outside the {width}x{height} pixels")
    return np.ascontiguousarray(inside)  # a copy, so that the rest can be freed


def upright_size(path: str) -> tuple[int, int]:
    """Width and height of an upright image; only the header of its file is read.

    Raises:
        ImageError: the header cannot be read.
    """
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def resize(pixels: Pixels, size: int) -> Pixels:
    """An image (height, width, channels) as (size, size, channels).

    Bilinear interpolation without aliasing: each new pixel is a mean weighted by a triangle that is
    as wide as two new pixels, or as two old ones if these are larger.
    """
    channels = pixels.shape[2]
    if pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size, size, channels)


def to_grey(pixels: Pixels) -> Pixels:
    """An image (height, width, channels) as grey values (height, width, 1)."""
    if pixels.shape[2] == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


@contextmanager
def _opened(path: str, digests: list[bytes] | None = None) -> Iterator[Image.Image]:
    """The image in a file, of which only the header has been read, and all of it for a digest.

    Raises:
        ImageError: for anything that Pillow raises within the block.
    """
    try:
        # A file object, not its name: Pillow may map a named file, and then confuses the sides of a
        # TIFF file that EXIF turns by 90 degrees. `Path.open` would take a tenth of the time of a
        # small image.
        with open(path, "rb") as file:  # noqa: PTH123
            if digests is not None:
                digests.append(hashlib.sha256(file.read()).digest())
                file.seek(0)
            with Image.open(file, formats=_PILLOW_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(
                        f"Image size ({image.width * image.height} pixels)"
                    )
                yield image
    except FileNotFoundError as error:
        raise ImageError(path, "missing", "no such file") from error
    except _BOMB as error:
        raise ImageError(path, "too_large", str(error).partition(" exceeds")[0]) from error
    except UnidentifiedImageError as error:
        reason = f"not a readable {', '.join(FORMATS)} image"
        raise ImageError(path, "undecodable", reason) from error
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        truncated = "truncated" in reason.lower()
        raise ImageError(path, "truncated" if truncated else "undecodable", reason) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """A decoded image in mode L or RGB."""
    # Otherwise Pillow would change the colour of transparent pixels.
    image.info.pop("transparency", None)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    # Pillow up to 10 opens a 16-bit PNG file as integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray(_high_bytes(image))
    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "signed integers or have 32 bits"
        raise UnusableError(
            f"its grey values are {kind}, so the value of white is unknown; convert it to 8 or 16 "
            "bits"
        )
    return image.convert("RGB")


def _high_bytes(image: Image.Image) -> Pixels:
    """The upper 8 of the 16 bits of a grey image, or of the 12 bits of some TIFF files."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    values: Pixels = (np.asarray(image) >> bits - 8).astype(np.uint8)
    # Pillow inverts such values for up to 8 bits only.
    return 255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of the decoded pixels, 1 to 8; 1 if there is none."""
    # Pillow has already applied that of a TIFF file.
    if (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        or not _ORIENTATION_SOURCES & image.info.keys()
    ):
        return 1
    try:
        # Not the method of PNG images, which decodes the file to look for EXIF behind the pixels.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except _DAMAGE:  # broken metadata do not make an image unusable
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)
