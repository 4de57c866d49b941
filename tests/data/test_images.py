"""Every format and mode gives the pixels that were drawn, to training and to the audit alike."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    ACROSS,
    ALPHA,
    COLOUR,
    DOWN,
    GREY,
    SIDE,
    bmp,
    bomb,
    codes_of,
    encoded,
    packed,
    palette_of,
    png,
    tiff,
    ycck,
)
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from fer_bench.data import decoding, images
from fer_bench.data.audit.image_files import Seen, inspect_all
from fer_bench.data.images import ImageError, crop, read_image, resize, upright_size
from fer_bench.data.manifest import Manifest

Pixels = NDArray[np.uint8]

# High bytes and, below, low bytes that are not.
SIXTEEN = GREY.astype(np.uint16) * 256 + ACROSS.astype(np.uint16) * 15
COLOUR_SIXTEEN = COLOUR.astype(np.uint16) * 256 + 200
BLACK = (DOWN * 8).astype(np.uint8)


class Kind(NamedTuple):
    """A file, what was drawn into it (h, w) or (h, w, 3), and how far pixels may be off."""

    content: bytes
    drawn: Pixels
    tolerance: int = 0


def anything() -> Image.Image:
    """A later frame or page."""
    return Image.fromarray(255 - COLOUR)


def of_bits(bits: int) -> Pixels:
    """`GREY` in steps of so many bits, as values from 0 to 255."""
    return np.asarray(codes_of(bits) * (255 // (2**bits - 1)), np.uint8)


def with_inks(inks: Pixels, black: Pixels) -> Pixels:
    """Each ink, and black, take their share of the light."""
    light = (255.0 - inks) * (255.0 - black[:, :, None]) / 255
    return light.round().astype(np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(codes_of(4))
    image.putpalette(palette_of(16).tobytes())
    return image


def rgba() -> Image.Image:
    return Image.fromarray(np.dstack([COLOUR, ALPHA]))


GREY_IMAGE, COLOUR_IMAGE = Image.fromarray(GREY), Image.fromarray(COLOUR)
INKED = Image.merge("CMYK", (*COLOUR_IMAGE.split(), Image.fromarray(BLACK)))
BILEVEL = of_bits(1)
LOOKED_UP = palette_of(16)[codes_of(4)]
TRANSPARENT = bytes([0, 128] * 8)

KINDS = {
    "jpeg grey": Kind(encoded(GREY_IMAGE, "JPEG", quality=98), GREY, 3),
    "jpeg colour": Kind(encoded(COLOUR_IMAGE, "JPEG", quality=98, subsampling=0), COLOUR, 5),
    "jpeg subsampled": Kind(encoded(COLOUR_IMAGE, "JPEG", quality=98), COLOUR, 12),
    "jpeg progressive": Kind(
        encoded(COLOUR_IMAGE, "JPEG", quality=98, subsampling=0, progressive=True), COLOUR, 5
    ),
    "jpeg cmyk": Kind(
        encoded(INKED, "JPEG", quality=98, subsampling=0), with_inks(COLOUR, BLACK), 8
    ),
    "jpeg ycck": Kind(ycck(COLOUR, BLACK), with_inks(COLOUR, BLACK), 8),
    "jpeg of several pictures": Kind(
        encoded(COLOUR_IMAGE, "MPO", save_all=True, append_images=[anything()], quality=98),
        COLOUR,
        12,
    ),
    **{f"png grey {bits}": Kind(png(codes_of(bits), bits, 0), of_bits(bits)) for bits in (1, 2, 4)},
    "png grey 8": Kind(png(GREY, 8, 0), GREY),
    "png grey 16": Kind(png(SIXTEEN, 16, 0), GREY),
    "png grey, one value transparent": Kind(
        png(GREY, 8, 0, transparency=struct.pack(">H", int(GREY[3, 4]))), GREY
    ),
    "png grey 16, one value transparent": Kind(
        png(SIXTEEN, 16, 0, transparency=struct.pack(">H", int(SIXTEEN[3, 4]))), GREY
    ),
    "png colour 8": Kind(png(COLOUR, 8, 2), COLOUR),
    "png colour 16": Kind(png(COLOUR_SIXTEEN, 16, 2), COLOUR),
    "png colour, one transparent": Kind(
        png(COLOUR, 8, 2, transparency=struct.pack(">3H", *COLOUR[3, 4].tolist())), COLOUR
    ),
    **{
        f"png palette {bits}": Kind(
            png(codes_of(bits), bits, 3, palette=palette_of(2**bits)),
            palette_of(2**bits)[codes_of(bits)],
        )
        for bits in (1, 2, 4, 8)
    },
    "png palette, many transparent": Kind(
        png(codes_of(4), 4, 3, palette=palette_of(16), transparency=TRANSPARENT), LOOKED_UP
    ),
    "png palette, one transparent": Kind(
        png(codes_of(4), 4, 3, palette=palette_of(16), transparency=b"\xff\0"), LOOKED_UP
    ),
    "png grey with alpha 8": Kind(png(np.dstack([GREY, ALPHA]), 8, 4), GREY),
    "png grey with alpha 16": Kind(png(np.dstack([SIXTEEN, ALPHA * np.uint16(257)]), 16, 4), GREY),
    "png colour with alpha 8": Kind(png(np.dstack([COLOUR, ALPHA]), 8, 6), COLOUR),
    "png colour with alpha 16": Kind(
        png(np.dstack([COLOUR_SIXTEEN, ALPHA * np.uint16(257)]), 16, 6), COLOUR
    ),
    **{
        f"bmp palette {bits}": Kind(
            bmp(codes_of(bits), bits, palette_of(2**bits)), palette_of(2**bits)[codes_of(bits)]
        )
        for bits in (1, 4, 8)
    },
    "bmp grey": Kind(encoded(GREY_IMAGE, "BMP"), GREY),
    "bmp bilevel": Kind(encoded(Image.fromarray(BILEVEL).convert("1"), "BMP"), BILEVEL),
    "bmp 24": Kind(encoded(COLOUR_IMAGE, "BMP"), COLOUR),
    "bmp 32": Kind(encoded(rgba(), "BMP"), COLOUR),
    "bmp without its file header": Kind(encoded(COLOUR_IMAGE, "DIB"), COLOUR),
    "gif": Kind(encoded(palette_image(), "GIF"), LOOKED_UP),
    "gif, one transparent": Kind(encoded(palette_image(), "GIF", transparency=3), LOOKED_UP),
    "gif animated": Kind(
        encoded(palette_image(), "GIF", save_all=True, append_images=[anything()]), LOOKED_UP
    ),
    "webp lossy": Kind(encoded(GREY_IMAGE.convert("RGB"), "WEBP", quality=98), GREY, 6),
    "webp lossless": Kind(encoded(COLOUR_IMAGE, "WEBP", lossless=True), COLOUR),
    "webp with alpha": Kind(encoded(rgba(), "WEBP", lossless=True, exact=True), COLOUR),
    "webp animated": Kind(
        encoded(COLOUR_IMAGE, "WEBP", lossless=True, save_all=True, append_images=[anything()]),
        COLOUR,
    ),
    "tiff bilevel": Kind(encoded(Image.fromarray(BILEVEL).convert("1"), "TIFF"), BILEVEL),
    "tiff bilevel, fax": Kind(
        encoded(Image.fromarray(BILEVEL).convert("1"), "TIFF", compression="group4"), BILEVEL
    ),
    "tiff grey 8": Kind(encoded(GREY_IMAGE, "TIFF"), GREY),
    "tiff grey 8, white is zero": Kind(tiff((255 - GREY).tobytes(), 8, photometric=0), GREY),
    "tiff grey 12": Kind(tiff(b"".join(packed(SIXTEEN >> 4, 12)), 12), GREY),
    "tiff grey 16": Kind(encoded(Image.fromarray(SIXTEEN), "TIFF"), GREY),
    "tiff grey 16, lzw": Kind(
        encoded(Image.fromarray(SIXTEEN), "TIFF", compression="tiff_lzw"), GREY
    ),
    "tiff grey 16, big end first": Kind(
        encoded(Image.fromarray(SIXTEEN.astype(">u2")), "TIFF"), GREY
    ),
    "tiff grey 16, white is zero": Kind(
        tiff((65535 - SIXTEEN).astype("<u2").tobytes(), 16, photometric=0), GREY
    ),
    "tiff colour": Kind(encoded(COLOUR_IMAGE, "TIFF"), COLOUR),
    "tiff colour, lzw": Kind(encoded(COLOUR_IMAGE, "TIFF", compression="tiff_lzw"), COLOUR),
    "tiff colour with alpha": Kind(encoded(rgba(), "TIFF"), COLOUR),
    "tiff palette": Kind(encoded(palette_image(), "TIFF"), LOOKED_UP),
    "tiff cmyk": Kind(encoded(INKED, "TIFF"), with_inks(COLOUR, BLACK), 1),
    "tiff jpeg": Kind(encoded(COLOUR_IMAGE, "TIFF", compression="jpeg", quality=98), COLOUR, 12),
    "tiff of several pages": Kind(
        encoded(COLOUR_IMAGE, "TIFF", save_all=True, append_images=[anything()]), COLOUR
    ),
}


def in_colour(drawn: Pixels) -> Pixels:
    return drawn if drawn.ndim == 3 else np.repeat(drawn[:, :, None], 3, axis=2)


def in_grey(drawn: Pixels) -> NDArray[np.float64]:
    return np.asarray(in_colour(drawn) @ np.array([0.299, 0.587, 0.114]))


def far_off(pixels: Pixels, drawn: NDArray[Any]) -> int:
    return int(np.abs(pixels - drawn.astype(float)).round().max())


def manifest_of(root: Path, files: dict[str, bytes], channels: int = 3) -> Manifest:
    """A training split of these files; their names say the wrong format."""
    for name, content in files.items():
        (root / f"{name}.jpg").write_bytes(content)
    rows = [(name, f"{name}.jpg", "train", "fear") for name in files]
    frame = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
    return Manifest("any", "v1", root, ("fear",), channels, frame)


def seen_by_training(root: Path, content: bytes, channels: int = 3, size: int = SIDE) -> Pixels:
    split = decoding.open_split(manifest_of(root, {"file": content}, channels), "train", size)
    assert split.pixels is not None
    pixels: Pixels = split.pixels[0]
    return pixels


def seen_by_audit(path: Path, content: bytes, channels: int = 3) -> Seen:
    path.write_bytes(content)
    (seen,) = inspect_all([(str(path), None)], "L" if channels == 1 else "RGB", 1)
    return seen


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_those_that_were_drawn(tmp_path: Path, name: str) -> None:
    content, drawn, tolerance = KINDS[name]
    colours = seen_by_training(tmp_path, content)
    assert far_off(colours, in_colour(drawn)) <= tolerance
    grey = seen_by_training(tmp_path, content, channels=1)
    assert grey.shape == (SIDE, SIDE, 1)
    assert far_off(grey[:, :, 0], in_grey(drawn)) <= max(tolerance, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_the_audit_sees_the_pixels_of_training(tmp_path: Path, name: str, channels: int) -> None:
    pixels = seen_by_training(tmp_path, KINDS[name].content, channels)
    plain = encoded(Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels), "PNG")
    seen = seen_by_audit(tmp_path / "a", KINDS[name].content, channels)
    assert seen == seen_by_audit(tmp_path / "b", plain, channels)
    assert (seen.kind, seen.size) == ("", "16x16")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]),
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "LA"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 8),
    st.integers(0, 2**32 - 1),
)
def test_audit_and_training_see_one_image(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    mode: str,
    width: int,
    height: int,
    orientation: int,
    seed: int,
) -> None:
    """Of any size, mode and orientation: the audit's digest is that of training's pixels."""
    folder = tmp_path_factory.getbasetemp()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise.view(np.uint16)[:, :, 0].copy())
    else:
        image = Image.fromarray(noise).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    try:
        content = encoded(image, kind, exif=exif)
    except (OSError, ValueError, KeyError):
        return  # this format has no such mode
    path = folder / "file.any"
    path.write_bytes(content)
    pixels = read_image(str(path), 3)
    assert pixels.shape[:2][::-1] == upright_size(str(path))
    seen = seen_by_audit(path, content)
    plain = seen_by_audit(folder / "plain", encoded(Image.fromarray(pixels), "PNG"))
    assert (seen.digest, seen.thumbnail, seen.kind) == (plain.digest, plain.thumbnail, plain.kind)
    split = decoding.split_files(manifest_of(folder, {"file": content}), "train", SIDE)
    trained = decoding.decode(split, np.arange(1))[0]
    np.testing.assert_array_equal(trained, resize(pixels, SIDE))


def test_16_bits_that_pillow_opens_as_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its versions up to 10 do with PNG files."""
    monkeypatch.setitem(PngImagePlugin._MODES, (16, 0), ("I", "I;16B"))
    path = tmp_path / "file.png"
    path.write_bytes(KINDS["png grey 16"].content)
    np.testing.assert_array_equal(read_image(str(path), 1)[:, :, 0], GREY)


