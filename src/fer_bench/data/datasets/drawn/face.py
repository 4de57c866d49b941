"""Drawing a face from action units, person, pose and light."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fer_bench.labels import EXPRESSIONS

# Name and number in the Facial Action Coding System.
ACTION_UNITS = {
    "inner_brow_raise": 1,
    "outer_brow_raise": 2,
    "brow_lower": 4,
    "upper_lid_raise": 5,
    "cheek_raise": 6,
    "lid_tighten": 7,
    "nose_wrinkle": 9,
    "upper_lip_raise": 10,
    "lip_corner_pull": 12,
    "dimple": 14,  # drawn on one side only: the mark of contempt
    "lip_corner_depress": 15,
    "chin_raise": 17,
    "lip_stretch": 20,
    "lip_press": 24,
    "jaw_drop": 26,
}


@dataclass(frozen=True)
class Prototype:
    """An expression at full intensity.

    Attributes:
        units: activation of each action unit that takes part, in [0, 1].
        valence: how pleasant, in [-1, 1].
        arousal: how excited, in [-1, 1].
    """

    units: Mapping[str, float]
    valence: float
    arousal: float


# Valence and arousal: about where the circumplex model (Russell, 1980) has the class.
PROTOTYPES = {
    "neutral": Prototype({}, 0.0, 0.0),
    "happiness": Prototype(
        {"cheek_raise": 0.9, "lip_corner_pull": 1.0, "jaw_drop": 0.3}, valence=0.9, arousal=0.45
    ),
    "sadness": Prototype(
        {
            "inner_brow_raise": 1.0,
            "brow_lower": 0.35,
            "lip_corner_depress": 1.0,
            "chin_raise": 0.6,
        },
        valence=-0.75,
        arousal=-0.4,
    ),
    "surprise": Prototype(
        {
            "inner_brow_raise": 1.0,
            "outer_brow_raise": 1.0,
            "upper_lid_raise": 0.8,
            "jaw_drop": 1.0,
        },
        valence=0.2,
        arousal=0.85,
    ),
    "fear": Prototype(
        {
            "inner_brow_raise": 1.0,
            "outer_brow_raise": 0.3,
            "brow_lower": 0.4,
            "upper_lid_raise": 1.0,
            "lid_tighten": 0.2,
            "lip_stretch": 1.0,
            "jaw_drop": 0.35,
        },
        valence=-0.65,
        arousal=0.75,
    ),
    "disgust": Prototype(
        {
            "brow_lower": 0.5,
            "lid_tighten": 0.6,
            "nose_wrinkle": 1.0,
            "upper_lip_raise": 1.0,
            "lip_corner_depress": 0.4,
        },
        valence=-0.7,
        arousal=0.3,
    ),
    "anger": Prototype(
        {"brow_lower": 1.0, "upper_lid_raise": 0.5, "lid_tighten": 0.5, "lip_press": 1.0},
        valence=-0.6,
        arousal=0.8,
    ),
    "contempt": Prototype({"dimple": 1.0, "lid_tighten": 0.45}, valence=-0.5, arousal=0.2),
}

# Weaker than this, an expression cannot be distinguished from a neutral face.
INTENSITY = (0.65, 1.0)
UNIT_JITTER = 0.06
SKINS = ((255, 224, 196), (241, 194, 155), (224, 172, 125), (190, 132, 92), (141, 90, 60))
HAIRS = ((35, 28, 26), (78, 50, 34), (125, 80, 45), (205, 165, 95), (160, 75, 40), (150, 150, 155))
IRISES = ((70, 45, 30), (95, 70, 40), (60, 105, 70), (55, 95, 150), (95, 110, 120))
WHITE = (250, 249, 245)
PUPIL = (20, 16, 16)
MOUTH = (96, 30, 36)
SUPERSAMPLING = 3
FACE_UNIT = 0.385  # of the image's width, at scale 1
IMAGE_SIZE = 64  # pixels
Colour = tuple[int, int, int]

Points = NDArray[np.float64]

# Shapes of half width 1 that ellipses, bows and lids are made from; closer points at the ends.
ACROSS = -np.cos(np.linspace(0, np.pi, 14))
CIRCLE = np.column_stack([f(np.linspace(0, 2 * np.pi, 28)) for f in (np.cos, np.sin)])


@dataclass(frozen=True)
class DrawnFace:
    """One face and what is true about it.

    Attributes:
        image: RGB, shape (size, size, 3), uint8.
        label: one of `EXPRESSIONS`.
        intensity: how strong the expression is, in `INTENSITY`; 0 for a neutral face.
        valence: in [-1, 1].
        arousal: in [-1, 1].
        units: activation of every action unit, in [0, 1].
    """

    image: NDArray[np.uint8]
    label: str
    intensity: float
    valence: float
    arousal: float
    units: Mapping[str, float]


@dataclass(frozen=True)
class Person:
    """Who is drawn: everything about a face that does not say what it feels; face units."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    width: float
    height: float
    jaw: float
    hairline: float
    hair_length: float
    eye_size: float
    eye_spacing: float
    brow_thickness: float
    nose_length: float
    mouth_width: float
    glasses: bool

    @property
    def line(self) -> Colour:
        """The colour of creases and outlines on this skin."""
        return mix(self.skin, PUPIL, 0.62)


