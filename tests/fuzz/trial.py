"""One input: the world is restored, something is damaged, a command runs, and its end is judged."""

import contextlib
import dataclasses
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz import damage, targets
from fuzz.snapshot import States, is_folder, states
from fuzz.targets import Target
from fuzz.world import Fer, World

SECONDS = 120  # a command that takes longer hangs; the slowest needs two, alone on the machine
GIBIBYTES = 6  # of a file that is far too large
PROMISED = "as promised"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was tried and what came of it.

    Attributes:
        seed: makes exactly this input again.
        target: what was damaged.
        what: how.
        command: what was typed.
        verdict: `as promised`, or what is wrong.
        output: what the command printed.
    """

    seed: str
    target: str
    what: str
    command: str
    verdict: str
    output: str = dataclasses.field(repr=False)

    @property
    def is_good(self) -> bool:
        """Whether the command did what is promised."""
        return self.verdict == PROMISED

    def __str__(self) -> str:
        again = f"again: python -m fuzz {self.seed}"
        return f"{self.what}\n  fer {self.command}\n  {self.verdict}\n  {again}"


@dataclasses.dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        code: its exit code.
        messages: what it wrote for the user: standard error.
        printed: its result: standard output.
        evidence: what it did, in the part of the world that the target names.
    """

    code: int
    messages: str
    printed: str
    evidence: str


@dataclasses.dataclass(frozen=True)
class Input:
    """A damaged file and the command that reads it."""

    target: Target
    place: Path
    command: targets.Arguments
    what: str
    may_be_valid: bool


class Hangs(BaseException):
    """A command took too long. No `Exception`, so that no handler of the command takes it."""


class Trials:
    """Tries inputs in one world.

    Attributes:
        world: what is damaged.
        fer: calls a command in this process.
    """

    def __init__(self, world: World, fer: Fer) -> None:
        self.world, self.fer = world, fer
        self._intact: dict[tuple[str, str], End] = {}

    def attempt(self, seed: str) -> Trial:
        """Damage what `seed` says and run a command on it."""
        random = Random(seed)
        target = targets.pick(random)
        self.world.restore()
        place = random.choice(list(target.files(self.world)))
        command = random.choice(list(target.commands))
        intact = self.intact(target, command)
        what, may_be_valid = _damage(random, target, place)
        if damage.is_small(place) and targets.is_shown_only(command, place):
            may_be_valid = True
        tried = Input(target, place, command, what, may_be_valid)
        try:
            problem, output = self._judge(tried, intact)
        finally:
            self.world.forget(place)
        typed = " ".join(str(argument) for argument in command(self.world))
        shown = f"{place.relative_to(self.world.root)}: {what}"
        return Trial(seed, target.name, shown, typed, problem or PROMISED, output)

    def intact(self, target: Target, command: targets.Arguments) -> End:
        """What the command gives when nothing is damaged; found out once."""
        key = (target.name, command.__name__)
        if key not in self._intact:
            end = self._end(target, command, self.fer(*command(self.world)))
            assert end.code in (0, 2), f"{command.__name__}: {end.messages}"
            self._intact[key] = end
            self.world.restore()
        return self._intact[key]

    def _end(self, target: Target, command: targets.Arguments, result: Any) -> End:
        evidence = targets.evidence(target, command, self.world, result)
        return End(result.exit_code, result.stderr, result.stdout, evidence)

    def _judge(self, tried: Input, intact: End) -> tuple[str | None, str]:
        """What is wrong with how the command ends, or None; and what it printed."""
        damaged = tried.place.read_bytes() if damage.is_small(tried.place) else b""
        before = states(self.world.root)
        result, problem = _call(self.fer, [str(part) for part in tried.command(self.world)])
        if result is None or problem:
            return problem, getattr(result, "output", "")
        end = self._end(tried.target, tried.command, result)
        changed = changes(self.world, before, {tried.place: damaged})
        if _has_escaped(self.world):
            problem = "escape: a file was written outside"
        elif lost := [name for name in changed if not _may_change(self.world, tried, end, name)]:
            problem = f"loss: exit code {end.code}, but changed {lost[:4]}"
        else:
            problem = judge(self.world, tried, intact, end)
        return problem, result.output