# Orientation -----------------------------------------------------------------------------------

# How a picture that was turned so is stored, by what EXIF then says: the first row and column of
# the stored pixels are the named edges of the upright picture.
STORED: dict[int, Callable[[Any], Any]] = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


def lying(upright: Pixels, orientation: int, kind: str, **options: Any) -> bytes:
    """A picture stored so that EXIF has to set it upright."""
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    return encoded(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 98, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_set_upright(
    tmp_path: Path, kind: str, options: dict[str, Any], channels: int, orientation: int
) -> None:
    upright = COLOUR[:10] if channels == 3 else GREY[:10, :, None]
    path = tmp_path / "phone.jpg"
    path.write_bytes(lying(upright.squeeze(), orientation, kind, **options))
    tolerance = 5 if kind == "JPEG" else 0
    pixels = read_image(str(path), channels)
    assert pixels.shape == upright.shape
    assert far_off(pixels, upright) <= tolerance
    assert upright_size(str(path)) == (16, 10)
    # The box is one of the upright picture.
    assert far_off(read_image(str(path), channels, (2, 1, 9, 5)), upright[1:5, 2:9]) <= tolerance
    (seen,) = inspect_all([(str(path), None)], "RGB", 1)
    assert seen.size == "16x10"


@pytest.mark.parametrize(
    "content", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 30]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_makes_no_image_worse(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(encoded(COLOUR_IMAGE, kind, exif=content))
    assert read_image(str(path), 3).shape == COLOUR.shape
    assert upright_size(str(path)) == (SIDE, SIDE)


def test_an_invalid_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 77
    path = tmp_path / "file.png"
    path.write_bytes(encoded(COLOUR_IMAGE, "PNG", exif=exif))
    np.testing.assert_array_equal(read_image(str(path), 3), COLOUR)


# Boxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((3, 5, 13, 15), slice(5, 15), slice(3, 13)),
        ((-5, -7, 12, 13), slice(0, 13), slice(0, 12)),
        ((12, 10, 42, 10**9), slice(10, 16), slice(12, 16)),
        (None, slice(0, 16), slice(0, 16)),
    ],
)
def test_a_box_is_cut_at_the_edges_of_the_image(
    box: images.Box, rows: slice, columns: slice
) -> None:
    np.testing.assert_array_equal(crop(COLOUR, box), COLOUR[rows, columns])


