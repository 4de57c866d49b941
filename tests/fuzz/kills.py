"""Kill commands at every call that changes a file, or fill the disk there, and run them again.

`make kills SEED=1 KILLS=1000` prints a table. A command that was killed and is typed again must end
with the same files, to the last bit where they hold numbers, as one that was never killed, and leave
nothing else behind. On a full disk it must end with a message, lose nothing, and work once there is
room. The calls are counted by `injector.c`, which is compiled with the system's C compiler.
"""

import collections
import ctypes
import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz import targets
from fuzz.world import World, build

COUNT, KILL, HALF, FULL = range(4)
NAMES = {KILL: "killed", HALF: "killed in mid-write", FULL: "disk full"}
SIGNALLED = "SIGTERM"
SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: what it is called in the table of results.
        arguments: what is typed, the first time and again.
        weight: how often it is taken, beside the others.
        fresh: paths below the world that are removed first, so that the command makes them.
        computes: whether it needs TensorFlow.
    """

    name: str
    arguments: Callable[[World], Sequence[object]]
    weight: int
    fresh: tuple[str, ...] = ()


def _train(world: World) -> Sequence[object]:
    options = ("--set", "seed=8", "--outputs", world.outputs)
    return ("train", world.root / "experiment.yaml", *options)


JOBS = (
    Job("train from nothing", _train, 8, ("cache",)),
    Job("train, resumed", targets._resume, 6),
    Job("train --fresh", lambda w: (*targets._again(w), "--fresh"), 4),
    Job("evaluate", targets._evaluate, 4),
    Job("audit", targets._audit, 3, ("cache",)),
    Job("adopt", targets._adopt, 3),
    Job("report", targets._report, 2),
    Job("prepare", targets._prepare, 4),
)


def main(seed: str, kills: int) -> int:
    """Returns how many ended otherwise than promised."""
    _preload()
    start, table = time.monotonic(), collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as folder:
        world = _build(Path(folder))
        calls: dict[str, tuple[int, dict[str, str]]] = {}
        for number in range(kills):
            random = Random(f"{seed}-{number}")
            job = random.choices(JOBS, weights=[job.weight for job in JOBS])[0]
            if job.name not in calls:
                calls[job.name] = _undisturbed(world, job)
            verdict, how = _attempt(world, job, random, *calls[job.name])
            table[job.name, how][verdict.split(":")[0]] += 1
            if verdict != "as promised":
                print(f"\n{seed}-{number}  {job.name}, {how}\n  {verdict}")
                sys.stdout.flush()
    print(f"\n{kills} kills, seed {seed}, {time.monotonic() - start:.0f} s")
    for name, (number, _) in sorted(calls.items()):
        print(f"{name}: {number} calls that change files")
    for (name, how), counts in sorted(table.items()):
        print(f"{name:20} {how:40} {dict(counts)}")
    return sum(n for counts in table.values() for v, n in counts.items() if v != "as promised")


def _preload() -> None:
    """Start again with the injector in place."""
    if "injector" not in os.environ.get("LD_PRELOAD", ""):
        library = Path(tempfile.mkdtemp()) / "injector.so"
        source = Path(__file__).with_name("injector.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, "-m", "fuzz.kills", *sys.argv[1:]])


def _build(folder: Path) -> World:
    """The world, made by another process: this one must stay free to fork, without threads."""
    code = (
        "import pickle, sys; from pathlib import Path; from typer.testing import CliRunner\n"
        "from fer_bench.cli import app; from fuzz.world import build\n"
        "fer = lambda *a: CliRunner().invoke(app, [str(x) for x in a])\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / 'world.pickle').write_bytes(pickle.dumps(build(folder, fer)))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, stdout=subprocess.DEVNULL)
    os.environ["FER_BENCH_CACHE"] = str(folder / "world" / "cache")
    return pickle.loads((folder / "world.pickle").read_bytes())


def _undisturbed(world: World, job: Job) -> tuple[int, dict[str, str]]:
    """How many calls a command makes, and the files at its end."""
    _prepare(world, job)
    code, output, calls = _run(world, job, COUNT, 0)
    assert code == 0, f"{job.name}: {code}\n{output}"
    assert calls > 0, f"{job.name}: no call was counted\n{output[:300]} {output[-1500:]}"
    return calls, _files(world)


def _prepare(world: World, job: Job) -> None:
    world.restore()
    for name in job.fresh:
        shutil.rmtree(world.root / name)


def _attempt(
    world: World, job: Job, random: Random, calls: int, expected: dict[str, str]
) -> tuple[str, str]:
    _prepare(world, job)
    before = _files(world)
    how = random.choice((KILL, KILL, HALF, FULL, FULL))
    at = random.randrange(1, calls + 1)
    code, output, _ = _run(world, job, how, at)
    label = NAMES[how]
    problem = _end(how, code, output)
    if problem is None and how == FULL:
        problem = _lost(before, _files(world))
    if problem is None:
        again, output, _ = _run(world, job, COUNT, 0)
        if again == 2 and "--fresh" in output and job.name.startswith("adopt"):
            again = 0  # it was complete when it was killed
        if again != 0:
            problem = f"again: exit code {again}\n{output[-600:]}"
    if problem is None:
        problem = _difference(expected, _files(world))
    return (f"{problem}\n  at call {at} of {calls}" if problem else "as promised"), label


def _end(how: int, code: int, output: str) -> str | None:
    """What is wrong with the end of a command that was killed or found the disk full."""
    if "Traceback" in output:
        return f"traceback: {output[-900:]}"
    if how in (KILL, HALF) and code not in (-signal.SIGKILL, 0):
        return f"end: exit code {code}\n{output[-600:]}"
    if how == FULL and code not in (0, 2):
        return f"end: exit code {code}\n{output[-600:]}"
    return None


def _lost(before: dict[str, str], after: dict[str, str]) -> str | None:
    gone = [name for name in before if name not in after and not name.startswith("cache/")]
    return f"loss: {gone[:4]} are gone" if gone else None


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
        if path.is_file():
            name = path.relative_to(world.root)
            if name.name in {"lock", ".lock"} or ".locks" in name.parts:
                continue
            found[_stable(str(name))] = _digest(path)
    return found


def _stable(name: str) -> str:
    """A name of the cache is the digest of what is in it; everything else is itself."""
    return name


def _digest(path: Path) -> str:
    if path.name == "history.csv":
        lines = path.read_text().splitlines()
        return "\n".join(line.rsplit(",", 2)[0] for line in lines)
    if path.suffix == ".keras":
        return _weights(path)
    if path.suffix == ".json" and "metrics" in path.parts:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix in {".csv", ".npz"} and "cache" not in path.parts:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "present"


def _weights(path: Path) -> str:
    import io
    import zipfile

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


def _run(world: World, job: Job, how: int, at: int) -> tuple[int, str, int]:
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
    deadline = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 1, f"hang: still running after {SECONDS} s", 0
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    calls = json.loads(counted.read_text()) if counted.exists() else 0
    return code, log.read_text(errors="replace"), calls


def _be(world: World, job: Job, how: int, at: int, log: Path, counted: Path) -> None:
    """The child: the command, its streams in a file, counted from its first call."""
    code = 1
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
        library = ctypes.CDLL(None)
        library.fer_calls.restype = ctypes.c_long
        prefix = str(world.root).encode()
        library.fer_arm(prefix, how, ctypes.c_long(at))
        code = _typed([str(argument) for argument in job.arguments(world)])
        library.fer_disarm()
        counted.write_text(json.dumps(library.fer_calls()))
    finally:
        for stream_ in (sys.stdout, sys.stderr):
            stream_.flush()
        os._exit(code)


def _typed(arguments: list[str]) -> int:
    import traceback

    from fer_bench.cli import app

    try:
        app(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1], int(sys.argv[2])), 1))