def judge(world: World, tried: Input, intact: End, end: End) -> str | None:
    """What is wrong with the answer of a command, or None."""
    named = is_named(world, tried.place, intact, end)
    if end.code == 2:
        shown = end.messages.strip()[-400:]
        return None if named else f"unnamed: the message does not name the file\n{shown}"
    if end.evidence == intact.evidence or named or tried.may_be_valid:
        return None
    return f"taken: nothing was said\n{end.messages.strip()[-400:]}"


def is_named(world: World, place: Path, intact: End, end: End) -> bool:
    """Whether a command says more about the file, or its owner, than where nothing is damaged."""

    def is_new(part: str, now: str, before: str) -> bool:
        part = "".join(part.split())
        return "".join(now.split()).count(part) > "".join(before.split()).count(part)

    now, before = (e.messages + e.printed + e.evidence for e in (end, intact))
    if is_new(place.name, now, before):
        return True
    return any(is_new(name, end.messages, intact.messages) for name in _owners(world, place))


def _owners(world: World, place: Path) -> list[str]:
    """What a message can name in place of a file: its run, or the part of the cache."""
    parts = place.relative_to(world.root).parts
    return [parts[1]] if parts[0] == "outputs" else list(parts[:-1])[-1:]


def changes(world: World, before: States, damaged: dict[Path, bytes]) -> list[str]:
    """Files that a command made, removed or gave another content, by relative path."""
    after = states(world.root)
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and not (is_folder(before.get(name)) and is_folder(after.get(name)))
        and not _is_equal(world, name, damaged)
    ]


def _is_equal(world: World, name: str, damaged: dict[Path, bytes]) -> bool:
    place, copy = world.root / name, world.intact / name
    if not damage.is_small(place):
        return False
    if place in damaged:
        return place.read_bytes() == damaged[place]
    return copy.is_file() and copy.read_bytes() == place.read_bytes()


def _may_change(world: World, tried: Input, end: End, name: str) -> bool:
    """The cache and locks may change always, the results of a command if it ends well."""
    if name.startswith("cache/") or Path(name).name in {"lock", ".lock"} or ".locks" in name:
        return True
    return end.code == 0 and name.startswith(tuple(targets.results(world, tried.command)))


def _has_escaped(world: World) -> bool:
    places = (world.root.parent / "escaped.txt", Path("/tmp/escaped.txt"), Path("escaped"))
    return any(place.exists() for place in places)


def _damage(random: Random, target: Target, place: Path) -> tuple[str, bool]:
    kind = random.random()
    if kind < 0.04:
        return f"a {damage.put_no_file(random, place)} in its place", False
    if kind < 0.06:
        damage.put_sparse(place, GIBIBYTES << 30)
        return f"{GIBIBYTES} GiB of zeros", False
    done = random.choice(list(target.damagers))(random, place.read_bytes())
    times = place.stat()
    place.write_bytes(done.content)
    if random.random() < 0.5:  # a sync client keeps the times of a file
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    return done.what, done.may_be_valid


def _call(fer: Fer, arguments: Sequence[str]) -> tuple[Any, str | None]:
    """The result of a command, and what is wrong with its end whatever was damaged."""
    try:
        with _limited(SECONDS):
            result = fer(*arguments)
    except Hangs:
        return None, f"hang: still running after {SECONDS} s"
    error = result.exception
    if isinstance(error, Hangs):
        return result, f"hang: still running after {SECONDS} s"
    if error is not None and not isinstance(error, SystemExit):
        last = "".join(traceback.format_exception(error)[-3:])
        return result, f"traceback: {type(error).__name__}: {str(error)[:300]}\n{last[-900:]}"
    if result.exit_code not in (0, 2):
        return result, f"exit code {result.exit_code}"
    return result, None


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise `Hangs` in the block after `seconds`."""

    def ring(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
