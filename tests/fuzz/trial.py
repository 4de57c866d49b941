"""One input: the world is restored, something is damaged, a command runs, and its end is judged."""

import contextlib
import dataclasses
import hashlib
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzz import damage, targets
from fuzz.targets import Target
from fuzz.world import Fer, World

SECONDS = 60  # after so long a command hangs
NO_FILE, TOO_LARGE = "is no regular file", "is too large"
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
    output: str

    @property
    def is_good(self) -> bool:
        """Whether the command did what is promised."""
        return self.verdict == PROMISED


class Hangs(BaseException):
    """A command took too long. No `Exception`, so that no handler of the command takes it."""


def attempt(world: World, fer: Fer, seed: str) -> Trial:
    """Damage what `seed` says and run a command on it."""
    random = Random(seed)
    world.restore()
    target = targets.pick(random)
    place = random.choice(list(target.files(world)))
    command = random.choice(list(target.commands))
    intact = _intact(world, fer, target, command)
    world.restore()
    what, may_be_valid = _damage(random, target, place)
    before = _tree(world.root)
    arguments = [str(argument) for argument in command(world)]
    result, problem = _call(fer, arguments)
    if problem is None:
        problem = _judge(world, target, place, may_be_valid, result, before, intact)
    shown = f"{place.relative_to(world.root)}: {what}"
    output = getattr(result, "output", "")
    return Trial(seed, target.name, shown, " ".join(arguments), problem or PROMISED, output)


_EVIDENCE: dict[tuple[str, str], str] = {}


def _intact(world: World, fer: Fer, target: Target, command: targets.Arguments) -> str:
    """What the command gives when nothing is damaged; computed once."""
    key = (target.name, command.__name__)
    if key not in _EVIDENCE:
        result = fer(*command(world))
        assert result.exit_code in (0, 2), f"{command(world)}: {result.output}"
        _EVIDENCE[key] = _evidence(world, target, command(world), result)
    return _EVIDENCE[key]


def _evidence(world: World, target: Target, arguments: Any, result: Any) -> str:
    if arguments[0] == "report":
        return targets._page(world, result)
    return target.evidence(world, result)


def _damage(random: Random, target: Target, place: Path) -> tuple[str, bool]:
    kind = random.random()
    if kind < 0.04:
        return f"a {damage.put_no_file(random, place)} in its place", False
    if kind < 0.06:
        damage.put_sparse(place, 6 << 30)
        return "6 GiB of zeros", False
    done = random.choice(list(target.damagers))(random, place.read_bytes())
    times = place.stat()
    place.write_bytes(done.content)
    if random.random() < 0.5:  # a sync client keeps the times of a file
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    return done.what, done.may_be_valid


def _call(fer: Fer, arguments: list[str]) -> tuple[Any, str | None]:
    try:
        with _limited(SECONDS):
            result = fer(*arguments)
    except Hangs:
        return None, f"hang: still running after {SECONDS} s"
    error = result.exception
    if isinstance(error, Hangs):
        return result, f"hang: still running after {SECONDS} s"
    if error is not None and not isinstance(error, SystemExit):
        last = "".join(traceback.format_exception(error)[-2:])
        return result, f"traceback: {type(error).__name__}: {error}\n{last}"
    if result.exit_code not in (0, 2):
        return result, f"exit code {result.exit_code}"
    return result, None


def _judge(
    world: World,
    target: Target,
    place: Path,
    may_be_valid: bool,
    result: Any,
    before: dict[str, str],
    intact: str,
) -> str | None:
    """What is wrong with how a command ended, or None."""
    if (world.root.parent / "escaped.txt").exists() or Path("escaped").exists():
        return "escape: a file was written outside"
    named = _names(result.output, place, world)
    if result.exit_code == 2:
        changed = sorted(_changes(before, _tree(world.root)))
        if changed:
            return f"loss: refused, but changed {changed[:4]}"
        return None if named else "unnamed: refused, but the message does not name the file"
    arguments = result.output
    evidence = _evidence(world, target, _arguments_of(target, world, result), result)
    if evidence == intact or named or may_be_valid or place.name in evidence:
        return None
    if _is_left_out(world, evidence):
        return None
    return f"taken: nothing was said\n{arguments[:300]}"


def _arguments_of(target: Target, world: World, result: Any) -> tuple[str, ...]:
    return ("report",) if "page:" in result.output or "report.html" in result.output else ("",)


def _names(output: str, place: Path, world: World) -> bool:
    """Whether a message names the file, or the folder that belongs to it alone."""
    flat = "".join(output.split())
    parts = {place.name, place.stem, world.interrupted if "state" in place.parts else place.name}
    if "cache" in place.parts:
        parts |= {place.parent.name, "cache"}
    return any("".join(part.split()) in flat for part in parts)


def _is_left_out(world: World, evidence: str) -> bool:
    """Whether `compare` shows the other run but not the damaged one as a row."""
    return world.other in evidence and f'"run_id": "{world.finished}"' not in evidence


def _changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Files that are new, gone or different; the cache and locks may change."""
    for path in before.keys() | after.keys():
        free = path.startswith("cache/") or Path(path).name in {"lock", ".lock"} or ".locks" in path
        if not free and before.get(path) != after.get(path):
            yield path


def _tree(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file() and path.stat().st_size < 1 << 28:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not path.is_dir():
            found[name] = "special"
    return found


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
