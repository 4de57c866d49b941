"""Names as users spell them: case, spaces, hyphens and underscores do not matter."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

# Of the name of a run, which is a part of the name of its folder.
LONGEST = 200


# What changes a terminal or turns a line around, apart from tabs and line ends.
_CONTROL = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)},
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


def visible(text: str) -> str:
    """`text` with its control characters spelled, so that no name can change what shows it."""
    return text.translate(_CONTROL)


def known_as(typed: str, known: Iterable[str]) -> str:
    """The one known name that `typed` can only mean, else `typed` itself.

    `ResNet-50` is `resnet50`. An exact match takes precedence.
    """
    names = list(dict.fromkeys(known))
    if typed in names:
        return typed
    alike = [name for name in names if _bare(name) == _bare(typed)]
    return alike[0] if len(alike) == 1 else typed


def _bare(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).casefold()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint `Did you mean 'x'?` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else ""


def slug(text: str) -> str:
    """A name for a run, made from any text: `My Run (final) ü` gives `my-run-final-u`.

    It has at most `LONGEST` characters. If none can be kept, the name is `experiment`.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_.]+", "-", plain.lower())[:LONGEST].strip("-._") or "experiment"
