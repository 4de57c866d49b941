"""`~` and `$VARIABLE` in paths, as in a shell."""

import os
import re
from pathlib import Path

# What Linux takes as a path.
LONGEST = 4095
# Deeper, Python cannot make the folders one after the other.
DEEPEST = 250
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expanded(path: str | Path) -> Path:
    """The path with `~` and all variables expanded; a path that exists as written is kept.

    Raises:
        ValueError: a variable is not set, there is no such home, or the path is too long or too
            deep. The message follows the path.
    """
    text = str(path)
    _check_length(text)
    if (not text.startswith("~") and "$" not in text) or Path(text).exists():
        return Path(path)
    for braced, bare in _VARIABLE.findall(text):
        if not os.environ.get(braced or bare):
            raise ValueError(f"the variable ${braced or bare} is not set")
    text = _VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home {text.partition('/')[0]}") from error


def _check_length(text: str) -> None:
    """Raises: ValueError for a path that no file system holds, or only one that nobody made."""
    if len(text) > LONGEST:
        raise ValueError(f"the path has {len(text):,} characters, at most {LONGEST:,} are possible")
    if (deep := text.count("/")) > DEEPEST:
        raise ValueError(f"the path has {deep:,} folders, at most {DEEPEST} are read")
