"""Image files as pixels: the only place where a file of a dataset is decoded.

Training, evaluation, the audit and the search for copies all read through here, so that they see
the same pixels. The content of a file decides its format, whatever its name ends with:

- JPEG (grey, RGB, CMYK and YCCK with Adobe's inverted inks), PNG, BMP, GIF, WebP and TIFF, of each
  the first frame or page;
- 16 bits a channel: the high byte stays; grey of 32 bits or floats has no known range: refused;
- palettes are looked up; alpha is dropped, and the colour beneath it stays, as in OpenCV and Keras;
- the orientation that EXIF states is applied, before a box is cut out;
- RGB becomes grey by ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.

Colour profiles are not applied.
"""

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

# Part of the key of everything in the cache that was computed from pixels. It changes when
# decoding or resizing does.
VERSION = 2
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF")
# A BMP without its file header is a format of its own to Pillow.
_PILLOW_FORMATS = (*FORMATS, "DIB")
# What no picture of a face has. Pillow warns from here on; we refuse.
MOST_PIXELS = 89_478_485

Pixels = NDArray[np.uint8]
# Left, upper, right and lower edge in pixels of what is used of an image; None means all of it.
Box = tuple[int, int, int, int] | None
Fault = Literal["missing", "undecodable", "truncated", "too_large"]

_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)
# What Pillow raises where the bytes of a file make no sense.
_DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, OverflowError, ZeroDivisionError),
    *(LookupError, AttributeError, RuntimeError, MemoryError, struct.error, zlib.error),
)
# Tags of EXIF and TIFF.
_ORIENTATION, _BITS, _PHOTOMETRIC = 274, 258, 262
# Where Pillow keeps what may state an orientation.
_STATING = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
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

# Pillow warns of metadata that it cannot read, on which no pixel depends. The filter is set once
# for the process: `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Loads the other formats now, instead of in several threads at once.
Image.preinit()


class ImageError(DataError, ValueError):
    """A file that gives no pixels.

    It is a ValueError too, so that TensorFlow takes it for a wrong argument and not for a lost
    worker when it is raised while batches are made.

    Attributes:
        fault: what is wrong, in one word that programs can rely on.
        reason: the same for people: the size of the file and what is wrong, without its name.
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
    """An image can be decoded, but not used; the message says why, without naming its file."""


def read_image(path: str, channels: int, box: Box = None) -> Pixels:
    """Decode a file.

    Args:
        path: the name of the file.
        channels: 1 for grey, 3 for RGB.
        box: what of the upright image is used; it is cut at the edges of the image.

    Returns:
        Values in [0, 255], shape (height, width, channels).

    Raises:
        ImageError: the file gives no pixels, or none inside `box`.
    """
    with _opened(path) as image:
        image.load()
        upright = _upright(_eight_bits(image), _orientation(image))
        mode = "L" if channels == 1 else "RGB"
        pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
        return crop(pixels.reshape(*pixels.shape[:2], channels), box)


def crop(pixels: Pixels, box: Box) -> Pixels:
    """What of an image (height, width, channels) lies in a box.

    Raises:
        UnusableError: nothing does.
    """
    if box is None:
        return pixels
    left, upper, right, lower = (max(edge, 0) for edge in box)
    inside = pixels[upper:lower, left:right]
    if not inside.size:
        height, width = pixels.shape[:2]
        raise UnusableError(f"its face lies outside of the {width}x{height} pixels")
    return np.ascontiguousarray(inside)  # of its own, so that the rest can go


def upright_size(path: str) -> tuple[int, int]:
    """Width and height of an image as it is to be shown, by the header of its file alone.

    Raises:
        ImageError: the header cannot be read.
    """
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def resize(pixels: Pixels, size: int) -> Pixels:
    """An image (height, width, channels) as (size, size, channels).

    Each new pixel is a mean weighted by a triangle as wide as two new pixels, or two old ones where
    these are larger: bilinear interpolation without aliasing.
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
def _opened(path: str) -> Iterator[Image.Image]:
    """The image of a file, of which no more than the header is read yet.

    Raises:
        ImageError: for whatever Pillow raises about the file, here or later.
    """
    try:
        # Given the name of a file, Pillow may map it, and then takes a TIFF file that EXIF turns by
        # 90 degrees for one of the upright size. `Path.open` takes a tenth of a small image's time.
        with (
            open(path, "rb") as file,  # noqa: PTH123
            Image.open(file, formats=_PILLOW_FORMATS) as image,
        ):
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
        reason = f"no {', '.join(FORMATS)} image that can be read"
        raise ImageError(path, "undecodable", reason) from error
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        truncated = "truncated" in reason.lower()
        raise ImageError(path, "truncated" if truncated else "undecodable", reason) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """A decoded image in mode L or RGB."""
    # With it, Pillow would make the colour transparent pixels have into another one.
    image.info.pop("transparency", None)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    # Pillow up to 10 opens a PNG file of 16 bits as integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray(_high_bytes(image))
    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "signed integers or of 32 bits"
        raise UnusableError(
            f"its grey values are {kind}, so that nothing tells which of them is white; convert "
            "it to 8 or 16 bits"
        )
    return image.convert("RGB")


def _high_bytes(image: Image.Image) -> Pixels:
    """The upper 8 of the 16 bits of a grey image, or of the 12 that some TIFF files have."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    values: Pixels = (np.asarray(image) >> bits - 8).astype(np.uint8)
    # Pillow turns these round for fewer bits, but not for so many.
    return 255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values


def _orientation(image: Image.Image) -> int:
    """What EXIF says of how the pixels as they are have to be turned, 1 to 8; 1 if nothing."""
    # That of a TIFF file has been applied by Pillow.
    if isinstance(image, TiffImagePlugin.TiffImageFile) or not _STATING & image.info.keys():
        return 1
    try:
        # The method of a PNG file would decode it, to look for EXIF behind the pixels.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except _DAMAGE:  # an image is not worse for metadata that are broken
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)
