"""Runs jobs on this machine, several at a time."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from fer_bench.device.machine import usable_cores
from fer_bench.device.names import parse_device
from fer_bench.device.signals import Stop
from fer_bench.errors import ConfigError
from fer_bench.sweep.job import PAUSE, Job, Outcome, run_job


class LocalEngine:
    """A fixed number of jobs at a time, each in its own processes. Use it in a `with` statement."""

    def __init__(
        self, workers: int | None, devices: Sequence[str] = ("auto",), threads: int | None = None
    ) -> None:
        """Jobs take the devices in turn.

        Args:
            workers: jobs at a time; None: one per device.
            devices: as in `fer train --device`.
            threads: threads per job; None: the usable cores, shared evenly.

        Raises:
            FerError: fewer than one job at a time, or an unknown device.
        """
        check_workers(workers, devices)
        workers = workers or len(devices)
        self.threads = threads or share_of_cores(workers)
        self.free = list(itertools.islice(itertools.cycle(devices), workers))
        self.running: dict[Future[Outcome], tuple[str, str]] = {}
        self.stopping = Stop()
        # A job's processes live no longer than the thread that started them, so the pool keeps it.
        self.pool = ThreadPoolExecutor(workers, "job")

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop the running jobs and wait until their state is saved."""
        self.stop()
        self.pool.shutdown()

    def has_room(self) -> bool:
        """Whether another job can be started."""
        return bool(self.free)

    def start(self, job: Job) -> None:
        """Start a job on the next free device."""
        device = self.free.pop(0)
        placed = replace(job, device=device, threads=self.threads)
        future = self.pool.submit(run_job, placed, self.stopping.is_set)
        self.running[future] = job.run_id, device

    def is_busy(self) -> bool:
        """Whether any job is running."""
        return bool(self.running)

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call, by run id."""
        outcomes = {}
        done, _ = wait(self.running, PAUSE, FIRST_COMPLETED)
        for future in done:
            run_id, device = self.running.pop(future)
            self.free.append(device)
            outcomes[run_id] = future.result()
        return outcomes

    def stop(self) -> None:
        """Tell all running jobs to save their state and end."""
        self.stopping.set()


def check_workers(workers: int | None, devices: Sequence[str]) -> None:
    """Check `--workers` and `--device` of a sweep, before anything starts.

    Raises:
        ConfigError: fewer than one job at a time.
        DeviceError: something else than `auto`, `cpu`, `gpu` or `gpu:<index>`.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: expected at least 1.")
    for device in devices:
        parse_device(device)


def share_of_cores(jobs: int) -> int | None:
    """Threads per job; None for a single job, which chooses for itself."""
    return None if jobs == 1 else max(1, usable_cores().number // jobs)
