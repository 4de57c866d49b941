"""The spellings and codes under which data sets know an expression, and the one name used here."""

import re
from collections.abc import Mapping

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


def _coded(names: str, first: int = 0) -> dict[int, str]:
    return {first + code: SPELLINGS[name] for code, name in enumerate(names.split())}


# The five orders that releases and public models use. No two agree, and a wrong one makes no
# error, only a bad score.
CODES: Mapping[str, Mapping[int, str]] = {
    "rafdb": _coded("surprise fear disgust happy sad anger neutral", first=1),
    "affectnet": _coded("neutral happy sad surprise fear disgust anger contempt"),
    "fer2013": _coded("angry disgust fear happy sad surprise neutral"),
    "alphabetical-7": _coded("angry disgust fear happy neutral sad surprise"),
    "alphabetical-8": _coded("anger contempt disgust fear happy neutral sad surprise"),
}


def canonical(name: str) -> str | None:
    """The name in `EXPRESSIONS` that `name` spells, or None.

    Case, surrounding blanks and a leading number do not matter.
    """
    return SPELLINGS.get(_LEADING_NUMBER.sub("", name.strip()).casefold())


def decode(code: str, order: str) -> str | None:
    """The expression that `code`, as text, means in the order `order` of `CODES`, or None."""
    try:
        number = float(code)
    except ValueError:
        return None
    return CODES[order].get(int(number)) if number.is_integer() else None


def translation(source: str, target: str) -> dict[int, int | None]:
    """Code in the order `source` → code in the order `target`; None where it has no such class."""
    codes = {name: code for code, name in CODES[target].items()}
    return {code: codes.get(name) for code, name in CODES[source].items()}
