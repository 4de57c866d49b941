"""The spellings under which data sets know an expression, and the one name used here."""

import re

from fer_bench.manifest import EXPRESSIONS

_ADJECTIVES = {
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "fearful": "fear",
    "disgusted": "disgust",
    "angry": "anger",
    "contemptuous": "contempt",
}
SPELLINGS = {name: name for name in EXPRESSIONS} | _ADJECTIVES

# Folders are often numbered so that they sort in the order of the codes: `0_angry`, `3 - happy`.
_LEADING_NUMBER = re.compile(r"^[0-9]+[\s._:-]+")


def canonical(name: str) -> str | None:
    """The name in `EXPRESSIONS` that `name` spells, or None.

    Case, surrounding blanks and a leading number do not matter.
    """
    return SPELLINGS.get(_LEADING_NUMBER.sub("", name.strip()).casefold())
