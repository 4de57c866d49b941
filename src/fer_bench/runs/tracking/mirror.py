"""TensorBoard and MLflow: mirrors of the run directory.

The run directory is the source of truth. Any process may ask a tracker to send what it has not
sent yet; `<run>/tracking/` records what was sent.
"""

import importlib.util
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from fer_bench.errors import ConfigError, FerError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.tracking.mlflow import MLflow
from fer_bench.runs.tracking.outbox import Parcel, TrackingError, UnreachableError
from fer_bench.runs.tracking.tensorboard import TensorBoard

__all__ = [
    "Mirror",
    "Parcel",
    "TrackingError",
    "UnreachableError",
    "check_packages",
    "open_tracker",
    "tracked_by",
]

# How long the end of a command waits for unfinished sends.
SECONDS_AT_THE_END = 10.0
TRACKERS: dict[str, Callable[[RunDirectory], "Tracker"]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}
# The package that a tracker needs; TensorBoard needs none, TensorFlow writes its files.
PACKAGES = {"mlflow": "mlflow"}


class Tracker(Protocol):
    """One place that one run is mirrored to."""

    def send(self) -> Parcel:
        """Send what is missing and return it. Raises: TrackingError."""


def open_tracker(name: str, run: RunDirectory) -> Tracker:
    """The tracker called `name`, for `run`. Nothing is sent yet."""
    return TRACKERS[name](run)


def tracked_by(run: RunDirectory) -> list[str]:
    """The trackers that `run.json` names."""
    return [name for name in run.read_record().tracking if name in TRACKERS]


def check_packages(names: Sequence[str]) -> None:
    """Check that the packages of the trackers are installed. Raises: ConfigError saying how."""
    for name in names:
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"tracking: {name} needs the package {package}, which is not installed.\n"
                f"Install it with: pip install 'fer-bench[{name}]', or remove {name} from tracking."
            )


class Mirror:
    """Sends a run to its trackers in the background.

    Only `close` waits, for a bounded time. A failure of a tracker is not an error of the run. Each
    tracker has at most one send in progress. Leaving a `with` block closes the mirror.
    """

    def __init__(self, run: RunDirectory, names: Sequence[str], say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._couriers = [_Courier(name, run) for name in names]

    def send(self) -> None:
        """Start to send what is new; while a send is in progress, that is left to the next one."""
        for courier in self._couriers:
            courier.start()
            self._warn_once(courier)

    def close(self, seconds: float = SECONDS_AT_THE_END) -> None:
        """Send what is left; wait at most `seconds` for all sends in progress."""
        deadline = time.monotonic() + seconds
        for courier in self._couriers:
            courier.wait(deadline)
        self.send()
        for courier in self._couriers:
            if not courier.wait(deadline):
                courier.failure = courier.failure or f"no answer after {seconds:g} seconds"
            self._warn_once(courier)

    def _warn_once(self, courier: "_Courier") -> None:
        if courier.failure and not courier.has_warned:
            courier.has_warned = True
            self._say(
                f"warning: {courier.name}: {courier.failure}.\n"
                f"Nothing is lost: `fer sync {self._run.run_id}` sends what is missing."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Courier:
    """One tracker, and the thread that sends to it."""

    def __init__(self, name: str, run: RunDirectory) -> None:
        self.name = name
        self.failure: str | None = None
        self.has_warned = False
        self._tracker = open_tracker(name, run)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send in the background, unless a send is in progress."""
        if self._thread is None or not self._thread.is_alive():
            # A daemon thread: a server that hangs must not keep the process alive.
            self._thread = threading.Thread(target=self._send, name=self.name, daemon=True)
            self._thread.start()

    def wait(self, deadline: float) -> bool:
        """Wait for the send in progress until `deadline`; returns whether none is left."""
        if self._thread is None:
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _send(self) -> None:
        try:
            self._tracker.send()
        except (FerError, OSError) as error:
            self.failure = str(error)