@dataclass(frozen=True)
class Pose:
    """The direction and size in which the head is seen.

    Attributes:
        yaw: how far the features move to the side of the head, in face units.
        pitch: how far they move down the head, in face units.
        roll: rotation in the image plane, in radians.
        scale: size of the head relative to the image.
        shift: position of the head's centre relative to the image's, in face units, shape (2,).
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: NDArray[np.float64]

    def project(self, points: Points) -> Points:
        """Face units to image units, both shape (n, 2).

        The head is modelled as a dome: its middle moves most when it turns.
        """
        x, y = points.T
        dome = np.maximum(1 - 0.5 * (x * x + y * y), 0)
        turned = np.column_stack([x + self.yaw * dome, y + self.pitch * dome])
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        rotation = np.array([[cosine, sine], [-sine, cosine]])
        projected: Points = self.scale * turned @ rotation + self.shift
        return projected


class Canvas:
    """Draws shapes, given in face units, on an image in a pose."""

    def __init__(self, image: Image.Image, pose: Pose) -> None:
        self._draw = ImageDraw.Draw(image)
        self._pose = pose
        self._centre = image.width / 2
        self._unit = image.width * FACE_UNIT

    def fill(self, points: Points, colour: Colour) -> None:
        """A filled polygon."""
        pixels = self._centre + self._unit * self._pose.project(points)
        self._draw.polygon(pixels.ravel().tolist(), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float) -> None:
        """An open line; `width` in face units."""
        around = np.concatenate([points[:1], points, points[-1:]])
        x, y = (around[2:] - around[:-2]).T
        edge = np.column_stack([-y, x]) * (width / 2 / np.hypot(x, y))[:, np.newaxis]
        self.fill(np.concatenate([points + edge, (points - edge)[::-1]]), colour)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` (in [0, 1]) of the way from `first` to `second`."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """Outline around (x, y) with half axes `width` and `height`, shape (n, 2)."""
    return (x, y) + CIRCLE * (width, height)


def curve(*through: tuple[float, float], power: float = 1) -> Points:
    """The arc through a start, a middle and an end point, shape (n, 2).

    `power` shapes it: 1 is a parabola, 0.5 an ellipse.
    """
    start, middle, end = np.array(through)
    across = ACROSS[:, np.newaxis]
    height = (1 - across**2) ** power
    centre = (start + end) / 2
    points: Points = centre + across * (end - start) / 2 + height * (middle - centre)
    return points


def draw_face(seed: int, index: int, size: int = IMAGE_SIZE) -> DrawnFace:
    """Draw one face, which depends on the arguments only.

    Args:
        seed: which population of faces, at least 0.
        index: which face in it, at least 0; the expressions alternate.
        size: edge of the image in pixels.
    """
    generator = np.random.default_rng([seed, index])
    label = EXPRESSIONS[index % len(EXPRESSIONS)]
    prototype = PROTOTYPES[label]
    intensity = float(generator.uniform(*INTENSITY)) if prototype.units else 0.0
    units = {
        name: float(np.clip(intensity * prototype.units.get(name, 0.0) + jitter, 0, 1))
        for name, jitter in zip(
            ACTION_UNITS, generator.normal(0, UNIT_JITTER, len(ACTION_UNITS)), strict=True
        )
    }
    return DrawnFace(
        image=_photograph(generator, _sample_person(generator), units, size),
        label=label,
        intensity=intensity,
        valence=prototype.valence * intensity,
        arousal=prototype.arousal * intensity,
        units=units,
    )


def _pick(generator: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    first, second = generator.integers(len(palette), size=2)
    return mix(palette[first], palette[second], float(generator.uniform(0, 0.5)))


def _any_colour(generator: np.random.Generator) -> Colour:
    red, green, blue = generator.integers(70, 220, size=3).tolist()
    return red, green, blue


def _sample_person(generator: np.random.Generator) -> Person:
    skin = _pick(generator, SKINS)
    uniform = generator.uniform
    return Person(
        skin=skin,
        hair=_pick(generator, HAIRS),
        iris=_pick(generator, IRISES),
        lips=mix(skin, (185, 55, 65), float(uniform(0.35, 0.7))),
        clothes=_any_colour(generator),
        width=uniform(0.76, 0.9),
        height=uniform(0.98, 1.1),
        jaw=uniform(0.1, 0.35),
        hairline=uniform(-0.85, -0.68),
        hair_length=uniform(-0.2, 1.3),
        eye_size=uniform(0.17, 0.21),
        eye_spacing=uniform(0.34, 0.4),
        brow_thickness=uniform(0.055, 0.095),
        nose_length=uniform(0.24, 0.32),
        mouth_width=uniform(0.28, 0.35),
        glasses=bool(uniform() < 0.2),
    )


def _sample_pose(generator: np.random.Generator) -> Pose:
    return Pose(
        yaw=generator.uniform(-0.16, 0.16),
        pitch=generator.uniform(-0.08, 0.08),
        roll=generator.uniform(-0.18, 0.18),
        scale=generator.uniform(0.92, 1.1),
        shift=generator.uniform(-0.1, 0.1, size=2),
    )


def _photograph(
    generator: np.random.Generator, person: Person, units: Mapping[str, float], size: int
) -> NDArray[np.uint8]:
    """The person with these action units as an image, shape (size, size, 3)."""
    edge = SUPERSAMPLING * size
    image = Image.new("RGB", (edge, edge), _any_colour(generator))
    canvas = Canvas(image, _sample_pose(generator))
    _draw_background(generator, canvas)
    contempt_side = float(generator.choice((-1.0, 1.0)))
    gaze = float(generator.uniform(-0.04, 0.04))
    _draw_head(canvas, person, units)
    _draw_nose(canvas, person, units)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, person, units, side, gaze)
        _draw_brow(canvas, person, units, side)
    _draw_mouth(canvas, person, units, contempt_side)
    pixels = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float64)
    return _light(generator, pixels)


def _light(generator: np.random.Generator, pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Light from one side, an exposure and the noise of a sensor; shape (size, size, 3)."""
    direction = generator.uniform(0, 2 * np.pi)
    across = np.linspace(-1, 1, len(pixels))
    slope = np.cos(direction) * across + np.sin(direction) * across[:, np.newaxis]
    light = generator.uniform(0.75, 1.1) + generator.uniform(0, 0.25) * slope
    noise = generator.normal(0, generator.uniform(2, 6), pixels.shape)
    lit: NDArray[np.float64] = pixels * light[:, :, np.newaxis] + noise
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def _draw_background(generator: np.random.Generator, canvas: Canvas) -> None:
    for _ in range(4):
        x, y = generator.uniform(-1.5, 1.5, size=2)
        radius = generator.uniform(0.2, 0.7)
        canvas.fill(ellipse(x, y, radius, radius), _any_colour(generator))


