"""Where people run it: without a name, a home or a terminal, on disks that cannot be written.

Containers are imitated by `setpriv` and mount namespaces. Where those are not allowed, the test is
skipped with what they say.
"""

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import CALLS as CALLS_ANYWHERE
from commands import all_commands, write_inputs
from layouts import Face, fer2013
from messages import says

from fer_bench.storage.cache import VARIABLE

HERE = Path(__file__).parent
UNKNOWN = 12345  # a user id that no system has a name for
CALLS = CALLS_ANYWHERE | {
    "train": "tiny.yaml --set seed=3",
    "evaluate": "{run} --set dataset.root=faces",
    "explain": "{run} --set dataset.root=faces -n 4",
    "sweep": "suite.yaml --outputs outputs",
    "data prepare": "fer2013 archive.zip --root new",
}
Jobs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def world(trained_run: Path, tiny: dict[str, Any], drawn_root: Path, faces: list[Face]) -> Any:
    """What the commands need, in a folder that every user may enter."""
    root = Path(tempfile.mkdtemp(prefix="fer-bench-places-"))
    root.chmod(0o755)
    shutil.copytree(drawn_root, root / "faces")
    shutil.copytree(trained_run, root / "outputs" / trained_run.name)
    short = {**tiny, "dataset": {**tiny["dataset"], "root": "faces"}, "stages": [tiny["stages"][0]]}
    write_inputs(root, short)
    fer2013.csv(root / "download", faces)
    shutil.make_archive(str(root / "archive"), "zip", root / "download")
    yield root
    shutil.rmtree(root)


# Environments ----------------------------------------------------------------------------------


def plain(_: Path) -> list[str]:
    return []


def somebody(place: Path) -> list[str]:
    """As a user without a name, to whom everything but the dataset belongs."""
    for path in (place, *place.rglob("*")):
        if not path.is_relative_to(place / "faces"):
            with contextlib.suppress(PermissionError):  # `setpriv` says it in better words
                os.chown(path, UNKNOWN, UNKNOWN, follow_symlinks=False)
    return ["setpriv", f"--reuid={UNKNOWN}", f"--regid={UNKNOWN}", "--clear-groups"]


def with_read_only_home(place: Path) -> list[str]:
    """As such a user, with runs behind a link to another file system where there is one."""
    elsewhere = Path(tempfile.mkdtemp(prefix="fer-bench-", dir=other_disk(place)))
    shutil.move(place / "outputs", elsewhere)
    (place / "outputs").symlink_to(elsewhere / "outputs")
    (place / "behind").symlink_to(elsewhere)  # to be removed
    for path in (elsewhere, *elsewhere.rglob("*")):
        with contextlib.suppress(PermissionError):
            os.chown(path, UNKNOWN, UNKNOWN)
    prefix = somebody(place)
    (place / "home").mkdir()
    (place / "home").chmod(0o555)
    return prefix


def other_disk(place: Path) -> Path:
    memory = Path("/dev/shm")  # a file system of its own
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else place.parent


def with_read_only_run(place: Path) -> list[str]:
    """With the run and the dataset mounted read-only."""
    (run,) = place.glob("outputs/tiny-*")
    mounts = [
        f"mount --bind '{path}' '{path}' && mount -o remount,ro,bind '{path}' && "
        for path in (run, place / "faces")
    ]
    return ["unshare", "-m", "sh", "-c", "".join(mounts) + 'exec "$@"', "sh"]


@dataclass(frozen=True)
class Environment:
    """One place to run commands in: several things at once where they do not hide each other."""

    prefix: Callable[[Path], list[str]] = plain
    variables: dict[str, str] = field(default_factory=dict)
    shell: str = "plain"
    codes: frozenset[int] = frozenset({0})
    options: dict[str, str] = field(default_factory=dict)


# A sweep starts an interpreter for each run, which takes long, and another user may not do. So runs
# are started in one environment, in which they could inherit a closed stream.
PLAN = {"sweep": " --dry-run"}
TO = dict.fromkeys(("evaluate", "explain", "report"), " --to mine")
ENVIRONMENTS = {
    "unknown user": Environment(
        somebody,
        {"HOME": "/", VARIABLE: "", "TERM": "dumb", "COLUMNS": "20", "TMPDIR": "{place}/temporary"},
        "nohup",
        options=PLAN,
    ),
    "read-only home": Environment(
        with_read_only_home,
        {"HOME": "{place}/home", VARIABLE: "", "TMPDIR": "{place}/gone", "NO_COLOR": "1"}
        | {"PYTHONIOENCODING": "ascii"},
        options=PLAN,
    ),
    "read-only run": Environment(with_read_only_run, options=PLAN | TO),
    "full": Environment(shell="full", codes=frozenset({0, 2}), options=PLAN),
    "closed": Environment(shell="closed"),
    "pipe": Environment(shell="pipe", codes=frozenset({0, 141}), options=PLAN),
}
SILENT = {"data show", "data prepare"}  # on standard output


