"""Where the commands print: results to standard output, messages to standard error.

Whatever a stream can show, no command fails on it: characters that its encoding lacks are spelled
in ASCII. A reader that goes away early (`| head`) ends the command quietly, as it ends others.
"""

import codecs
import contextlib
import os
import sys
from typing import TextIO

from rich.console import Console

ERRORS = "fer_bench.spelled"
# What a shell reports of a program that SIGPIPE ended: 128 + 13.
PIPE_CLOSED = 141

_WORDS = (
    *("±+/-", "×x", "→->", "←<-", "↔<->", "≤<=", "≥>=", "≠!=", "≈~", "√sqrt", "Σsum", "° deg"),
    *("²^2", "³^3", "⁹^9", "†+", "‡#", "…...", "•*", "·.", "▲^", "▼v", "✓ok"),
    *("▁_", "▂.", "▃:", "▄-", "▅=", "▆+", "▇*", "█#"),
)
_SPELLED = {
    **{word[0]: word[1:] for word in _WORDS},
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212─━═╌╍╴╶╸╺", "-"),
    **dict.fromkeys("│┃║╎╏", "|"),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
}


def _spell(character: str) -> str:
    """ASCII for one character: what is read alike, else its escape as in Python."""
    if character in _SPELLED:
        return _SPELLED[character]
    code = ord(character)
    if 0x2500 <= code < 0x2580:  # corners and crossings of lines
        return "+"
    if 0x2800 <= code < 0x2900:  # Braille dots, of which spinners are made
        return "*"
    if 0xDC80 <= code < 0xDD00:  # a byte of a file name that is not in the encoding of the system
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode()


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """The error handler of the streams (`codecs.register_error`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell, error.object[error.start : error.end])), error.end


codecs.register_error(ERRORS, _spelled)


def prepare_streams() -> None:
    """Let both streams take every character, and give them a place where they are closed.

    A closed standard stream would otherwise lend its number to the next file that is opened, into
    which libraries would then print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout, sys.stderr = (_prepared(stream) for stream in (sys.stdout, sys.stderr))


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the process
    with contextlib.suppress(AttributeError):  # of a notebook, which takes everything
        stream.reconfigure(errors=ERRORS)  # type: ignore[attr-defined]
    return stream


def say(text: str = "", end: str = "\n") -> None:
    """Print a result as it is, without markup and never wrapped."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_is_gone(None)


def _reader_is_gone(_: Console | None) -> None:
    """End the process as a closed pipe ends any other. Raises: SystemExit."""
    discard_output()
    raise SystemExit(PIPE_CLOSED)


def discard_output() -> None:
    """Let what can no longer be written go nowhere, so that leaving Python does not fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


# For Typer's consoles too, which print the help and which only this reaches.
Console.on_broken_pipe = _reader_is_gone  # type: ignore[method-assign, assignment]

messages = Console(stderr=True)


def results() -> Console:
    """The console of standard output, with its size as it is now."""
    return Console()
