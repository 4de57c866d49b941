"""Image files of every kind, written bit by bit where Pillow cannot write them."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Codes = NDArray[Any]

SIDE = 16
ACROSS, DOWN = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
# Smooth, so that lossy formats preserve it, and different in each of the eight orientations.
GREY = (ACROSS * 9 + DOWN * 6).astype(np.uint8)
COLOUR = np.stack([GREY, 255 - ACROSS * 13, 40 + DOWN * 11], axis=2).astype(np.uint8)
ALPHA = np.where(ACROSS + DOWN < SIDE, 0, 255 - ACROSS).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # Pillow leaves its settings in what it wrote
    return file.getvalue()


def palette_of(count: int) -> NDArray[np.uint8]:
    """`count` colours that differ in every channel, shape (count, 3)."""
    step = np.arange(count) * 255 // (count - 1)
    return np.stack([step, 255 - step, (step * 3 + 20) % 256], axis=1).astype(np.uint8)


def codes_of(bits: int) -> Codes:
    """`GREY`, quantized to 1, 2, 4 or 8 bits."""
    return GREY >> (8 - bits)


def packed(codes: Codes, bits: int) -> list[bytes]:
    """The rows of an image (h, w) with `bits` bits per value; 16 bits in network byte order."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in codes]
    digits = codes[:, :, None] >> np.arange(bits)[::-1] & 1
    return [np.packbits(row).tobytes() for row in digits.reshape(len(codes), -1).astype(np.uint8)]


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    codes: Codes,
    bits: int,
    colour_type: int,
    *,
    palette: NDArray[np.uint8] | None = None,
    transparency: bytes = b"",
) -> bytes:
    """A PNG file of values (h, w) or (h, w, channels)."""
    height, width = codes.shape[:2]
    flat = codes.reshape(height, -1)
    rows = b"".join(b"\0" + row for row in packed(flat, bits))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(chunk(b"PLTE", palette.tobytes()))
    if transparency:
        parts.append(chunk(b"tRNS", transparency))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(codes: Codes, bits: int, palette: NDArray[np.uint8]) -> bytes:
    """A BMP file with a palette: rows from last to first, padded to four bytes."""
    height, width = codes.shape
    rows = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in packed(codes, bits)[::-1])
    colours = b"".join(bytes((*colour[::-1], 0)) for colour in palette.tolist())
    start = 14 + 40 + len(colours)
    file = struct.pack("<2sIII", b"BM", start + len(rows), 0, start)
    fields = (40, width, height, 1, bits, 0, len(rows), 2835, 2835, len(palette), 0)
    return file + struct.pack("<IiiHHIIiiII", *fields) + colours + rows


def tiff(rows: bytes, bits: int, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A grey TIFF file of SIDE x SIDE values, little-endian, uncompressed."""
    entries: Sequence[tuple[int, int, int]] = (
        (256, 3, SIDE),
        (257, 3, SIDE),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, SIDE),
        (279, 4, len(rows)),
        (339, 3, sample_format),
    )
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory + bytes(4)


def ycck(inks: NDArray[np.uint8], black: NDArray[np.uint8]) -> bytes:
    """A JPEG file of inks (h, w, 3) and black (h, w), stored as YCCK in the way of Adobe.

    Pillow writes inverted CMYK and a marker that says so; the marker is changed.
    """
    parts = Image.fromarray(inks).convert("YCbCr").split()
    stored = [Image.eval(part, lambda value: 255 - value) for part in parts]
    image = Image.merge("CMYK", (*stored, Image.fromarray(black)))
    content = bytearray(encoded(image, "JPEG", quality=98, subsampling=0))
    marker = content.index(b"Adobe")
    content[marker + 11] = 2
    return bytes(content)


def bomb(width: int, height: int) -> bytes:
    """A PNG file of 60 bytes that declares this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data