def started(place: Path, prefix: Sequence[str], variables: dict[str, str], jobs: Any) -> Jobs:
    """Start jobs in an environment; skips the test where there can be no such environment."""
    hidden = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "USER", "LOGNAME"}
    usual = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = {**usual, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    can = subprocess.run(
        [*prefix, sys.executable, "-c", "import fer_bench"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
    )
    if can.returncode:
        pytest.skip(f"not allowed here: {(can.stderr.splitlines() or ['no reason given'])[-1]}")
    done = subprocess.run(
        [*prefix, sys.executable, str(HERE.parent / "started_commands.py")],
        cwd=place,
        env=environment,
        input=json.dumps(list(jobs)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stderr.lower()
    return {job["name"]: job for job in json.loads(done.stdout)}


@contextlib.contextmanager
def copy_of(world: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="fer-bench-place-"))
    place.chmod(0o755)
    shutil.copytree(world, place, dirs_exist_ok=True)
    (place / "temporary").mkdir()
    try:
        yield place
    finally:
        if (place / "behind").is_symlink():
            shutil.rmtree((place / "behind").resolve())
        shutil.rmtree(place)
        shutil.rmtree(Path(tempfile.gettempdir()) / f"fer-bench-{UNKNOWN}", ignore_errors=True)


def test_every_command_is_started() -> None:
    assert all_commands() <= set(CALLS), "add the new command to CALLS"


@pytest.mark.scale
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_command_starts(name: str, world: Path, trained_run: Path) -> None:
    where, run = ENVIRONMENTS[name], trained_run.name
    with copy_of(world) as place:
        variables = {key: value.format(place=place) for key, value in where.variables.items()}
        before = sorted((place / "outputs" / run).rglob("*"))
        done = started(place, where.prefix(place), variables, jobs(where, run))
        for command, job in done.items():
            check_end(command, job, where)
        if name == "full":
            assert {command for command, job in done.items() if job["code"] == 0} <= SILENT
        if "HOME" in variables:
            says(done["train"]["err"], VARIABLE, ".cache/fer-bench", f"fer-bench-{UNKNOWN}")
        if "COLUMNS" in variables:
            lines = (done["compare"]["out"] + done["data stats"]["out"]).splitlines()
            assert 0 < max(map(len, lines)) <= 20
        if where.prefix is with_read_only_run:
            assert sorted((place / "outputs" / run).rglob("*")) == before
            assert (place / "mine" / run / "report.html").is_file()


def jobs(where: Environment, run: str) -> Iterator[dict[str, Any]]:
    """Each command, as it is started there."""
    for command, typed in CALLS.items():
        options = where.options.get(command, "")
        arguments = [*command.split(), *f"{typed.format(run=run)}{options}".split()]
        yield {"name": command, "shell": where.shell, "arguments": arguments}


def check_end(command: str, job: dict[str, Any], where: Environment) -> None:
    """Assert that a command ended well, or with a message on the output that was full."""
    told = f"{command}: {job['code']}\n{job['err']}"
    assert job["code"] in where.codes, told
    for words in ("Traceback", "Exception ignored", "matplotlib"):
        assert words.lower() not in job["err"].lower(), told
    if job["code"] == 2:
        says(job["err"], "standard output")
    if "HOME" in where.variables:
        assert job["err"].count(VARIABLE) <= 1, told
    if "PYTHONIOENCODING" in where.variables:
        assert (job["out"] + job["err"]).isascii(), told


@pytest.mark.scale
def test_a_closed_terminal_stops_a_training_whose_state_is_saved(world: Path) -> None:
    with copy_of(world) as place:
        arguments = ["train", "tiny.yaml", "--set", "seed=5", "--set", "stages.0.epochs=500"]
        process, terminal = pty.fork()
        if not process:
            os.chdir(place)
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where `nohup` started the tests
            start = "from fer_bench.cli import main; main()"
            os.execv(sys.executable, [sys.executable, "-c", start, *arguments])
        shown = b""
        while b"2/500" not in shown and select.select([terminal], [], [], 300)[0]:
            shown += os.read(terminal, 65536)
        os.close(terminal)
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 130, shown[-2000:]
        (run,) = place.glob("outputs/tiny-s5-*")
        assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
        assert (run / "state" / "progress.json").is_file()
