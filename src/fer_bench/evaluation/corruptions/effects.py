"""The effects on one image, as pure functions: (pixels, generator, *strength) → pixels."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

FloatArray = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

# Lengths are given for images with this side in pixels.
REFERENCE_SIDE = 224
# Lengths are multiplied by at least this: no image is treated as smaller than 48 px, the size of
# FER2013. The bound is higher where an effect needs whole pixels to be visible at all.
LEAST_SCALE = 48 / REFERENCE_SIDE
LEAST_SCALE_OF_GLASS = 0.6  # a pixel that moves, moves by at least one
LEAST_SCALE_OF_BLOCKS = 0.7  # the mildest block is 1.2 pixels wide
LEAST_SCALE_OF_SNOW = 0.35  # a flake is about a pixel wide
GREY = 0.5
# Standard deviation of the density of snow: what the published 0.3 becomes after the zoom.
SNOW_SPREAD = 0.2


def to_bytes(pixels: FloatArray) -> Pixels:
    """Values in [0, 1], clipped, as the nearest integers from 0 to 255."""
    values: Pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return values


def _scale(pixels: FloatArray, least: float = LEAST_SCALE) -> float:
    """The factor from lengths at `REFERENCE_SIDE` to lengths in this image."""
    side: int = min(pixels.shape[:2])
    return max(side / REFERENCE_SIDE, least)


def _luminance(pixels: FloatArray) -> FloatArray:
    """Shape (h, w, c) → (h, w, 1), by the weights of ITU-R BT.601."""
    if pixels.shape[2] == 1:
        return pixels
    return pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _mirrored(length: int, margin: int) -> NDArray[np.int64]:
    """Indices from -margin to length + margin, mirrored at the edges."""
    index = np.arange(-margin, length + margin) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _convolve(pixels: FloatArray, kernel: FloatArray) -> FloatArray:
    """Convolve every channel with a square kernel of odd side; edges are mirrored."""
    height, width = pixels.shape[:2]
    margin = len(kernel) // 2
    wide = pixels[_mirrored(height, margin)][:, _mirrored(width, margin)]
    shape = [fft.next_fast_len(side, real=True) for side in wide.shape[:2]]
    spectrum = fft.rfft2(wide, shape, axes=(0, 1))
    spectrum *= fft.rfft2(kernel, shape)[:, :, None]
    result: FloatArray = fft.irfft2(spectrum, shape, axes=(0, 1))
    return result[2 * margin :, 2 * margin :][:height, :width]


def _smooth(pixels: FloatArray, deviation: float) -> FloatArray:
    result: FloatArray = ndimage.gaussian_filter(pixels, deviation, axes=(0, 1), truncate=3)
    return result


def _enlarge(grid: FloatArray, height: int, width: int) -> FloatArray:
    """Interpolate a coarse field (rows, columns) at every pixel of an image, (h, w, 1)."""
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)[:, :, None]


def _clouds(height: int, width: int, decay: float, generator: np.random.Generator) -> FloatArray:
    """Fractal noise in [0, 1], shape (h, w, 1); details half as large are `decay` times weaker."""
    clouds = np.zeros((height, width, 1), np.float32)
    for octave in range(1, max(height, width).bit_length()):
        rows, columns = (min(2**octave + 1, side) for side in (height, width))
        grid = generator.random((rows, columns), np.float32)
        clouds += _enlarge(grid, height, width) * decay**-octave
    clouds -= clouds.min()
    clouds /= clouds.max()
    return clouds


def gaussian_noise(
    pixels: FloatArray, generator: np.random.Generator, deviation: float
) -> FloatArray:
    """Add normal noise of standard deviation `deviation`."""
    return pixels + deviation * generator.standard_normal(pixels.shape, np.float32)


def shot_noise(pixels: FloatArray, generator: np.random.Generator, photons: float) -> FloatArray:
    """Poisson noise, as if white were so many photons."""
    return generator.poisson(pixels * photons) / photons


def impulse_noise(pixels: FloatArray, generator: np.random.Generator, share: float) -> FloatArray:
    """This share of the values becomes 0 or 1."""
    drawn = generator.random(pixels.shape, np.float32)
    return np.where(drawn < share, (drawn < share / 2).astype(np.float32), pixels)


def defocus_blur(pixels: FloatArray, _: np.random.Generator, radius: float) -> FloatArray:
    """The mean over a disk."""
    radius *= _scale(pixels)
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    # A pixel at the rim counts in proportion to how much of it the disk covers.
    disk = np.clip(radius + 0.5 - np.hypot(offsets, offsets[:, None]), 0, 1).astype(np.float32)
    return _convolve(pixels, disk / disk.sum())


def glass(
    pixels: FloatArray,
    generator: np.random.Generator,
    deviation: float,
    reach: float,
    times: int,
) -> FloatArray:
    """Smooth, replace every pixel by a nearby one several times, and smooth again."""
    scale = _scale(pixels, LEAST_SCALE_OF_GLASS)
    height, width = pixels.shape[:2]
    shuffled = _smooth(pixels, deviation * scale)
    rows, columns = np.ogrid[:height, :width]
    limit = reach * scale
    for _ in range(times):
        moves = generator.uniform(-limit, limit, (2, height, width)).round().astype(np.intp)
        shuffled = shuffled[
            np.clip(rows + moves[0], 0, height - 1), np.clip(columns + moves[1], 0, width - 1)
        ]
    return _smooth(shuffled, deviation * scale)


def motion_blur(
    pixels: FloatArray, generator: np.random.Generator, radius: float, deviation: float
) -> FloatArray:
    """A trail at most 45° off the horizontal."""
    return _smear(pixels, generator.uniform(-45, 45), radius, deviation, _scale(pixels))


def _smear(
    pixels: FloatArray, degrees: float, radius: float, deviation: float, scale: float
) -> FloatArray:
    """A trail to one side, of length 2 `radius`, that fades as a Gaussian."""
    length, fading = 2 * radius * scale, deviation * scale
    places = np.linspace(0, length, 2 * int(np.ceil(length)) + 1)
    weights = np.exp(-(places**2) / (2 * fading**2))
    margin = int(np.ceil(length)) + 1
    angle = np.deg2rad(degrees)
    across, down = margin + places * np.cos(angle), margin + places * np.sin(angle)
    left, top = np.floor(across).astype(int), np.floor(down).astype(int)
    # Each point of the trail is shared among the four pixels around it.
    kernel = np.zeros((2 * margin + 1, 2 * margin + 1), np.float32)
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (1 - np.abs(left + right - across)) * (1 - np.abs(top + below - down))
        np.add.at(kernel, (top + below, left + right), share * weights)
    return _convolve(pixels, kernel / kernel.sum())


def zoom_blur(
    pixels: FloatArray, _: np.random.Generator, largest: float, step: float
) -> FloatArray:
    """The mean over zooms towards the centre, from none to `largest`."""
    height, width, channels = pixels.shape
    total = pixels.copy()
    zooms = np.arange(1, largest, step)
    picture = _picture(pixels)
    for zoom in zooms:
        right, bottom = width * (1 + 1 / zoom) / 2, height * (1 + 1 / zoom) / 2
        box = (width - right, height - bottom, right, bottom)
        zoomed = picture.resize((width, height), Image.Resampling.BILINEAR, box)
        total += np.asarray(zoomed).reshape(height, width, channels) / np.float32(255)
    return total / (len(zooms) + 1)


def _picture(pixels: FloatArray) -> Image.Image:
    values = to_bytes(pixels)
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)


def snowfall(
    pixels: FloatArray,
    generator: np.random.Generator,
    amount: float,
    flake: float,
    threshold: float,
    trail: tuple[float, float],
    kept: float,
) -> FloatArray:
    """Flakes of `flake` pixels fall across the image, which pales by 1 - `kept`.

    `trail` is the radius and the standard deviation of the motion blur of a flake.
    """
    height, width = pixels.shape[:2]
    scale = _scale(pixels, LEAST_SCALE_OF_SNOW)
    sides = [max(round(side / max(flake * scale, 1)), 2) for side in (height, width)]
    field = _enlarge(generator.standard_normal(sides, np.float32), height, width)
    # The same spread for flakes of every size, so that small images do not get more of them.
    flakes = np.clip(amount + SNOW_SPREAD / field.std() * field, 0, 1)
    flakes = np.where(flakes < threshold, np.float32(0), flakes)
    fallen = _smear(flakes, generator.uniform(-135, -45), *trail, scale)
    pale = np.maximum(pixels, _luminance(pixels) * 1.5 + 0.5)
    result: FloatArray = kept * pixels + (1 - kept) * pale + fallen + fallen[::-1, ::-1]
    return result


def frosted(
    pixels: FloatArray, generator: np.random.Generator, kept: float, added: float
) -> FloatArray:
    """Ice on the lens, without colour, so that a grey face stays grey."""
    height, width = pixels.shape[:2]
    ice: NDArray[Any] = _ice(height, width, generator)
    result: FloatArray = kept * pixels + added * ice
    return result


def _ice(height: int, width: int, generator: np.random.Generator) -> FloatArray:
    """A crust of ice in [0, 1], shape (h, w, 1).

    Needles in three directions 60° apart, as ice crystals grow, each where a coarse random field is
    strong, on a haze.
    """
    scale = max(min(height, width) / REFERENCE_SIDE, LEAST_SCALE)
    turn = generator.uniform(0, 60)
    needles = np.zeros((height, width, 1), np.float32)
    for direction in range(3):
        grains = generator.standard_normal((height, width, 1), np.float32)
        grown = _smear(grains, turn + 60 * direction, 12, 10, scale)
        place = _enlarge(generator.random((6, 6), np.float32), height, width)
        np.maximum(needles, grown / grown.std() * place, out=needles)
    haze = _clouds(height, width, 1.6, generator)
    return np.clip(0.15 + 0.55 * haze + 0.4 * needles, 0, 1)


def fog_layer(
    pixels: FloatArray, generator: np.random.Generator, amount: float, decay: float
) -> FloatArray:
    """Bright clouds, after which the brightest pixel is as bright as before."""
    brightest = max(float(pixels.max()), 1 / 255)
    height, width = pixels.shape[:2]
    clouds = _clouds(height, width, decay, generator)
    return (pixels + amount * clouds) * (brightest / (brightest + amount))


def brightness(pixels: FloatArray, _: np.random.Generator, added: float) -> FloatArray:
    """Add to the value of HSV; hue and saturation stay."""
    value: FloatArray = pixels.max(axis=2, keepdims=True)
    brighter = np.minimum(value + np.float32(added), 1)
    ratio = np.divide(brighter, value, out=np.zeros_like(value), where=value > 0)
    result: FloatArray = np.where(value > 0, pixels * ratio, brighter)
    return result


def contrast(pixels: FloatArray, _: np.random.Generator, kept: float) -> FloatArray:
    """Keep this share of the distance to the mean colour."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    result: FloatArray = (pixels - mean) * kept + mean
    return result


