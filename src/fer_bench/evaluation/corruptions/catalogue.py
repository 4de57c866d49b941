"""The corruptions, each with its strengths, and how one is applied to an image.

The fifteen corruptions of ImageNet-C in five severities (Hendrycks and Dietterich, 2019,
arXiv:1903.12261), and an occlusion of the eyes and of the mouth. They are applied to an image as it
comes from its file, after the crop and before any resizing.

The published strengths are for images of 224 px. Here, a length in pixels (the radius of a blur,
the size of a flake, how far a pixel moves) is multiplied by shorter side / 224, so that it covers
the same part of a face; a proportion or an amount of light is not. The factor has a lower bound,
`effects.LEAST_SCALE`, so that there is still an effect on images of 48 px and below; it is larger
in proportion there. Results are therefore comparable on one dataset, but not with numbers measured
on ImageNet-C.

Differences from the published corruptions: `frost` uses computed ice instead of photographs, with
strengths to match. The strengths of `elastic_transform` are this project's own, since the published
ones are of two kinds (shears, then ripples) in no order. `fog` and the paling by `snow` differ a
little where a published severity would change no more than the one before. `glass_blur` draws all
displacements at once instead of swapping pixel after pixel. A blur disk has smooth edges instead of
being smoothed afterwards.

All random numbers come from the SHA-256 of (seed, corruption, severity, sample id), so that results
depend neither on the order of the images nor on the number of processes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_bench.errors import ConfigError
from fer_bench.evaluation.corruptions.effects import (
    FloatArray,
    Pixels,
    brightness,
    contrast,
    cover,
    defocus_blur,
    elastic,
    fog_layer,
    frosted,
    gaussian_noise,
    glass,
    impulse_noise,
    jpeg_compression,
    motion_blur,
    pixelate,
    shot_noise,
    snowfall,
    to_bytes,
    zoom_blur,
)
from fer_bench.spelling import did_you_mean

SEED = 0
# Proportions of height (top, bottom) and width (left, right) in an aligned crop of a face, as in
# FER2013, RAF-DB and AffectNet: the eyes with the brows, and the mouth with its corners.
EYES = (0.22, 0.48, 0.06, 0.94)
MOUTH = (0.62, 0.92, 0.18, 0.82)


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt an image.

    Attributes:
        family: `noise`, `blur`, `weather`, `digital` or `occlusion`.
        function: (pixels, generator, *strength) → pixels; float32 in [0, 1], shape (h, w, c). The
            result may be outside of the range.
        strengths: the last arguments of `function`, per severity; a single one if there are no
            severities.
    """

    family: str
    function: Callable[..., FloatArray]
    strengths: tuple[tuple[Any, ...], ...]

    @property
    def severities(self) -> tuple[int | None, ...]:
        """1 to 5, or only None."""
        count = len(self.strengths)
        return (None,) if count == 1 else tuple(range(1, count + 1))


def corrupt(image: Pixels, name: str, severity: int | None, key: str, seed: int = SEED) -> Pixels:
    """The image after one corruption.

    Args:
        image: uint8, shape (h, w, c), c = 1 or 3; the result has the same shape.
        name: one of `CORRUPTIONS`.
        severity: one of its severities.
        key: the sample id; every sample gets random numbers of its own.
        seed: another seed gives every sample other random numbers.

    Raises:
        ConfigError: the corruption is unknown, or does not have this severity.
    """
    corruption = find(name)
    if severity not in corruption.severities:
        raise no_severity(name, severity)
    strength = corruption.strengths[0 if severity is None else severity - 1]
    digest = hashlib.sha256("\n".join([str(seed), name, str(severity), key]).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest))
    pixels = image.astype(np.float32) / np.float32(255)
    return to_bytes(corruption.function(pixels, generator, *strength))


def find(name: str) -> Corruption:
    """The corruption called `name`. Raises: ConfigError naming the known ones and the families."""
    if name in CORRUPTIONS:
        return CORRUPTIONS[name]
    families = list(dict.fromkeys(corruption.family for corruption in CORRUPTIONS.values()))
    hint = did_you_mean(name, ["all", *families, *CORRUPTIONS])
    raise ConfigError(
        f"unknown corruption '{name}'; known: all, {', '.join(families)} (families), "
        f"{', '.join(CORRUPTIONS)}. {hint}".strip()
    )


def no_severity(name: str, severity: object) -> ConfigError:
    """The error for a severity that the corruption or family `name` does not have."""
    if name in CORRUPTIONS and CORRUPTIONS[name].severities == (None,):
        return ConfigError(f"'{name}' has no severities, found '{severity}'; write '{name}' alone.")
    return ConfigError(f"'{name}' has no severity '{severity}'; use a number from 1 to 5.")


def _each(*strengths: float) -> tuple[tuple[float], ...]:
    """Strengths of one number each."""
    return tuple((strength,) for strength in strengths)


# Lengths in pixels at 224 px; light from 0 to 1.
CORRUPTIONS = {
    "gaussian_noise": Corruption("noise", gaussian_noise, _each(0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", shot_noise, _each(60, 25, 12, 5, 3)),
    "impulse_noise": Corruption("noise", impulse_noise, _each(0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption("blur", defocus_blur, _each(3, 4, 6, 8, 10)),
    "glass_blur": Corruption(
        "blur", glass, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    ),
    "motion_blur": Corruption("blur", motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": Corruption(
        "blur",
        zoom_blur,
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        "weather",
        snowfall,
        (
            (0.1, 3, 0.5, (10, 4), 0.8),
            (0.2, 2, 0.5, (12, 4), 0.74),
            (0.55, 4, 0.9, (12, 8), 0.68),
            (0.55, 4.5, 0.85, (12, 8), 0.62),
            (0.55, 2.5, 0.85, (12, 12), 0.55),
        ),
    ),
    "frost": Corruption(
        "weather",
        frosted,
        ((0.95, 0.3), (0.85, 0.45), (0.75, 0.6), (0.65, 0.7), (0.55, 0.8)),
    ),
    "fog": Corruption("weather", fog_layer, ((1.5, 2), (2, 2), (2.5, 1.7), (3, 1.6), (3.75, 1.5))),
    "brightness": Corruption("weather", brightness, _each(0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", contrast, _each(0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        "digital", elastic, ((1.2, 8), (1.8, 8), (2.5, 8), (3.2, 8), (4, 8))
    ),
    "pixelate": Corruption(
        "digital", pixelate, _each(1 / 0.6, 1 / 0.5, 1 / 0.4, 1 / 0.3, 1 / 0.25)
    ),
    "jpeg_compression": Corruption("digital", jpeg_compression, _each(25, 18, 15, 10, 7)),
    "eyes": Corruption("occlusion", cover, ((EYES,),)),
    "mouth": Corruption("occlusion", cover, ((MOUTH,),)),
}
