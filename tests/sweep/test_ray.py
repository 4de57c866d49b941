"""Sweeps on Ray: nodes with and without a shared folder of runs, and lost nodes."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import Result

from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep import job as jobs
from fer_bench.sweep import ray_engine
from fer_bench.sweep.job import Job
from fer_bench.sweep.ray_engine import Home, pack, replace_run, run_task, unpack
from fer_bench.sweep.scheduler import make_job
from fer_bench.sweep.suite import load_suite

TIMES = ["images_per_second", "seconds"]
SECONDS = 900.0  # guards against hanging; takes half a minute on an idle machine


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Runs that travel ------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "a-s1-0123abcd"
    (folder / "state").mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "interrupted"}')
    (folder / "state" / "progress.json").write_text("{}")
    (folder / "lock").touch()
    return folder


def test_a_run_arrives_unchanged_but_without_the_lock(run: Path, tmp_path: Path) -> None:
    unpack(pack(run), tmp_path / "there")
    (run / "lock").unlink()
    assert files_in(tmp_path / "there") == files_in(run)


def test_an_arriving_run_replaces_the_old_one(run: Path, tmp_path: Path) -> None:
    packed = pack(run)
    (run / "run.json").write_text("{}")
    (run / "more").touch()
    replace_run(packed, run)
    assert sorted(files_in(run)) == ["lock", "run.json", "state/progress.json"]
    assert json.loads((run / "run.json").read_text()) == {"status": "interrupted"}
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert [path.name for path in run.parent.iterdir()] == [run.name]


@pytest.mark.parametrize("failing", [(tarfile, "open"), (Path, "rename")])
def test_a_run_that_cannot_be_stored_leaves_the_old_one(
    failing: tuple[Any, str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, before = pack(run), files_in(run)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*failing, full)
    with pytest.raises(OSError, match="No space"):
        replace_run(packed, run)
    assert files_in(run) == before
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_a_finished_run_is_not_replaced(run: Path, tmp_path: Path) -> None:
    home = Home(str(run.parent), str(tmp_path))
    packed = pack(run)
    (run / "run.json").write_text('{"status": "finished"}')
    home.keep(run.name, packed, "output\n")
    assert RunDirectory(run).status() == "finished"
    assert (tmp_path / f"{run.name}.log").read_text() == "output\n"


def test_home_gives_the_files_of_a_run(run: Path, tmp_path: Path) -> None:
    home = Home(str(run.parent), str(tmp_path))
    assert home.give("b-s1-0123abcd") is None
    assert home.give(run.name) == pack(run)


# A node without the folder ---------------------------------------------------------------------

# In the place of `fer`: it trains from the state that it finds, and needs the weights of `base`.
STAND_IN = """
import json, pathlib, signal, sys, time

kind, what, *rest = sys.argv[1:]
outputs = pathlib.Path(dict(zip(rest[::2], rest[1::2]))["--outputs"])
assert json.loads((outputs / "base-s1-0123abcd" / "run.json").read_text())["status"] == "finished"
run = outputs / "next"
if kind == "evaluate":
    (run / "metrics").mkdir()
    (run / "metrics" / "test.json").write_text("{}")
    sys.exit()

def stop(number, frame):
    (run / "state").touch()
    (run / "run.json").write_text('{"status": "interrupted"}')
    print("stopped: at step 3")
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
goes_on = (run / "state").exists()
run.mkdir(exist_ok=True)
(run / "run.json").write_text('{"status": "running"}')
print("going on" if goes_on else "from the beginning", flush=True)
if not goes_on:
    time.sleep(60)
