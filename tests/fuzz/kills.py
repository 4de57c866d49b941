"""Kill or stop commands at every call that changes a file, or fill the disk there; type them again.

`make kills SEED=1 KILLS=1000` prints a table; `python -m fuzz.kills 1-77` makes one kill again. A
command that was killed and is typed again must end with the same files, to the last bit where they
hold numbers, as one that was never killed, and leave nothing else behind. On a full disk it must
end with a message, lose nothing, and work once there is room. `injector.c` counts the calls. It is
compiled with the system's C compiler. Other kills come at any time, and reach the processes that a
sweep has started.
"""

import collections
import contextlib
import ctypes
import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from fuzz import damage, targets
from fuzz.world import World

COUNT, KILL, HALF, FULL, STOP = range(5)  # as in injector.c
# What this program does after a random part of the time that a command takes.
KILL_LATER, STOP_LATER, KILL_WORKER, KILL_ALL = range(5, 9)
NAMES = {
    KILL: "killed at a call",
    HALF: "killed in mid-write",
    FULL: "disk full",
    STOP: "SIGTERM at a call",
    KILL_LATER: "killed at any time",
    STOP_LATER: "SIGTERM at any time",
    KILL_WORKER: "a worker killed",
    KILL_ALL: "all processes killed",
}
SECONDS = 240  # a command that takes longer hangs; the slowest needs three, alone on the machine
HUNG = 124
PROMISED = "as promised"


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: what it is called in the table of results.
        arguments: what is typed, the first time and again.
        weight: how often it is taken, beside the others.
        fresh: paths below the world that are removed first, so that the command makes them.
        supersedes: the beginning of the paths that it removes once it has something better.
        disturbances: what is done to it, each as often as it is listed.
        over: the option that it asks for when everything is there already.
    """

    name: str
    arguments: Callable[[World], Sequence[object]]
    weight: int
    fresh: tuple[str, ...] = ()
    supersedes: Callable[[World], str] = lambda world: "cache/"
    disturbances: tuple[int, ...] = (
        *(KILL, KILL, KILL, HALF, HALF, FULL, FULL, FULL),
        *(STOP, STOP, KILL_LATER, STOP_LATER),
    )
    over: str | None = None


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """A job that nothing disturbed: its calls that change files, its time, its files at the end."""

    calls: int
    seconds: float
    files: dict[str, str]


def _train(world: World) -> Sequence[object]:
    options = ("--set", "seed=8", "--outputs", world.outputs)
    return ("train", world.root / "experiment.yaml", *options)


def _sweep(world: World) -> Sequence[object]:
    return ("sweep", world.root / "pair.yaml", "--workers", 2, "--outputs", world.outputs)


def _retrain(world: World) -> Sequence[object]:
    return ("train", world.root / "experiment.yaml", "--outputs", world.outputs, "--fresh")


JOBS = (
    Job("train from nothing", _train, 8, ("cache",)),
    Job("train, resumed", targets.resume, 6, (), lambda w: f"outputs/{w.interrupted}/state/"),
    Job("train --fresh", _retrain, 4, (), lambda w: f"outputs/{w.finished}/"),
    Job("evaluate", targets.evaluate, 4),
    Job("audit", targets.audit, 3, ("cache",)),
    Job("adopt", targets.adopt, 3, over="--fresh"),
    Job("report", targets.report, 2),
    Job("prepare", targets.prepare, 4, over="--force"),
    Job(
        "sweep, two workers",
        _sweep,
        1,
        disturbances=(KILL, STOP, KILL_LATER, STOP_LATER, KILL_WORKER, KILL_WORKER, KILL_ALL),
    ),
)


def main(seeds: Iterable[str]) -> int:
    """Make a kill of every seed; returns how many commands ended otherwise than promised."""
    _preload()
    start = time.monotonic()
    table: dict[tuple[str, str], collections.Counter[str]]
    table = collections.defaultdict(collections.Counter)
    undisturbed: dict[str, Undisturbed] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = _build(Path(folder))
        for number, seed in enumerate(seeds):
            if number % 20 == 0:
                print(f"{number} kills, {time.monotonic() - start:.0f} s", file=sys.stderr)
            random = Random(seed)
            job = random.choices(JOBS, weights=[job.weight for job in JOBS])[0]
            if job.name not in undisturbed:
                undisturbed[job.name] = _undisturbed(world, job)
            verdict, how = _attempt(world, job, random, undisturbed[job.name])
            table[job.name, how][verdict.split(":")[0]] += 1
            if verdict != PROMISED:
                print(f"\n{job.name}, {how}\n  {verdict}\n  again: python -m fuzz.kills {seed}")
                sys.stdout.flush()
    _show(table, undisturbed, time.monotonic() - start)
    return sum(counts.total() - counts[PROMISED] for counts in table.values())


def _show(
    table: dict[tuple[str, str], collections.Counter[str]],
    undisturbed: dict[str, Undisturbed],
    seconds: float,
) -> None:
    number = sum(counts.total() for counts in table.values())
    print(f"\n{number} kills, {seconds:.0f} s\n")
    for (name, how), counts in sorted(table.items()):
        calls = f"{undisturbed[name].calls} calls"
        print(f"{name:20} {calls:>10}  {how:20} {dict(counts)}")


def _preload() -> None:
    """Start this program again with the injector in place."""
    if "injector" not in os.environ.get("LD_PRELOAD", ""):
        library = Path(tempfile.mkdtemp()) / "injector.so"
        source = Path(__file__).with_name("injector.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, "-m", "fuzz.kills", *sys.argv[1:]])
    shutil.rmtree(Path(os.environ["LD_PRELOAD"]).parent)  # it is loaded


def _build(folder: Path) -> World:
    """The world, made by another process: this one must stay free to fork, without threads."""
    code = (
        "import pathlib, pickle, sys; from fuzz.__main__ import fer; from fuzz.world import build\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / 'world.pickle').write_bytes(pickle.dumps(build(folder, fer)))\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    made = [sys.executable, "-c", code, str(folder)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, env=clean)
    os.environ["FER_BENCH_CACHE"] = str(folder / "world" / "cache")
    world: World = pickle.loads((folder / "world.pickle").read_bytes())
    return world


def _undisturbed(world: World, job: Job) -> Undisturbed:
    _prepare(world, job)
    began = time.monotonic()
    code, output, calls = _run(world, job, COUNT, 0)
    seconds = time.monotonic() - began
    assert code == 0, f"{job.name}: {code}\n{output}"
    assert calls > 0, f"{job.name}: no call was counted\n{output[-1500:]}"
    return Undisturbed(calls, seconds, _files(world))


def _prepare(world: World, job: Job) -> None:
    world.restore()
    for name in job.fresh:
        shutil.rmtree(world.root / name)


def _attempt(world: World, job: Job, random: Random, expected: Undisturbed) -> tuple[str, str]:
    """The verdict, and what happened to the command."""
    _prepare(world, job)
    before = _files(world)
    how = random.choice(job.disturbances)
    at, place = _moment(how, random, expected)
    code, output, _ = _run(world, job, how, at)
    problem = (
        _end(how, code, output)
        or (_lost(before, _files(world), job.supersedes(world)) if how == FULL else None)
        or _again(world, job)
        or _difference(expected.files, _files(world))
    )
    return f"{problem}\n  {place}" if problem else PROMISED, NAMES[how]


def _moment(how: int, random: Random, expected: Undisturbed) -> tuple[float, str]:
    """When to disturb a command, as a number of calls or of seconds, and in words."""
    if how in (KILL, HALF, FULL, STOP):
        at = random.randrange(1, expected.calls + 1)
        return at, f"at call {at} of {expected.calls}"
    after = random.uniform(0, expected.seconds)
    return after, f"after {after:.2f} of {expected.seconds:.2f} s"


def _end(how: int, code: int, output: str) -> str | None:
    """What is wrong with the end of a command that was killed or found the disk full."""
    if "Traceback" in output:
        return f"traceback: {output[-900:]}"
    allowed = {
        FULL: (0, 2),
        STOP: (0, 130, -signal.SIGTERM),
        STOP_LATER: (0, 130, -signal.SIGTERM),
        KILL_WORKER: (0, 1),
    }.get(how, (0, -signal.SIGKILL))
    return None if code in allowed else f"end: exit code {code}\n{output[-600:]}"


def _lost(before: dict[str, str], after: dict[str, str], superseded: str) -> str | None:
    """Files that are gone. What a kill leaves half done is judged by what comes of it again."""
    free = ("cache/", superseded)
    gone = [name for name in before if name not in after and not name.startswith(free)]
    return f"loss: {gone[:4]} are gone" if gone else None


def _again(world: World, job: Job) -> str | None:
    """Type the command again."""
    code, output, _ = _run(world, job, COUNT, 0)
    if code == 2 and job.over and job.over in output:
        return None  # everything was complete when the command was killed
    return f"again: exit code {code}\n{output[-600:]}" if code else None


def _difference(expected: dict[str, str], found: dict[str, str]) -> str | None:
    left = sorted(set(found) - set(expected))
    gone = sorted(set(expected) - set(found))
    if left or gone:
        return f"files: left behind {left[:4]}, missing {gone[:4]}"
    other = sorted(name for name in expected if expected[name] != found[name])
    return f"numbers: {other[:4]} differ" if other else None


def _files(world: World) -> dict[str, str]:
    """Every file, with the digest of its content where that holds nothing of the clock."""
    found = {}
    for path in sorted(world.root.rglob("*")):
        name = path.relative_to(world.root)
        if path.is_file() and name.name not in {"lock", ".lock"} and ".locks" not in name.parts:
            found[str(name)] = _digest(path)
    return found


def _digest(path: Path) -> str:
    if path.name == "history.csv":  # the last two columns are times
        return "\n".join(line.rsplit(",", 2)[0] for line in path.read_text().splitlines())
    if path.suffix == ".keras":
        return _weights(path)
    is_result = path.suffix in {".csv", ".npz"} or "metrics" in path.parts
    if is_result and "cache" not in path.parts:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "present"


def _weights(path: Path) -> str:
    """A digest of the weights alone: an archive holds the time at which it was written."""
    import h5py

    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode() + item[()].tobytes())

    with h5py.File(content) as file:
        file.visititems(add)
    return digest.hexdigest()


def _run(world: World, job: Job, how: int, at: float) -> tuple[int, str, int]:
    """Run a command in a child that has TensorFlow imported already.

    Returns: its exit code, negative for a signal; what it printed; the calls that it made.
    """
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import fer_bench.cli  # noqa: F401

    log, counted = world.root.parent / "log.txt", world.root.parent / "calls.json"
    counted.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be(world, job, how, at, log, counted)
    code = _wait(child, how, at)
    calls = json.loads(counted.read_text()) if counted.exists() else 0
    return code, log.read_text(errors="replace"), calls


def _wait(child: int, how: int, at: float) -> int:
    """The exit code of a child; `HUNG` if it had to be killed because it did not end."""
    began, is_due = time.monotonic(), how >= KILL_LATER
    while time.monotonic() < began + SECONDS:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if is_due and time.monotonic() > began + at:
            is_due = not _strike(child, how)
        time.sleep(0.005)
    _strike(child, KILL_ALL)
    os.waitpid(child, 0)
    return HUNG


def _strike(child: int, how: int) -> bool:
    """Send the signal of a disturbance; False if there is no process yet that it is meant for."""
    workers = _workers(child)
    struck = {KILL_WORKER: workers[:1], KILL_ALL: [child, *workers]}.get(how, [child])
    for process in struck:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM if how == STOP_LATER else signal.SIGKILL)
    return bool(struck)


def _workers(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            after_its_name = path.read_text().rpartition(")")[2].split()
            if int(after_its_name[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _be(world: World, job: Job, how: int, at: float, log: Path, counted: Path) -> NoReturn:
    """The child: the command, its streams in a file, counted from its first call."""
    code = 1
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
        library = ctypes.CDLL(None)
        library.fer_calls.restype = ctypes.c_long
        mode = how if how <= STOP else COUNT
        library.fer_arm(str(world.root).encode(), mode, ctypes.c_long(int(at)))
        code = _typed([str(argument) for argument in job.arguments(world)])
        library.fer_disarm()
        counted.write_text(json.dumps(library.fer_calls()))
    finally:
        for opened in (sys.stdout, sys.stderr):
            opened.flush()
        os._exit(code)


def _typed(arguments: list[str]) -> int:
    from fer_bench.cli import app

    try:
        app(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - the log shows it, and the parent finds it there
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(min(main(damage.seeds(sys.argv[1:])), 1))
