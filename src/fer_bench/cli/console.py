"""Where the commands print: results to standard output, messages to standard error.

No command fails because of what a stream can show: characters that are not in its encoding are
spelled in ASCII. If the reader of a pipe ends early (`| head`), the command ends quietly.
"""

import codecs
import contextlib
import io
import os
import sys
from typing import Any, TextIO

from rich.console import Console

ERRORS = "fer_bench.spelled"
# The exit code of a program that SIGPIPE ended, as a shell reports it: 128 + 13.
PIPE_CLOSED = 141
STANDARD_OUTPUT = "standard output"

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
    """ASCII for one character: something that reads alike, else its escape as in Python."""
    if character in _SPELLED:
        return _SPELLED[character]
    code = ord(character)
    if 0x2500 <= code < 0x2580:  # corners and crossings of lines
        return "+"
    if 0x2800 <= code < 0x2900:  # Braille dots, used by spinners
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
    """Let both streams accept every character, and replace those that are closed.

    Results that cannot be written are an error. Messages are lost: no training ends because the
    terminal was closed, or the disk with its log is full.

    Without the replacement, the next file to be opened would get the number of a closed standard
    stream, and libraries would print into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free number
    sys.stdout, sys.stderr = _prepared(sys.stdout, _Results), _prepared(sys.stderr, _Messages)


class _Results(io.FileIO):
    """Standard output, named in its errors."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


class _Messages(io.FileIO):
    """Standard error; what cannot be written is lost."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def _prepared(stream: TextIO | None, kind: type[io.FileIO]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the process
    is_of_process = stream in (sys.__stdout__, sys.__stderr__)  # a program or test has its own
    if is_of_process:
        raw = kind(stream.fileno(), "w", closefd=False)
        return io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=ERRORS,
            line_buffering=bool(stream.line_buffering),
        )
    with contextlib.suppress(AttributeError):  # in a notebook, which accepts everything
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
    """End the process as a closed pipe ends other programs. Raises: SystemExit."""
    discard_output()
    raise SystemExit(PIPE_CLOSED)


def discard_output() -> None:
    """Discard what can no longer be written, so that Python can exit without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


if "JPY_PARENT_PID" in os.environ:
    # A cell of a notebook (`!fer train`) runs commands in a terminal that claims to have colours
    # and a cursor; the notebook has neither. Rich then prints plain lines of 80 columns.
    os.environ["TERM"] = "dumb"

# On the class, since Typer creates consoles of its own to print the help.
Console.on_broken_pipe = _reader_is_gone  # type: ignore[method-assign, assignment]

messages = Console(stderr=True)


def results() -> Console:
    """The console of standard output, with its current size."""
    return Console()
