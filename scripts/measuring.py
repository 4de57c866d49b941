"""Shared by all benchmarks: calls that take turns, paired ratios, tables, facts on the machine.

A ratio compares two ways to do the same work. They take turns in one run (A B, B A, A B, ...), so
that a machine whose speed drifts slows both, and a ratio is taken within each pair. A benchmark
prints the median ratio of the pairs with its 95% bootstrap interval, for example 1.52 [1.43, 1.60].
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fer_bench.device.kernels import ONEDNN_SWITCH
from fer_bench.device.machine import cpu_model, usable_cores
from fer_bench.device.precision import INSTRUCTION_LIMITS
from fer_bench.storage.cache import VARIABLE

RESAMPLES = 9_999
NONE = "-"
SECONDS_BETWEEN_LINES = 10.0


class Timing(NamedTuple):
    """Wall time and processor time in seconds."""

    wall: float
    processor: float


def timed(call: Callable[[], object]) -> Timing:
    """The time of one call; child processes do not count as processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - wall, time.process_time() - processor)


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """The order of round `number`: forward in even rounds, backward in odd ones."""
    return list(names)[:: 1 if number % 2 == 0 else -1]


def take_turns(
    calls: Mapping[str, Callable[[], object]], pairs: int, *, warm_up: int = 1
) -> dict[str, list[Timing]]:
    """Time all calls in `pairs` rounds, after `warm_up` rounds that do not count."""
    found: dict[str, list[Timing]] = {name: [] for name in calls}
    for number in range(pairs + warm_up):
        for name in in_turn(calls, number):
            found[name].append(timed(calls[name]))
    return {name: timings[warm_up:] for name, timings in found.items()}


class Ratio(NamedTuple):
    """The median of paired ratios with its 95% bootstrap interval over the pairs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def paired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """The ratio of two measurements, both (pairs,), taken within each pair."""
    return bootstrapped(np.asarray(numerators) / np.asarray(denominators))


def bootstrapped(values: ArrayLike) -> Ratio:
    """The median of `values` (n,) with its 95% percentile bootstrap interval."""
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(0)
    drawn = generator.choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(values)), float(low), float(high))


# Output ----------------------------------------------------------------------------------------


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, Any]:
    """The facts that a reader needs to judge the numbers."""
    limits = (ONEDNN_SWITCH, *INSTRUCTION_LIMITS)
    onednn = [f"{name}={os.environ[name]}" for name in limits if os.environ.get(name)]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu_model(),
        "cores": usable_cores().number,
        "onednn": ", ".join(onednn) or "default",
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version()},
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def machine_lines(facts: Mapping[str, Any]) -> str:
    """These facts as a Markdown list."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join(
        [
            f"- machine: {facts['cpu']}, {facts['cores']} usable cores, {facts['system']}",
            f"- oneDNN: {facts['onednn']}; versions: {versions}",
            f"- load at the start: {facts['load']:.1f}; {facts['date']}",
            f"- `{facts['command']}`",
        ]
    )


def print_heading(heading: Sequence[str]) -> None:
    """Print the facts on the machine and the first lines of a table, to be followed by rows."""
    print(f"{machine_lines(machine())}\n\n{table(heading, [])}", flush=True)


def print_row(cells: Iterable[str]) -> None:
    """Print one more row of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def append_json(path: Path, document: Mapping[str, Any]) -> None:
    """Append a line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")


def progress(what: str) -> Callable[[int, int], None]:
    """A function of (done, total) that reports on standard error, at most every 10 seconds."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"  {done:,} of {total:,} {what}", file=sys.stderr, flush=True)

    return report


# The command line ------------------------------------------------------------------------------


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints the docstring of the script as its help."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number of at least `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {text}")
        return int(text)

    return number


def choice_of(known: Sequence[Any]) -> Callable[[str], list[Any]]:
    """The type of an option that lists some of `known`, by their `name`; empty: all of them."""

    def chosen(text: str) -> list[Any]:
        by_name = {one.name: one for one in known}
        names = [name.strip() for name in text.split(",") if name.strip()] or list(by_name)
        if unknown := [name for name in names if name not in by_name]:
            raise argparse.ArgumentTypeError(
                f"no row {', '.join(unknown)}; known: {', '.join(by_name)}"
            )
        return [by_name[name] for name in names]

    return chosen


# Child processes -------------------------------------------------------------------------------


class ChildError(Exception):
    """A measuring process failed."""


def environment(device: str) -> dict[str, str]:
    """Variables of child processes: the devices they see; on a GPU, they share its memory."""
    shared = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return shared | ({"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {})


def run_child(script: Path, name: str, options: Mapping[str, Any], cache: Path) -> Any:
    """The result of the child `name` of a script, in its own process and with its own cache folder.

    Raises:
        ChildError: it failed; its messages are on standard error.
    """
    command = [sys.executable, str(script), "--child", name, json.dumps(options)]
    variables = {**os.environ, **environment(options["device"]), VARIABLE: str(cache)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=variables, cwd=script.parent, check=False
    )
    if done.returncode:
        raise ChildError(f"the process for {name} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def answer_as_child(children: Mapping[str, Callable[[dict[str, Any]], Any]]) -> bool:
    """Do the work that `run_child` started this process for, if it did."""
    if sys.argv[1:2] != ["--child"]:
        return False
    print(json.dumps(children[sys.argv[2]](json.loads(sys.argv[3]))), flush=True)
    return True