def elastic(
    pixels: FloatArray, generator: np.random.Generator, distance: float, smoothness: float
) -> FloatArray:
    """Ripples: pixels move by `distance`, the root mean square along each axis."""
    height, width, channels = pixels.shape
    scale = _scale(pixels)
    moves = generator.uniform(-1, 1, (height, width, 2)).astype(np.float32)
    moves = _smooth(moves, smoothness * scale)
    moves *= distance * scale / np.sqrt(np.mean(moves**2))
    places = np.moveaxis(moves, 2, 0) + np.indices((height, width), np.float32)
    moved = [
        ndimage.map_coordinates(pixels[:, :, channel], places, order=1, mode="reflect")
        for channel in range(channels)
    ]
    return np.stack(moved, axis=2)


def pixelate(pixels: FloatArray, _: np.random.Generator, block: float) -> FloatArray:
    """Squares of `block` pixels."""
    height, width, channels = pixels.shape
    block *= _scale(pixels, LEAST_SCALE_OF_BLOCKS)
    small = (max(round(width / block), 1), max(round(height / block), 1))
    coarse = _picture(pixels).resize(small, Image.Resampling.BOX)
    blocks = np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))
    return blocks.reshape(height, width, channels) / np.float32(255)


def jpeg_compression(pixels: FloatArray, _: np.random.Generator, quality: int) -> FloatArray:
    """The image after JPEG compression with this quality."""
    file = io.BytesIO()
    _picture(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as written:
        return np.asarray(written).reshape(pixels.shape) / np.float32(255)


def cover(pixels: FloatArray, _: np.random.Generator, place: Sequence[float]) -> FloatArray:
    """A grey band over a part of the face; in the right place only on an aligned crop."""
    height, width = pixels.shape[:2]
    top, bottom, left, right = np.rint(np.array(place) * [height, height, width, width]).astype(int)
    covered = pixels.copy()
    covered[top:bottom, left:right] = GREY
    return covered
