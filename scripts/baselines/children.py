"""The driver's side of taking turns: processes that work one at a time."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCRIPTS = Path(__file__).resolve().parents[1]
DISCARDED = 2  # first epochs of a process: building, tracing, filling of caches
SAME_NETWORK = 0.01  # largest difference of the numbers of parameters, as a part of the smaller


class ChildError(Exception):
    """A child ended or answered otherwise than agreed; the message has the end of its log."""


@dataclass(frozen=True)
class Reading:
    """One turn: training images that were used, and wall time in seconds."""

    images: int
    seconds: float

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass
class Measurement:
    """All turns of a row.

    Attributes:
        rounds: the turns that stand close together in time, by child.
        facts: what each child said of itself when it was ready.
        peak_bytes: most memory that each child had at once.
    """

    rounds: list[dict[str, Reading]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)


class Child:
    """A process that works when it is told to; see `turns.py` for what is said."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see __exit__
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=SCRIPTS,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(BrokenPipeError):  # what a dead child did not read
            self.process.communicate()
        self.log.close()

    def ready(self) -> dict[str, Any]:
        """Wait for the imports; what the child says of itself."""
        return self._answer("ready")

    def go(self) -> dict[str, Any]:
        """Give one turn, and wait for its end."""
        self._tell("go")
        return self._answer("seconds")

    def stop(self) -> int:
        """End the child; the most memory that it had at once, in bytes."""
        self._tell("stop")
        peak = int(self._answer("peak_rss_bytes")["peak_rss_bytes"])
        self.process.wait()
        return peak

    def _tell(self, word: str) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come says more
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()

    def _answer(self, key: str) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise ChildError(f"{self.name} ended ({self.process.wait()}):\n{self._end_of_log()}")
        with contextlib.suppress(json.JSONDecodeError):
            message = json.loads(line)
            if isinstance(message, dict) and key in message:
                return message
        raise ChildError(
            f"{self.name} said {line.strip()!r}, expected '{key}'.\n{self._end_of_log()}"
        )

    def _end_of_log(self) -> str:
        self.log.seek(0)
        return "".join(self.log.readlines()[-12:])


def measure(
    commands: Mapping[str, Sequence[str]],
    pairs: int,
    *,
    whole: bool,
    environment: Mapping[str, str] | None = None,
    on_round: Callable[[int, Mapping[str, Reading]], None] = lambda *_: None,
) -> Measurement:
    """Let the children of `commands` work by turns, in changing order: A B, B A, A B, ...

    Args:
        commands: the command line of each child.
        pairs: number of rounds that count.
        whole: a round is a new process of each child; else each child has one process, of which
            two more epochs come first and do not count.
        environment: variables that every child gets.
        on_round: called with the number of a round, from 1, and its readings; also with those
            that do not count.

    Raises:
        ChildError: a child failed, or the networks differ in their numbers of parameters.
    """
    measured = Measurement()

    def start(name: str) -> Child:
        return Child(name, commands[name], environment)

    with contextlib.ExitStack() as stack:
        staying = {} if whole else {name: stack.enter_context(start(name)) for name in commands}
        for name, child in staying.items():
            measured.facts[name] = child.ready()
        for number in range(pairs + (0 if whole else DISCARDED)):
            answers = {}
            for name in in_turn(list(commands), number):
                if whole:
                    answers[name] = _run_whole(start(name), measured)
                else:
                    answers[name] = staying[name].go()
            check_parameters({name: answer["parameters"] for name, answer in answers.items()})
            readings = {name: _reading(answers[name]) for name in commands}
            measured.rounds.append(readings)
            on_round(number + 1, readings)
        for name, child in staying.items():
            measured.peak_bytes[name] = child.stop()
    del measured.rounds[:-pairs]
    return measured


def in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    """The order in which the children work in round `number`: forth, back, forth, ..."""
    return names if number % 2 == 0 else names[::-1]


def _run_whole(child: Child, measured: Measurement) -> dict[str, Any]:
    with child:
        measured.facts[child.name] = child.ready()
        answer = child.go()
        peak = child.stop()
    measured.peak_bytes[child.name] = max(peak, measured.peak_bytes.get(child.name, 0))
    return answer


def _reading(answer: Mapping[str, Any]) -> Reading:
    return Reading(answer["images"], answer["seconds"])


def check_parameters(parameters: Mapping[str, int]) -> None:
    """Raises: ChildError when the networks cannot be the same."""
    fewest = min(parameters.values())
    if max(parameters.values()) - fewest > SAME_NETWORK * fewest:
        listed = ", ".join(f"{name} {number:,}" for name, number in parameters.items())
        raise ChildError(
            f"the networks are not the same: {listed} parameters.\n"
            f"They may differ by {SAME_NETWORK:.0%} at most; mend the one that is wrong."
        )


def ours(*flags: str) -> list[str]:
    """The command line of the child that trains with fer-bench."""
    return [sys.executable, "-m", "baselines.ours_fit", *flags]


def plain(framework: str, python: str, *flags: str) -> list[str]:
    """The command line of the plain script of a framework."""
    return [python, "-m", f"baselines.{framework}_fit", *flags]
