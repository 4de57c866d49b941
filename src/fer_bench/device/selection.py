"""Chooses the device that computes, with its threads and memory, or says why there is no GPU."""

import contextlib
import ctypes
import importlib.util
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from fer_bench import settings
from fer_bench.device import kernels, machine
from fer_bench.device.kernels import ONEDNN_SWITCH, Kernels
from fer_bench.device.names import DeviceName, parse_device
from fer_bench.device.precision import bfloat16_is_fast, computes_bfloat16
from fer_bench.device.workers import Workers
from fer_bench.errors import DeviceError

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

# Where the memory of a device is unknown: what even a small GPU has today.
ASSUMED_MEMORY = 8 * 2**30

# A sum over several workers blocks a thread until all workers have reached it.
WAITING_THREADS = 16


@dataclass(frozen=True)
class Device:
    """What a run computes on.

    Attributes:
        strategy: the `tf.distribute.Strategy` under which the model is built and trained.
        name: the device in `run.json`, for example `cpu: Intel Xeon, 2 cores`.
        kind: the CPU, or one or more GPUs.
        best_precision: the precision that `precision: auto` chooses here for most networks.
        why: the reason for that precision, for example `AVX512-BF16 and AMX-BF16`.
        best_xla: whether `xla: auto` compiles here.
        threads: threads that TensorFlow computes with on the CPU.
        memory_bytes: memory that one replica may use.
        memory_is_assumed: whether that memory is unknown and `ASSUMED_MEMORY` is used.
        computes_bfloat16: whether the device can compute in bfloat16 at all, however slowly.
        kernels: the library that the CPU computes with; None on a GPU.
        workers: processes that train together, each with devices like these.
        worker: the index of this process among them; number 0 writes the run.
    """

    strategy: Any
    name: str
    kind: Literal["cpu", "gpu"]
    best_precision: str
    why: str
    best_xla: bool
    threads: int
    memory_bytes: int
    memory_is_assumed: bool = False
    computes_bfloat16: bool = True
    kernels: Kernels | None = None
    workers: int = 1
    worker: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes the run directory."""
        return self.worker == 0

    @property
    def local_replicas(self) -> int:
        """The number of devices of this process among those of all workers."""
        return int(self.strategy.num_replicas_in_sync) // self.workers

    @property
    def local_strategy(self) -> Any:
        """A strategy without the other workers, for images that only this worker computes on."""
        return self.strategy if self.workers == 1 else tf.distribute.get_strategy()

    def precision(self, wanted: str, *, depthwise: bool = False) -> str:
        """`float32`, `bfloat16` or `float16`, with `auto` resolved.

        Depthwise convolutions read more than they compute, so that a CPU trains a network of them
        about twice as fast in float32 as in bfloat16 (docs/performance.md).

        Raises:
            DeviceError: the device cannot compute in the bfloat16 that is wanted.
        """
        if wanted == "bfloat16" and not self.computes_bfloat16:
            raise DeviceError(
                f"training.precision: bfloat16 cannot be computed here: {self.why}.\n"
                f"Unset that variable, set {ONEDNN_SWITCH}=0, or use precision float32."
            )
        if wanted != "auto":
            return wanted
        return "float32" if depthwise and self.kind == "cpu" else self.best_precision

    def compiles(self, wanted: str) -> bool:
        """Whether XLA compiles the steps: `on`, `off`, or `auto` for the faster choice here."""
        return self.best_xla if wanted == "auto" else wanted == "on"


def open_device(
    wanted: str = "auto", threads: int | None = None, workers: Workers | None = None
) -> Device:
    """Choose among the devices that TensorFlow sees.

    Args:
        wanted: `auto`, `cpu`, `gpu` or `gpu:<index>`.
        threads: threads to compute with on the CPU; None: one per usable core. If TensorFlow has
            already computed something, it keeps its threads.
        workers: the processes that train together; waits for all of them.

    Raises:
        DeviceError: the name is not that of a device, the GPU is not visible, the number of threads
            is below 1, the workers do not find each other, or Keras has other settings.
    """
    settings.check_keras()
    name = parse_device(wanted)
    if threads is not None and threads < 1:
        raise DeviceError(
            f"--threads {threads}: expected at least 1.\n"
            f"Leave it out to use all usable cores: {machine.usable_cores().number}."
        )
    gpus = tf.config.list_physical_devices("GPU")
    if name.kind == "gpu":
        gpus = _chosen_gpus(gpus, wanted, name)
    elif name.kind == "cpu":
        gpus = []
    tf.config.set_visible_devices(gpus, "GPU")
    _let_memory_grow(gpus)
    waiting = WAITING_THREADS if workers else 0
    used = _use_threads(threads or machine.usable_cores().number, waiting)
    strategy = _strategy(gpus, workers)
    device = _gpu_device(gpus, used, strategy) if gpus else _cpu_device(used, strategy)
    if workers is None:
        return device
    joined = f"{len(workers)} workers, each {device.name}"
    return replace(device, name=joined, workers=len(workers), worker=workers.index)


def _strategy(gpus: list[Any], workers: Workers | None) -> Any:
    """How the devices of this process, and those of the other workers, share a batch."""
    if workers is None:
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(workers.addresses)}),
        task_type="worker",
        task_id=workers.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(gpus)},
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise DeviceError(
            f"worker {workers.index} at {workers.addresses[workers.index]}: "
            f"{str(error).splitlines()[0]}.\n"
            "Check that its port is free, and that all workers were given the same addresses."
        ) from error


def _use_threads(threads: int, waiting: int) -> int:
    """Set the number of computing threads; returns the number that is really used.

    A running TensorFlow keeps its threads. Another `waiting` threads may wait for other workers.
    """
    threading = tf.config.threading
    with contextlib.suppress(RuntimeError):  # TensorFlow is already running
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads + waiting)
    return threading.get_intra_op_parallelism_threads() or machine.usable_cores().number


def _cpu_device(threads: int, strategy: Any) -> Device:
    is_fast, why = bfloat16_is_fast()
    available = machine.memory().available
    return Device(
        strategy=strategy,
        name=f"cpu: {machine.cpu_model()}, {machine.usable_cores().number} cores",
        kind="cpu",
        best_precision="bfloat16" if is_fast else "float32",
        why=why,
        best_xla=False,  # compiled convolutions were measured 4 to 10 times slower here
        threads=threads,
        memory_bytes=available or ASSUMED_MEMORY,
        memory_is_assumed=not available,
        computes_bfloat16=computes_bfloat16(),
        kernels=kernels.used(),
    )


# The GPUs --------------------------------------------------------------------------------------


def _chosen_gpus(gpus: list[Any], wanted: str, name: DeviceName) -> list[Any]:
    if not gpus:
        raise DeviceError(f"--device {wanted}: TensorFlow sees no GPU.\n{why_no_gpu()}")
    if name.gpu is None:
        return gpus
    if name.gpu >= len(gpus):
        raise DeviceError(
            f"--device {wanted}: TensorFlow sees {len(gpus)} GPU(s), numbered from 0.\n"
            f"Use gpu:0 to gpu:{len(gpus) - 1}."
        )
    return [gpus[name.gpu]]


def why_no_gpu() -> str:
    """Why TensorFlow sees no GPU, and what to install."""
    if platform.system() != "Linux":
        return (
            f"Found {platform.system()}; TensorFlow uses NVIDIA GPUs on Linux and WSL2 only. "
            "Use --device cpu."
        )
    if not NVIDIA_DRIVER.exists():
        return (
            f"Found no NVIDIA driver ({NVIDIA_DRIVER} does not exist). "
            "Install the driver of your GPU, or use --device cpu."
        )
    if importlib.util.find_spec("nvidia") is None:
        return (
            "Found the NVIDIA driver, but not the CUDA libraries. "
            "Install them with: pip install 'fer-bench[gpu]'"
        )
    return (
        "Found the NVIDIA driver and the CUDA libraries. "
        "Check that nvidia-smi lists the GPU and that CUDA_VISIBLE_DEVICES does not hide it."
    )


def _let_memory_grow(gpus: Sequence[Any]) -> None:
    """Allocate memory only when it is needed, so that other programs can use these GPUs too."""
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # a running TensorFlow keeps its setting
            tf.config.experimental.set_memory_growth(gpu, True)


def _gpu_device(gpus: list[Any], threads: int, strategy: Any) -> Device:
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    precision = "float32"
    if capability >= (8, 0):
        precision = "bfloat16"
    elif capability >= (7, 0):
        precision = "float16"
    memories = [memory for gpu in gpus if (memory := _gpu_memory(gpu))]
    return Device(
        strategy=strategy,
        name=f"{len(gpus)} x {details.get('device_name', 'GPU')}",
        kind="gpu",
        best_precision=precision,
        why="compute capability {}.{}".format(*capability),
        best_xla=True,
        threads=threads,
        memory_bytes=min(memories, default=ASSUMED_MEMORY),
        memory_is_assumed=not memories,
    )


def _gpu_memory(gpu: Any) -> int | None:
    """The memory of a GPU in bytes, from the driver: TensorFlow does not report it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    handle, size = ctypes.c_int(), ctypes.c_size_t()
    index = int(gpu.name.rpartition(":")[2])
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    )
    return None if failed else size.value


def out_of_memory(error: tf.errors.ResourceExhaustedError, batch_size: int) -> DeviceError:
    """The error to show when the device has no memory for a step of `batch_size` images."""
    found = f"the device has no memory left{_wanted_memory(str(error))} at batch size {batch_size}."
    ways = ["a 16-bit training.precision (bfloat16 or float16)", "a smaller image.size"]
    if batch_size > 1:
        ways.insert(0, f"--set training.batch_size={batch_size // 2}")
    return DeviceError(f"{found}\nTry {', '.join(ways[:-1])} or {ways[-1]}.")


def _wanted_memory(text: str) -> str:
    """What TensorFlow or XLA tried to allocate, if its message names it."""
    if tensor := re.search(r"shape\s?\[([\d,]+)\] and type (\w+)", text):
        return f" for a {tensor[2]} tensor of shape ({tensor[1].replace(',', ', ')})"
    if plain := re.search(r"allocat\w+ (\d+) bytes", text):
        return f" for {int(plain[1]) / 2**30:.2f} GiB more"
    return ""
