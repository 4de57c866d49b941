"""The colours of all figures and pages; a class has the same colour everywhere.

After Okabe and Ito (2008), whose colours are distinguishable with common colour-vision
deficiencies. Their black is replaced by grey and their yellow by plum, so that every colour is
visible on white and on dark pages.
`tests/report/test_palette.py` measures the distances.
"""

import itertools
from collections.abc import Sequence

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
PURPLE = "#CC79A7"

CLASSES = {
    "neutral": "#666666",
    "happiness": "#E69F00",
    "sadness": "#0072B2",
    "surprise": "#56B4E9",
    "fear": "#CC79A7",
    "disgust": "#009E73",
    "anger": "#D55E00",
    "contempt": "#994F88",
}
SPLITS = {"train": BLUE, "validation": GREEN, "test": ORANGE}


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class: its own if it has one, else one of the unused colours, in order.

    Beyond eight classes the colours repeat, so a figure must not rely on them alone.
    """
    free = [colour for name, colour in CLASSES.items() if name not in names]
    others = itertools.cycle(free or list(CLASSES.values()))
    return {name: CLASSES[name] if name in CLASSES else next(others) for name in names}
