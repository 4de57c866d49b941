"""Jobs on this machine, some at a time."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from fer_bench.device.machine import usable_cores
from fer_bench.device.signals import Stop
from fer_bench.errors import ConfigError
from fer_bench.sweep.job import PAUSE, Job, Outcome, run_job


class LocalEngine:
    """So many jobs at a time, each in processes of its own. Close it with `with`."""

    def __init__(
        self, workers: int | None, devices: Sequence[str] = ("auto",), threads: int | None = None
    ) -> None:
        """Jobs take the devices in turn.

        Args:
            workers: jobs at a time; None: one on each device.
            devices: as in `fer train --device`.
            threads: for each job; None: all cores for a single one, else an equal share of them.

        Raises:
            ConfigError: fewer than one job at a time.
        """
        workers = len(devices) if workers is None else workers
        if workers < 1:
            raise ConfigError(f"--workers {workers}: expected at least 1.")
        self.threads = threads or share_of_cores(workers)
        self.free = list(itertools.islice(itertools.cycle(devices), workers))
        self.running: dict[Future[Outcome], tuple[str, str]] = {}
        self.stopping = Stop()
        # A job's processes live no longer than the thread that started them: the pool keeps it.
        self.pool = ThreadPoolExecutor(workers, "job")

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop what is under way, and wait until it is saved."""
        self.stop()
        self.pool.shutdown()

    def has_room(self) -> bool:
        """Whether another job may be started."""
        return bool(self.free)

    def start(self, job: Job) -> None:
        """Begin a job on the next free device."""
        device = self.free.pop(0)
        placed = replace(job, device=device, threads=self.threads)
        future = self.pool.submit(run_job, placed, self.stopping.is_set)
        self.running[future] = job.run_id, device

    def is_busy(self) -> bool:
        """Whether jobs are under way."""
        return bool(self.running)

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call."""
        outcomes = {}
        done, _ = wait(self.running, PAUSE, FIRST_COMPLETED)
        for future in done:
            run_id, device = self.running.pop(future)
            self.free.append(device)
            outcomes[run_id] = future.result()
        return outcomes

    def stop(self) -> None:
        """Tell all jobs under way to save what they have and end."""
        self.stopping.set()


def share_of_cores(jobs: int) -> int | None:
    """Threads of each of so many jobs at a time; None leaves the choice to a single one."""
    if jobs == 1:
        return None
    return max(1, usable_cores().number // jobs)