def _draw_head(canvas: Canvas, person: Person, units: Mapping[str, float]) -> None:
    """Hair, shoulders, neck, ears and the face without its features."""
    width, height = person.width, person.height
    canvas.fill(ellipse(0, 1.75, 1.15, 0.6), person.clothes)
    if person.hair_length > 0:
        sides = [[-1, -0.3], [1, -0.3], [1.05, person.hair_length], [-1.05, person.hair_length]]
        canvas.fill(np.array(sides) * (1.12 * width, 1), person.hair)
    canvas.fill(
        np.array([[-0.3, 0.7], [0.3, 0.7], [0.34, 1.4], [-0.34, 1.4]]),
        mix(person.skin, person.line, 0.4),
    )
    canvas.fill(ellipse(0, -0.25, 1.12 * width, 0.98 * height), person.hair)
    for side in (-1, 1):
        canvas.fill(ellipse(side * width, 0, 0.1, 0.17), mix(person.skin, person.line, 0.25))
    face = ellipse(0, 0, width, height)
    below = np.clip(face[:, 1], 0, None) / height
    face[:, 0] *= 1 - person.jaw * below**2
    face[:, 1] *= 1 + 0.12 * units["jaw_drop"] * below
    face[:, 1] = np.maximum(face[:, 1], person.hairline)
    canvas.fill(face, person.skin)