@pytest.mark.parametrize("box", [(16, 0, 20, 5), (-9, 0, 0, 5), (3, 5, 3, 9), (5, 20, 9, 30)])
def test_a_face_outside_of_its_image_is_named(tmp_path: Path, box: images.Box) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(encoded(COLOUR_IMAGE, "PNG"))
    with pytest.raises(ImageError, match=r"(?s)file.png.*outside the 16x16 pixels"):
        read_image(str(path), 3, box)
    (seen,) = inspect_all([(str(path), box)], "RGB", 1)
    assert (seen.kind, seen.size) == ("undecodable", "16x16")


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), "floats"),
        (encoded(Image.fromarray(GREY.astype(np.int32) * 99), "TIFF"), "32 bits"),
        (tiff(SIXTEEN.astype("<i2").tobytes(), 16, sample_format=2), "signed integers"),
    ],
    ids=["floats", "32 bits", "signed"],
)
def test_values_whose_range_is_unknown_are_refused(
    tmp_path: Path, content: bytes, what: str
) -> None:
    with pytest.raises(ImageError, match=f"(?s)file.jpg.*{what}.*convert it to 8 or 16 bits"):
        seen_by_training(tmp_path, content)
    seen = seen_by_audit(tmp_path / "file.tif", content)
    assert seen.kind == "undecodable"
    assert what in seen.detail


