"""Jobs as tasks of Ray, on this machine or on the nodes of a cluster."""

import contextlib
import importlib
import io
import logging
import os
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fer_bench.errors import ConfigError
from fer_bench.runs import successor
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import write_atomically
from fer_bench.storage.locks import LOCK
from fer_bench.sweep.job import PAUSE, Job, Outcome, is_done, run_job

# How often a job may lose its node or its worker before it counts as failed.
RETRIES = 10
# How often a task asks whether it shall stop, and how long it waits for the answer, in seconds.
SECONDS_BETWEEN_QUESTIONS, PATIENCE = 1.0, 30.0
# Nothing that Ray can do without is sent anywhere or served to anybody.
_PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Share:
    """What Ray sets aside for one job.

    Attributes:
        cpus: cores, also a part of one.
        gpus: GPUs, also a part of one; a job sees only those that it is given.
    """

    cpus: float = 1.0
    gpus: float = 0.0


class RayEngine:
    """Jobs wherever Ray has room for them. Close it with `with`."""

    def __init__(
        self,
        outputs: Path,
        folder: Path,
        share: Share,
        *,
        address: str | None = None,
        workers: int | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Connect to Ray.

        Args:
            outputs: the folder of the runs. A node that does not see it trains in a folder of its
                own and sends the run when it is over.
            folder: the folder of the sweep, in the same file system.
            share: what every job is given.
            address: of a running cluster, `host:port` or `auto`; None: Ray on this machine only.
            workers: most jobs at a time; None: as many as there is room for.
            device: as in `fer train --device`.
            threads: for each job; None: one for every core it is given.

        Raises:
            ConfigError: Ray is not installed, or does not answer at `address`.
        """
        self.ray = _import_ray()
        self.workers, self.device = workers, device
        self.threads = threads or max(1, int(share.cpus))
        self.running: dict[Any, str] = {}
        self.elsewhere = contextlib.ExitStack()
        _connect(self.ray, address)
        self.marker = folder / f".seen-{uuid.uuid4().hex}"
        write_atomically(self.marker, "")
        self.home = _home_on_this_node(self.ray).remote(str(outputs), str(folder))
        self.task = self.ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=RETRIES)(
            run_task
        )

    def __enter__(self) -> "RayEngine":
        # Ray tells of lost nodes on standard output, which is for results alone.
        self.elsewhere.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop what is under way, wait until it is saved, and leave Ray."""
        self.stop()
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running))
        self.marker.unlink(missing_ok=True)
        self.ray.shutdown()
        self.elsewhere.close()

    def has_room(self) -> bool:
        """Whether another job may be started; Ray keeps it until a node has room."""
        return self.workers is None or len(self.running) < self.workers

    def start(self, job: Job) -> None:
        """Hand a job to Ray."""
        placed = replace(job, device=self.device, threads=self.threads)
        self.running[self.task.remote(placed, str(self.marker), self.home)] = job.run_id

    def is_busy(self) -> bool:
        """Whether jobs are under way."""
        return bool(self.running)

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call."""
        if not self.running:
            return {}
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=PAUSE)
        return {self.running.pop(task): self._outcome(task) for task in done}

    def stop(self) -> None:
        """Tell all jobs under way to save what they have and end."""
        if self.running:
            self.home.stop.remote()

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()
            return Outcome("failed", f"Ray: {said[-1] if said else type(error).__name__}", 0.0)
        return outcome


def _import_ray() -> Any:
    for name, value in _PRIVATE.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--engine ray: Ray cannot be imported ({error}).\n"
            "Install it on every node: pip install 'fer-bench[ray]'"
        ) from error


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"--address {address}: no cluster of Ray was found ({reason}).\n"
            "Start one with `ray start --head` on this machine, and give what it prints, or auto."
        ) from error


# On the node of a job ---------------------------------------------------------------------------


def run_task(job: Job, marker: str, home: Any) -> Outcome:
    """Run a job on the node where Ray has put this.

    Args:
        job: what is to be done.
        marker: a file in the folder of the sweep; where it can be seen, the outputs are shared.
        home: the actor `Home`.
    """
    if job.folder is not None and not Path(job.folder).is_dir():
        job = replace(job, folder=None)
    stopped = _asks(home)
    if Path(marker).exists():
        return run_job(job, stopped)
    return _run_apart(job, home, stopped)


def _run_apart(job: Job, home: Any, stopped: Callable[[], bool]) -> Outcome:
    """Run a job in a folder of this node, from what its home has to what its home will have."""
    ray = _import_ray()
    with tempfile.TemporaryDirectory(prefix="fer-bench-") as name:
        outputs = Path(name, "outputs")
        weights = str(yaml.safe_load(job.config)["model"]["weights"])
        for run_id in (job.run_id, weights.removeprefix("run:")):
            if (packed := ray.get(home.give.remote(run_id))) is not None:
                unpack(packed, outputs / run_id)
        log = Path(name, "log")
        outcome = run_job(replace(job, outputs=str(outputs), log=str(log)), stopped)
        run = outputs / job.run_id
        said = log.read_text(errors="replace")
        ray.get(home.keep.remote(job.run_id, pack(run) if run.is_dir() else None, said))
    return outcome


def _asks(home: Any) -> Callable[[], bool]:
    """Whether the sweep stops, asked of its home no more than once a second."""
    ray = _import_ray()
    answer, asked = False, 0.0

    def stopped() -> bool:
        nonlocal answer, asked
        if not answer and time.monotonic() - asked >= SECONDS_BETWEEN_QUESTIONS:
            with contextlib.suppress(ray.exceptions.GetTimeoutError):
                answer = ray.get(home.is_stopping.remote(), timeout=PATIENCE)
            asked = time.monotonic()
        return answer

    return stopped


# On the node of the sweep -----------------------------------------------------------------------


class Home:
    """Where the runs of a sweep belong, for the nodes that cannot see the folder: an actor."""

    def __init__(self, outputs: str, folder: str) -> None:
        self.outputs, self.folder = Path(outputs), Path(folder)
        self.stopping = False

    def stop(self) -> None:
        """Let all jobs stop."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Whether all jobs shall stop."""
        return self.stopping

    def give(self, run_id: str) -> bytes | None:
        """What there is of a run; None where there is nothing."""
        run = RunDirectory(self.outputs / run_id)
        return pack(run.path) if run.run_json.exists() else None

    def keep(self, run_id: str, packed: bytes | None, log: str) -> None:
        """Put what came of a run in its place, unless that is finished already."""
        with (self.folder / f"{run_id}.log").open("a") as file:
            file.write(log)
        if packed is not None and not is_done(RunDirectory(self.outputs / run_id), None):
            replace_run(packed, self.outputs / run_id)


def _home_on_this_node(ray: Any) -> Any:
    scheduling = importlib.import_module("ray.util.scheduling_strategies")
    here = ray.get_runtime_context().get_node_id()
    placed = scheduling.NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=placed)(Home)


def pack(folder: Path) -> bytes:
    """The files in a run's folder as a tar archive, but for the lock."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != LOCK:
                archive.add(path, path.name)
    return content.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write the files of an archive from `pack` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def replace_run(packed: bytes, run: Path) -> None:
    """Put an archive in the place of a run's folder that may be there; never a part of it."""
    successor.settle(run)
    arriving = RunDirectory(successor.beside(run))
    try:
        with arriving.lock():
            unpack(packed, arriving.path)
            run.mkdir(parents=True, exist_ok=True)
            successor.take_place(run)
    finally:
        successor.discard(run)