def _draw_brow(canvas: Canvas, person: Person, units: Mapping[str, float], side: float) -> None:
    raised, raised_outside = units["inner_brow_raise"], units["outer_brow_raise"]
    lowered = units["brow_lower"] + 0.3 * units["nose_wrinkle"]
    spacing, base = person.eye_spacing, -0.43
    inner = base - 0.17 * raised + 0.2 * lowered
    outer = base + 0.04 - 0.2 * raised_outside - 0.03 * lowered + 0.04 * raised
    arch = 0.06 + 0.05 * raised_outside - 0.05 * lowered
    brow = curve(
        (side * (spacing - 0.2 - 0.04 * lowered), inner),
        (side * spacing, (inner + outer) / 2 - arch),
        (side * (spacing + 0.24), outer),
    )
    canvas.stroke(brow, mix(person.hair, PUPIL, 0.55), person.brow_thickness)
    if lowered > 0.3:
        frown = np.array([[0.07, inner - 0.1], [0.05, inner + 0.06]]) * (side, 1)
        canvas.stroke(frown, mix(person.skin, person.line, min(1, lowered)), 0.03)


def _draw_eye(
    canvas: Canvas, person: Person, units: Mapping[str, float], side: float, gaze: float
) -> None:
    """White, iris and lids; the lids cover part of the iris."""
    tight, cheek = units["lid_tighten"], units["cheek_raise"]
    wrinkle = units["nose_wrinkle"]
    sad = units["inner_brow_raise"] * (1 - units["outer_brow_raise"])
    x, y, half = side * person.eye_spacing, -0.12, person.eye_size
    above = half * (0.6 + 0.45 * units["upper_lid_raise"] - 0.22 * tight - 0.15 * wrinkle)
    below = half * (0.5 - 0.2 * tight - 0.6 * cheek - 0.15 * wrinkle)

    def upper(at: NDArray[np.float64]) -> NDArray[np.float64]:
        # A raised inner brow lifts the inner end of the lid with it.
        return y - above * (1 - at**2) * (1 - 0.35 * side * sad * at)

    def lower(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return y + below * (1 - at**2)

    top = np.column_stack([x + half * ACROSS, upper(ACROSS)])
    bottom = np.column_stack([x + half * ACROSS, lower(ACROSS)])
    canvas.fill(np.concatenate([top, bottom[::-1]]), WHITE)
    for radius, colour in ((0.6 * half, person.iris), (0.32 * half, PUPIL)):
        disc = ellipse(x + gaze, y - 0.02, radius, radius)
        at = (disc[:, 0] - x) / half
        disc[:, 1] = np.clip(disc[:, 1], upper(at), np.maximum(lower(at), upper(at)))
        canvas.fill(disc, colour)
    canvas.stroke(top, PUPIL, 0.045)
    canvas.stroke(bottom, person.line, 0.025)
    if cheek > 0.3:
        pouch = curve((x - half, 0.06), (x, 0.13 - 0.06 * cheek), (x + half, 0.06))
        canvas.stroke(pouch, mix(person.skin, person.line, 0.7 * cheek), 0.03)
    if person.glasses:
        canvas.stroke(ellipse(x, y, 0.29, 0.25), PUPIL, 0.035)
        canvas.stroke(np.array([[0, y - 0.05], [x - side * 0.28, y - 0.03]]), PUPIL, 0.035)


def _draw_nose(canvas: Canvas, person: Person, units: Mapping[str, float]) -> None:
    wrinkle = units["nose_wrinkle"]
    tip = -0.05 + person.nose_length - 0.06 * wrinkle
    width = 0.11 + 0.03 * wrinkle
    canvas.stroke(curve((-0.05, -0.1), (-0.07, tip - 0.12), (-width, tip)), person.line, 0.02)
    canvas.stroke(curve((-width, tip), (0, tip + 0.07), (width, tip)), person.line, 0.035)
    if wrinkle > 0.3:
        colour = mix(person.skin, person.line, wrinkle)
        for height in (-0.2, -0.12, -0.04):
            canvas.stroke(curve((-0.09, height), (0, height - 0.04), (0.09, height)), colour, 0.03)


def _draw_mouth(
    canvas: Canvas, person: Person, units: Mapping[str, float], contempt_side: float
) -> None:
    """Lips, teeth, the dark between them and the folds beside them."""
    pull, stretch, jaw = units["lip_corner_pull"], units["lip_stretch"], units["jaw_drop"]
    press, raised, dimple = units["lip_press"], units["upper_lip_raise"], units["dimple"]
    down, chin = units["lip_corner_depress"], units["chin_raise"]
    y = 0.52
    half = person.mouth_width * (
        1 + 0.3 * pull + 0.3 * stretch - 0.2 * press - 0.3 * max(0, jaw - pull - stretch)
    )

    def corner(side: float) -> tuple[float, float]:
        smirk = dimple if side == contempt_side else 0.0
        height = 0.17 * pull + 0.24 * smirk - 0.15 * down - 0.12 * stretch
        return side * half * (1 + 0.25 * smirk), y - height

    left, right = corner(-1.0), corner(1.0)
    top = y - 0.17 * raised + 0.03 * pull - 0.08 * jaw - 0.06 * chin - 0.05 * stretch
    bottom = top + 0.02 + 0.42 * jaw + 0.13 * raised + 0.1 * pull + 0.14 * stretch
    power = 1 - 0.5 * min(1, jaw + stretch)
    lip = 0.055 * (1 - 0.75 * press)
    teeth = min(bottom, top + 0.09 * (pull + raised + stretch))
    opening = curve(left, (0, top), right, power=power)
    for above, below, colour in (
        (top - lip, bottom + 1.3 * lip, person.lips),
        (top, bottom, MOUTH),
        (top, teeth, WHITE),
    ):
        upper = curve(left, (0, above), right, power=power)
        lower = curve(right, (0, below), left, power=power)
        canvas.fill(np.concatenate([upper, lower]), colour)
    canvas.stroke(opening, MOUTH, 0.03)
    _draw_folds(canvas, person, units, (left, right), contempt_side)


def _draw_folds(
    canvas: Canvas,
    person: Person,
    units: Mapping[str, float],
    corners: tuple[tuple[float, float], tuple[float, float]],
    contempt_side: float,
) -> None:
    """The folds from the nose around the mouth, the dimple of contempt and the raised chin."""
    fold = max(units["lip_corner_pull"], units["nose_wrinkle"], units["upper_lip_raise"])
    for side, (x, y) in zip((-1.0, 1.0), corners, strict=True):
        if fold > 0.3:
            crease = curve((side * 0.17, 0.2), (x + side * 0.02, y - 0.16), (x + side * 0.08, y))
            canvas.stroke(crease, mix(person.skin, person.line, 0.8 * fold), 0.03)
        if side == contempt_side and units["dimple"] > 0.3:
            crease = curve(
                (x + side * 0.03, y - 0.13), (x + side * 0.12, y - 0.01), (x + side * 0.05, y + 0.1)
            )
            canvas.stroke(crease, mix(person.skin, person.line, units["dimple"]), 0.05)
    if units["chin_raise"] > 0.3:
        chin = curve((-0.12, 0.82), (0, 0.76), (0.12, 0.82))
        canvas.stroke(chin, mix(person.skin, person.line, units["chin_raise"]), 0.03)
