"""Names of expressions: the spellings and codes of datasets, and the one name used here."""

import re
from collections.abc import Collection, Iterable, Mapping

from fer_bench.errors import DataError
from fer_bench.spelling import did_you_mean

# One order for every dataset; a dataset without contempt uses the first seven.
EXPRESSIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)

SPLITS = ("train", "validation", "test")

AXES = ("valence", "arousal")

ATTRIBUTES = ("gender", "race", "age")

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


# The five orders that releases and public models use. No two are the same, and a wrong one causes
# no error, only a bad score.
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


def key(text: str) -> str:
    """The normalised label of a class: the canonical name, or the text in lower case.

    Two texts with the same key are the same label.
    """
    return canonical(text) or text.strip().casefold()


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: expressions first, in the order of `EXPRESSIONS`, then others as given."""
    distinct = list(dict.fromkeys(names))
    known = [name for name in EXPRESSIONS if name in distinct]
    return (*known, *(name for name in distinct if name not in EXPRESSIONS))


def decode(code: str, order: str) -> str | None:
    """The expression that `code`, as text, means in the order `order` of `CODES`, or None."""
    try:
        number = float(code)
    except ValueError:
        return None
    return CODES[order].get(int(number)) if number.is_integer() else None


def chosen(
    classes: Mapping[str, Collection[str]], present: Collection[str], order: str | None = None
) -> dict[str, tuple[str, ...]]:
    """The labels of a dataset that each class of `dataset.classes` consists of.

    An expression that the dataset does not have is allowed beside one that it has, so that one
    experiment fits several datasets. Any other label must exist.

    Args:
        classes: class → labels in any spelling, or codes in the order `order`.
        present: the labels of the dataset, as `key` spells them.
        order: the order of codes of this dataset, a key of `CODES`; None where it has no codes.

    Raises:
        DataError: a label does not exist, or none of the labels of a class does.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, sources in classes.items():
        labels = {source: _meant(source, present, order) for source in sources}
        there = tuple(dict.fromkeys(label for label in labels.values() if label in present))
        absent = [source for source, label in labels.items() if label not in present]
        unknown = [source for source in absent if not canonical(source)] if there else absent
        if unknown:
            hint = did_you_mean(key(unknown[0]), present) or "Name one of these, or remove it."
            raise DataError(
                f"dataset.classes: {name} takes {unknown[0]!r}, which is no label here; "
                f"there are {', '.join(present)}.\n{hint}"
            )
        found[name] = there
    return found


def _meant(source: str, present: Collection[str], order: str | None) -> str:
    """The label that `source` spells; if there is none of that name, the code of a label."""
    label = key(source)
    if label in present or order is None or order not in CODES:
        return label
    return decode(source, order) or label