@pytest.mark.parametrize("size", [(60_000, 60_000), (9_500, 9_500)])
def test_a_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    with monkeypatch.context() as patched:
        patched.setattr("PIL.ImageFile.ImageFile.load", refuse)
        with pytest.raises(ImageError, match=rf"file.jpg.*{size[0] * size[1]} pixels"):
            seen_by_training(tmp_path, bomb(*size))
    assert seen_by_audit(tmp_path / "bomb.png", bomb(*size)).kind == "too_large"


def test_a_bomb_is_refused_without_the_warning_of_pillow(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(9_500, 9_500))
    with pytest.raises(ImageError) as found:
        read_image(str(path), 3)
    assert found.value.fault == "too_large"


TRUNCATED = ("jpeg colour", "png colour 8", "bmp 24", "gif", "webp lossless", "tiff colour, lzw")


@pytest.mark.parametrize("name", [*TRUNCATED, "tiff grey 16", "tiff jpeg"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_file_that_ends_too_early_is_an_error(tmp_path: Path, name: str, share: float) -> None:
    content = KINDS[name].content
    content = content[: int(share * len(content))]
    with pytest.raises(ImageError, match=rf"(?s)file.jpg.*{len(content)} bytes;.*Replace"):
        seen_by_training(tmp_path, content)
    assert seen_by_audit(tmp_path / "file", content).kind in ("truncated", "undecodable")


@pytest.mark.parametrize("content", [b"<html>log in</html>", b"P5 2 2 255 abcd", b"\0" * 500])
def test_invalid_images_are_named_with_their_size(tmp_path: Path, content: bytes) -> None:
    expected = rf"(?s)file.jpg.*\({len(content)} bytes; .*JPEG, PNG.*leave it out"
    with pytest.raises(ImageError, match=expected):
        seen_by_training(tmp_path, content)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for read in (lambda path: read_image(path, 3), upright_size):
        with pytest.raises(ImageError, match=r"gone.png.*no such file") as found:
            read(str(tmp_path / "gone.png"))
        assert found.value.fault == "missing"
        with pytest.raises(ImageError, match=r"folder.png.*Is a directory"):
            read(str(tmp_path / "folder.png"))


# Resizing --------------------------------------------------------------------------------------


def triangle_means(old: int, new: int) -> NDArray[np.float64]:
    """The weights (new, old) of a triangle filter, each row's sum 1."""
    scale = max(old / new, 1)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    distances = np.abs(np.arange(old) - centres[:, None]) / scale
    weights = np.maximum(1 - distances, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32 - 1),
)
def test_resizing_is_a_triangle_filter(
    height: int, width: int, size: int, channels: int, seed: int
) -> None:
    shape = (height, width, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    expected = np.einsum(
        "yh,xw,hwc->yxc", triangle_means(height, size), triangle_means(width, size), pixels
    )
    resized = resize(pixels, size)
    assert resized.shape == (size, size, channels)
    assert np.abs(resized - expected).max() <= 1.1  # rows are rounded before columns


def test_what_has_the_size_stays_as_it_is() -> None:
    assert resize(COLOUR, SIDE) is COLOUR