(run / "run.json").write_text('{"status": "finished"}')
"""


class At:
    """An actor without Ray: a call is its answer."""

    def __init__(self, home: Home) -> None:
        for name in ("stop", "is_stopping", "give", "keep"):
            setattr(self, name, SimpleNamespace(remote=getattr(home, name)))


@pytest.fixture
def no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray answers at once, and the jobs call the stand-in."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(jobs, "FER", (sys.executable, "-S", str(tmp_path / "stand_in.py")))
    ray = SimpleNamespace(
        get=lambda answer, timeout=None: answer,
        exceptions=SimpleNamespace(GetTimeoutError=TimeoutError),
    )
    monkeypatch.setattr(ray_engine, "_import_ray", lambda: ray)
    monkeypatch.setattr(ray_engine, "SECONDS_BETWEEN_QUESTIONS", 0.1)


@pytest.mark.slow
def test_a_node_without_the_folder_is_sent_what_it_needs_and_sends_what_it_has(
    no_ray: None, tmp_path: Path
) -> None:
    base = tmp_path / "outputs" / "base-s1-0123abcd"
    base.mkdir(parents=True)
    (base / "run.json").write_text('{"status": "finished"}')
    home = Home(str(tmp_path / "outputs"), str(tmp_path))
    config = yaml.safe_dump({"model": {"weights": f"run:{base.name}"}})
    unseen = str(tmp_path / "nowhere" / "outputs")
    job = Job("next", config, unseen, "test", "cpu", 1, "/unseen/log", "/unseen")

    timer = threading.Timer(1.5, home.stop)
    timer.start()
    assert run_task(job, str(tmp_path / "no marker"), At(home)).status == "interrupted"
    run = RunDirectory(tmp_path / "outputs" / "next")
    assert run.status() == "interrupted"

    home.stopping = False
    assert run_task(job, str(tmp_path / "no marker"), At(home)).status == "finished"
    assert run.status() == "finished"
    assert run.metrics("test").exists()
    log = (tmp_path / "next.log").read_text()
    assert log.index("from the beginning") < log.index("going on")
    assert not Path(unseen).exists()


def test_a_missing_ray_is_told(
    fer: Callable[..., Result], tiny: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    suite = write_suite(tmp_path, tiny)
    result = fer("sweep", suite, "--outputs", tmp_path / "outputs", "--engine", "ray")
    assert result.exit_code == 2
    assert "pip install 'fer-bench[ray]'" in result.stderr


# A cluster -------------------------------------------------------------------------------------


def write_suite(folder: Path, tiny: dict[str, Any]) -> Path:
    """Twice the experiment of `trained_run`, under two names."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    runs = [{"config": "tiny.yaml", "name": name} for name in ("one", "two")]
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump({"description": "x.", "runs": runs}))
    return path


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
    return port


def descendants(process: int) -> list[int]:
    """The processes that this one started, and those that these did, from the top down."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        children.setdefault(int(after_name[1]), []).append(int(status.parent.name))
    found = [process]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


class Cluster:
    """Nodes of Ray with one core each, all on this machine."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.address = ""
        # A secret of this cluster alone, whatever Ray keeps in the home folder.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = os.environ | token
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> None:
        fixed = ("--dashboard-agent-listen-port", "--metrics-export-port")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        command += ["--num-cpus", "1", "--object-store-memory", "100000000"]
        command += ["--disable-usage-stats", "--min-worker-port", "0", "--max-worker-port", "0"]
        command += [part for name in fixed for part in (name, str(free_port()))]
        output = (self.temporary / f"node{len(self.nodes)}").open("wb")
        with output:
            node = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        self.nodes.append(node)

    def start_two(self) -> None:
        ports = ("--port", str(free_port()), "--ray-client-server-port", str(free_port()))
        folder = str(self.temporary / "ray")
        self.start("--head", *ports, "--include-dashboard", "false", "--temp-dir", folder)
        self.address = self.hear(0, r"ray start --address='([^']+)'")
        self.start("--address", self.address)
        self.hear(1, "(Ray runtime started)")

    def hear(self, number: int, words: str) -> str:
        """Wait until a node says this; the group in it."""

        def heard() -> re.Match[str] | None:
            said = (self.temporary / f"node{number}").read_text()
            assert self.nodes[number].poll() is None, said
            return re.search(words, said)

        return str(wait_until(heard)[1])

    def trainings(self, number: int) -> list[str]:
        """The command lines of `fer train` on a node."""
        lines = map(command_line, descendants(self.nodes[number].pid))
        return [line for line in lines if " -m fer_bench train " in line]

    def lose(self, number: int) -> None:
        """Kill all of Ray on a node, as when its power fails; what it had started is told."""
        node = self.nodes[number]
        ours = [one for one in descendants(node.pid) if "fer_bench train" not in command_line(one)]
        kill([node.pid, *ours])

    def stop(self) -> None:
        for node in self.nodes:
            kill([*descendants(node.pid), node.pid])
            node.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not below pytest's folder: the path of a Unix socket has at most 107 characters.
    temporary = Path(tempfile.mkdtemp(prefix="fer-ray-"))
    cluster = Cluster(temporary)
    try:
        cluster.start_two()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(temporary, ignore_errors=True)


