"""Names as people spell them: capitals, blanks, hyphens and underscores are forgiven."""

import re
import unicodedata
from collections.abc import Iterable


def known_as(typed: str, known: Iterable[str]) -> str:
    """The one known name that `typed` can only mean, else `typed` itself.

    `ResNet-50` is `resnet50`. A name that is spelled exactly comes before any other.
    """
    names = list(dict.fromkeys(known))
    if typed in names:
        return typed
    alike = [name for name in names if _bare(name) == _bare(typed)]
    return alike[0] if len(alike) == 1 else typed


def _bare(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).casefold()


def slug(text: str) -> str:
    """A name for a run, made from any text: `My Run (final) ü` gives `my-run-final-u`.

    Where nothing of it can be kept it is `experiment`.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_.]+", "-", plain.lower()).strip("-._") or "experiment"
