"""Runs jobs as Ray tasks, on this machine or on the nodes of a cluster."""

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
from fer_bench.sweep.job import PAUSE, Job, Outcome, run_job
from fer_bench.sweep.local_engine import check_workers

# How often a job may lose its node or worker process before it counts as failed.
RETRIES = 10
# How often a task asks whether to stop, and how long it waits for the answer, in seconds.
SECONDS_BETWEEN_QUESTIONS, PATIENCE = 1.0, 30.0
# Switches off what Ray does not need: usage statistics, and hiding GPUs from jobs without one.
_PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Share:
    """The resources that Ray reserves per job.

    Attributes:
        cpus: cores, possibly fractional.
        gpus: GPUs, possibly fractional; a job sees only its own.
    """

    cpus: float = 1.0
    gpus: float = 0.0


class RayEngine:
    """Jobs on any node with free resources. Use it in a `with` statement."""

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
            outputs: the folder of the runs. A node that cannot see it trains in a temporary folder
                and sends the run when it has ended.
            folder: the folder of the sweep, on the same file system.
            share: the resources per job.
            address: the address of a running cluster, `host:port` or `auto`; None: start Ray on
                this machine only.
            workers: maximum number of jobs at a time; None: as many as fit.
            device: as in `fer train --device`.
            threads: threads per job; None: one per reserved core.

        Raises:
            FerError: fewer than one job at a time, an unknown device, Ray is not installed, or it
                does not respond at `address`.
        """
        check_workers(workers, [device])
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
        # Ray reports lost nodes on standard output, which is for results only.
        self.elsewhere.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop the running jobs, wait until their state is saved, and disconnect from Ray."""
        self.stop()
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running))
        self.marker.unlink(missing_ok=True)
        self.ray.shutdown()
        self.elsewhere.close()

    def has_room(self) -> bool:
        """Whether another job can be started; Ray queues it until a node has room."""
        return self.workers is None or len(self.running) < self.workers

    def start(self, job: Job) -> None:
        """Submit a job to Ray."""
        placed = replace(job, device=self.device, threads=self.threads)
        self.running[self.task.remote(placed, str(self.marker), self.home)] = job.run_id

    def is_busy(self) -> bool:
        """Whether any job is running."""
        return bool(self.running)

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call, by run id."""
        if not self.running:
            return {}
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=PAUSE)
        return {self.running.pop(task): self._outcome(task) for task in done}

    def stop(self) -> None:
        """Tell all running jobs to save their state and end."""
        if self.running:
            self.home.stop.remote()

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Outcome("failed", f"Ray: {lines[-1]}", 0.0)
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
            f"--address {address}: found no Ray cluster ({reason}).\n"
            "Start one with `ray start --head` on this machine; use the address that it prints, or "
            "auto."
        ) from error


# On the node of a job ---------------------------------------------------------------------------


def run_task(job: Job, marker: str, home: Any) -> Outcome:
    """Run a job on the node that Ray has chosen.

    Args:
        job: the job.
        marker: a file in the folder of the sweep; a node that can see it shares the outputs.
        home: the actor `Home`.
    """
    if job.folder is not None and not Path(job.folder).is_dir():
        job = replace(job, folder=None)
    stopped = _stop_request(home)
    if Path(marker).exists():
        return run_job(job, stopped)
    return _run_apart(job, home, stopped)


def _run_apart(job: Job, home: Any, stopped: Callable[[], bool]) -> Outcome:
    """Run a job in a temporary folder of this node: fetch the run, train, send it back."""
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
        output = log.read_text(errors="replace")
        ray.get(home.keep.remote(job.run_id, pack(run) if run.is_dir() else None, output))
    return outcome


def _stop_request(home: Any) -> Callable[[], bool]:
    """A function that asks the home whether the sweep is stopping, at most once per second."""
    ray = _import_ray()
    answer, last = False, 0.0

    def stopped() -> bool:
        nonlocal answer, last
        if not answer and time.monotonic() - last >= SECONDS_BETWEEN_QUESTIONS:
            with contextlib.suppress(ray.exceptions.GetTimeoutError):
                answer = ray.get(home.is_stopping.remote(), timeout=PATIENCE)
            last = time.monotonic()
        return answer

    return stopped


# On the node of the sweep -----------------------------------------------------------------------


class Home:
    """An actor on the node of the sweep that serves its runs to nodes that cannot see them."""

    def __init__(self, outputs: str, folder: str) -> None:
        self.outputs, self.folder = Path(outputs), Path(folder)
        self.stopping = False

    def stop(self) -> None:
        """Stop all jobs."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Whether all jobs have to stop."""
        return self.stopping

    def give(self, run_id: str) -> bytes | None:
        """The files of a run; None if it was never started."""
        run = RunDirectory(self.outputs / run_id)
        return pack(run.path) if run.run_json.exists() else None

    def keep(self, run_id: str, packed: bytes | None, log: str) -> None:
        """Store the files of a run, unless the stored run is finished already."""
        with (self.folder / f"{run_id}.log").open("a") as file:
            file.write(log)
        if packed is not None and RunDirectory(self.outputs / run_id).status() != "finished":
            replace_run(packed, self.outputs / run_id)


def _home_on_this_node(ray: Any) -> Any:
    scheduling = importlib.import_module("ray.util.scheduling_strategies")
    here = ray.get_runtime_context().get_node_id()
    placed = scheduling.NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=placed)(Home)


def pack(folder: Path) -> bytes:
    """The files of a run as a tar archive, without the lock."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != LOCK:
                archive.add(path, path.name)
    return content.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Extract an archive of `pack` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def replace_run(packed: bytes, run: Path) -> None:
    """Replace a run, if any, by the content of an archive, completely or not at all."""
    successor.settle(run)
    arriving = RunDirectory(successor.beside(run))
    try:
        with arriving.lock():
            unpack(packed, arriving.path)
            run.mkdir(parents=True, exist_ok=True)
            successor.take_place(run)
    finally:
        successor.discard(run)