def assert_same_history(first: Path, second: Path) -> None:
    one, other = (pd.read_csv(run / "history.csv").drop(columns=TIMES) for run in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.slow
@pytest.mark.scale
def test_a_sweep_survives_the_loss_of_a_node(
    cluster: Cluster, tiny: dict[str, Any], trained_run: Path, tmp_path: Path
) -> None:
    from fer_bench.device.machine import usable_cores

    outputs = tmp_path / "outputs"
    suite = write_suite(tmp_path, tiny)
    # As many threads as the run that they are compared with.
    options = ["--engine", "ray", "--address", cluster.address, "--json"]
    options += ["--threads", str(usable_cores().number), "--outputs", str(outputs)]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "fer_bench", "sweep", str(suite), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment,
    )
    try:
        (training,) = wait_until(lambda: cluster.trainings(1))
        lost = next(run for run in load_suite(suite).runs if run.run_id in training)
        run = RunDirectory(outputs / lost.run_id)
        wait_until((run.state / "progress.json").exists)
        cluster.lose(1)
        printed, messages = sweep.communicate(timeout=2 * SECONDS)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, messages
    document = json.loads(printed)
    assert [entry["outcome"] for entry in document["runs"]] == ["finished", "finished"]
    for entry in document["runs"]:
        assert_same_history(outputs / entry["run_id"], trained_run)
    log = (outputs / "sweeps" / "pair" / f"{lost.run_id}.log").read_text()
    assert log.count("$ fer train") == 2, log
    assert "resuming at epoch" in log, log


APART = """
import sys
import tarfile
from pathlib import Path
from fer_bench.device.signals import Stop
from fer_bench.sweep.suite import load_suite
from fer_bench.sweep.scheduler import make_job, run_jobs, sweep_folder
from fer_bench.sweep.ray_engine import RayEngine, Share

class Unseen:
    def look(self, outcomes): pass
    def stopping(self): pass

suite, outputs, address = load_suite(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
folder = sweep_folder(outputs, suite)
todo = [make_job(run, outputs, folder) for run in suite.runs]
with RayEngine(outputs, folder, Share(), address=address, threads=int(sys.argv[4])) as engine:
    engine.marker = folder / "not here"  # as on a node that doesn't see the folder
    outcomes = run_jobs(todo, {}, engine, Stop(), Unseen())
for outcome in outcomes.values():
    print(outcome.status, outcome.message)
"""


@pytest.mark.slow
@pytest.mark.scale
def test_runs_come_back_from_nodes_without_the_folder(
    cluster: Cluster, tiny: dict[str, Any], trained_run: Path, tmp_path: Path
) -> None:
    from fer_bench.device.machine import usable_cores

    outputs = tmp_path / "outputs"
    suite = write_suite(tmp_path, tiny)
    arguments = [str(suite), str(outputs), cluster.address, str(usable_cores().number)]
    result = subprocess.run(
        [sys.executable, "-c", APART, *arguments],
        capture_output=True,
        text=True,
        env=cluster.environment,
        timeout=2 * SECONDS,
        check=False,
    )
    assert result.stdout.splitlines() == ["finished ", "finished "], result.stderr
    for planned in load_suite(suite).runs:
        run = RunDirectory(outputs / planned.run_id)
        assert run.metrics("test").exists()
        assert_same_history(run.path, trained_run)
        job = make_job(planned, outputs, outputs / "sweeps" / "pair")
        assert "resuming at epoch" not in Path(job.log).read_text()
