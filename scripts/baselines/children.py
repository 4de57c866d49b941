"""The driver's side of taking turns: child processes that work one at a time."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from measuring import ChildError, in_turn

from baselines.task import Task

SCRIPTS = Path(__file__).resolve().parents[1]
DISCARDED = 2  # first epochs of a process: building, tracing, filling caches
SAME_NETWORK = 0.01  # largest relative difference in the number of parameters


@dataclass(frozen=True)
class Reading:
    """One turn: the number of training images, and wall time in seconds."""

    images: int
    seconds: float

    @property
    def speed(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass
class Measurement:
    """All turns of a row.

    Attributes:
        rounds: the turns of each round, by child.
        facts: the report of each child at its start.
        peak_bytes: the peak memory of each child.
    """

    rounds: list[dict[str, Reading]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)


class Child:
    """A process that works when it is told to; `turns.py` describes the messages."""

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
        with contextlib.suppress(BrokenPipeError):  # a dead child did not read its input
            self.process.communicate()
        self.log.close()

    def ready(self) -> dict[str, Any]:
        """Wait for the imports; the report of the child."""
        return self._answer("ready")

    def go(self) -> dict[str, Any]:
        """Start one turn and wait for its end."""
        self._tell("go")
        return self._answer("seconds")

    def stop(self) -> int:
        """End the child; its peak memory in bytes."""
        self._tell("stop")
        peak = int(self._answer("peak_rss_bytes")["peak_rss_bytes"])
        self.process.wait()
        return peak

    def _tell(self, word: str) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the missing answer is a better error
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
            f"{self.name} answered {line.strip()!r}, expected '{key}'.\n{self._end_of_log()}"
        )

    def _end_of_log(self) -> str:
        self.log.seek(0)
        return "".join(self.log.readlines()[-12:])


def measure(
    commands: Mapping[str, Sequence[str]],
    pairs: int,
    *,
    whole: bool,
    environments: Mapping[str, Mapping[str, str]] | None = None,
    on_round: Callable[[int, Mapping[str, Reading]], None] = lambda *_: None,
) -> Measurement:
    """Let the child processes take turns in alternating order: A B, B A, A B, ...

    Args:
        commands: the command line of each child.
        pairs: number of rounds that count.
        whole: start new processes in each round; else each child is one process, whose first two
            epochs do not count.
        environments: further environment variables of each child.
        on_round: called with the number of each round, from 1, and its readings, including rounds
            that do not count.

    Raises:
        ChildError: a child failed, or the networks differ in their number of parameters.
    """
    measured = Measurement()

    def start(name: str) -> Child:
        return Child(name, commands[name], (environments or {}).get(name))

    with contextlib.ExitStack() as stack:
        staying = {} if whole else {name: stack.enter_context(start(name)) for name in commands}
        for name, child in staying.items():
            measured.facts[name] = child.ready()
        for number in range(pairs + (0 if whole else DISCARDED)):
            answers = {}
            for name in in_turn(commands, number):
                if whole:
                    answers[name] = _run_whole(start(name), measured)
                else:
                    answers[name] = staying[name].go()
            check_parameters({name: answer["parameters"] for name, answer in answers.items()})
            readings = {
                name: Reading(answers[name]["images"], answers[name]["seconds"])
                for name in commands
            }
            measured.rounds.append(readings)
            on_round(number + 1, readings)
        for name, child in staying.items():
            measured.peak_bytes[name] = child.stop()
    del measured.rounds[:-pairs]
    return measured


def _run_whole(child: Child, measured: Measurement) -> dict[str, Any]:
    with child:
        measured.facts[child.name] = child.ready()
        answer = child.go()
        peak = child.stop()
    measured.peak_bytes[child.name] = max(peak, measured.peak_bytes.get(child.name, 0))
    return answer


def check_parameters(parameters: Mapping[str, int]) -> None:
    """Raises: ChildError if the networks cannot be the same."""
    fewest = min(parameters.values())
    if max(parameters.values()) - fewest > SAME_NETWORK * fewest:
        listed = ", ".join(f"{name} {number:,}" for name, number in parameters.items())
        raise ChildError(
            f"the networks are not the same: {listed} parameters.\n"
            f"They may differ by at most {SAME_NETWORK:.0%}; fix the one that is wrong."
        )


def command(framework: str, python: str, task: Task) -> list[str]:
    """The command line of the child of `keras`, `torch`, `ours`, or `eigen`, which is ours, too."""
    module = "ours" if framework == "eigen" else framework
    return [python, "-m", f"baselines.{module}_fit", task.to_json()]
