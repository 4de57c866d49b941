"""Collective operations of the workers of one run: agree, sum up, notice that one is lost."""

import hashlib
import re
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fer_bench.device.selection import Device
from fer_bench.errors import RunError, WorkerLost

# The errors of TensorFlow in a worker when another worker, or the connection to it, is lost.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


def agree(device: Device, what: str, text: str) -> None:
    """Make sure that `text` is the same in all workers; waits for all of them.

    Raises:
        RunError: it differs; `what` names it in the message.
        WorkerLost: a worker does not respond.
    """
    if device.workers == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(np.float32)
    digests = merged(device, digest[None], device.worker, device.workers)
    others = [index for index, other in enumerate(digests) if (other != digests[0]).any()]
    if others:
        raise RunError(
            f"{what} differs between worker 0 and worker {', '.join(map(str, others))}; "
            f"this is worker {device.worker}.\n"
            "Start all workers with the same command, and with the same folders on a shared file "
            "system."
        )


def everywhere(device: Device, holds: bool) -> bool:
    """Whether something holds for all workers; waits for all of them.

    Raises:
        WorkerLost: a worker does not respond.
    """
    own = np.array([[holds]], np.float32)
    return bool(merged(device, own, device.worker, device.workers).all())


def own_rows(device: Device, count: int) -> range:
    """The rows, out of `count`, of this worker: each worker has one contiguous block."""
    first, end = (count * index // device.workers for index in (device.worker, device.worker + 1))
    return range(first, end)


def merged(device: Device, values: NDArray[Any], first: int, count: int) -> NDArray[Any]:
    """Gather all `count` rows; each worker contributes its own `values`, from row `first` on.

    Raises:
        WorkerLost: a worker does not respond.
    """
    if device.workers == 1:
        return values
    whole = np.zeros((count, *values.shape[1:]), values.dtype)
    whole[first : first + len(values)] = values
    try:
        summed = _sum_over_workers(device.strategy, device.local_replicas, tf.constant(whole))
        total: NDArray[Any] = summed.numpy()
    except LOST as error:
        raise worker_lost(device, error) from error
    return total


@tf.function(reduce_retracing=True)
def _sum_over_workers(strategy: Any, local: int, value: Any) -> Any:
    def replica_sum() -> Any:
        context = tf.distribute.get_replica_context()
        # Only the first device of each host contributes its rows.
        is_first = context.replica_id_in_sync_group % local == 0
        return context.all_reduce("SUM", value * tf.cast(is_first, value.dtype))

    return strategy.experimental_local_results(strategy.run(replica_sum))[0]


def worker_lost(device: Device, error: tf.errors.OpError) -> WorkerLost:
    """The error to show in this worker when another one no longer responds."""
    gone = {int(task) for task in re.findall(r"/job:worker/replica:0/task:(\d+)", error.message)}
    named = ", ".join(str(index) for index in sorted(gone - {device.worker}))
    return WorkerLost(
        f"{f'worker {named}' if named else 'another worker'} of the {device.workers} no longer "
        f"responds; this is worker {device.worker}.\n"
        "Start all of them again with the same command: the run resumes from its last checkpoint."
    )
