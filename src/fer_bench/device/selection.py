"""Which device computes, with what arithmetic, threads and memory, and why no GPU can be seen."""

import contextlib
import ctypes
import importlib.util
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from fer_bench import settings
from fer_bench.device import machine
from fer_bench.device.workers import Workers
from fer_bench.errors import DeviceError

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# Where nobody tells how much memory a device has: what even a small GPU of today has.
ASSUMED_MEMORY = 8 * 2**30

# An operation that adds up over several workers holds a thread until all have come to it.
WAITING_THREADS = 16

# Flags of Linux for the instructions that multiply bfloat16, and what their makers call them.
BFLOAT16_FLAGS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "bf16": "ARM BF16"}

# The variable that limits which instructions oneDNN uses, by its present and its former name, and
# its values (oneDNN's guide, "CPU Dispatcher Control") without kernels for bfloat16, and with
# kernels that emulate it: those took 2.7 times as long as float32 on an AVX512-BF16 processor.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
EMULATED_BFLOAT16 = ("AVX512_CORE", "AVX512_CORE_VNNI")

# TensorFlow's switch for oneDNN. Its own bfloat16 kernels took 14 times as long as float32.
ONEDNN_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


@dataclass(frozen=True)
class Device:
    """What a run computes on.

    Attributes:
        strategy: the `tf.distribute.Strategy` under which the model is built and stepped.
        name: what `run.json` calls it, for example `cpu: Intel Xeon, 2 cores`.
        kind: whether it is the CPU, or one or more GPUs.
        best_precision: the arithmetic that `precision: auto` stands for here, in most networks.
        why: what speaks for that arithmetic, for example `AVX512-BF16 and AMX-BF16`.
        best_xla: whether `xla: auto` compiles here.
        threads: threads that TensorFlow computes with on the CPU.
        memory_bytes: memory that one replica may use.
        memory_is_assumed: whether nobody told that memory, so that `ASSUMED_MEMORY` stands there.
        computes_bfloat16: whether it computes in bfloat16 at all, however slowly.
        workers: processes that train together, each with devices like these.
        worker: which of them this one is; number 0 writes.
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
    workers: int = 1
    worker: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes the run directory."""
        return self.worker == 0

    @property
    def local_replicas(self) -> int:
        """How many parts of a batch the devices of this process compute, of all workers' parts."""
        return int(self.strategy.num_replicas_in_sync) // self.workers

    @property
    def local_strategy(self) -> Any:
        """What computes without the other workers: what one of them sees, the others need not."""
        return self.strategy if self.workers == 1 else tf.distribute.get_strategy()

    def precision(self, wanted: str, *, depthwise: bool = False) -> str:
        """`float32`, `bfloat16` or `float16`, with `auto` resolved.

        Depthwise convolutions read more than they compute, and a CPU trains a network of them in
        float32 about twice as fast as in bfloat16 (docs/performance.md).

        Raises:
            DeviceError: bfloat16 is wanted of a device that cannot compute in it.
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
        """Whether XLA compiles the steps: `on`, `off`, or `auto` for what is best here."""
        return self.best_xla if wanted == "auto" else wanted == "on"


def open_device(
    wanted: str = "auto", threads: int | None = None, workers: Workers | None = None
) -> Device:
    """Choose among what TensorFlow sees: `auto`, `cpu`, `gpu` or `gpu:<index>`.

    Args:
        wanted: the name of the device.
        threads: threads to compute with on the CPU; None: as many as `usable_cores`. Where
            TensorFlow has computed already, it keeps the threads it has.
        workers: the processes that train together; waits for all of them.

    Raises:
        DeviceError: the name is none of these, the GPU asked for is not visible, the number of
            threads is below 1, the workers do not find each other, or Keras has other settings.
    """
    settings.check_keras()
    kind, _, index = wanted.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (index and (kind != "gpu" or not index.isdigit())):
        raise DeviceError(f"--device {wanted}: expected auto, cpu, gpu or gpu:<index>.")
    if threads is not None and threads < 1:
        raise DeviceError(
            f"--threads {threads}: expected at least 1.\n"
            f"Leave it out to use what this process may: {machine.usable_cores().number}."
        )
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu":
        gpus = _chosen_gpus(gpus, wanted, index)
    elif kind == "cpu":
        gpus = []
    tf.config.set_visible_devices(gpus, "GPU")
    _let_memory_grow(gpus)
    waiting = WAITING_THREADS if workers else 0
    used = _use_threads(threads or machine.usable_cores().number, waiting)
    strategy = _strategy(gpus, workers)
    device = _gpu_device(gpus, used, strategy) if gpus else _cpu_device(used, strategy)
    if workers is None:
        return device
    name = f"{len(workers)} workers, each {device.name}"
    return replace(device, name=name, workers=len(workers), worker=workers.index)


def _strategy(gpus: list[Any], workers: Workers | None) -> Any:
    """How the devices of this process, and of the other workers, share a batch."""
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


def _chosen_gpus(gpus: list[Any], wanted: str, index: str) -> list[Any]:
    if not gpus:
        raise DeviceError(f"--device {wanted}: TensorFlow sees no GPU.\n{why_no_gpu()}")
    if not index:
        return gpus
    if int(index) >= len(gpus):
        raise DeviceError(
            f"--device {wanted}: TensorFlow sees {len(gpus)} GPU(s), numbered from 0.\n"
            f"Use gpu:0 to gpu:{len(gpus) - 1}."
        )
    return [gpus[int(index)]]


def why_no_gpu() -> str:
    """What is missing for a GPU to be seen, and what to install."""
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


def out_of_memory(error: tf.errors.ResourceExhaustedError, batch_size: int) -> DeviceError:
    """What to tell the user when the device had no room for a step of `batch_size` images."""
    found = f"the device has no memory left{_wanted_memory(str(error))} at batch size {batch_size}."
    ways = [
        "a 16-bit training.precision (bfloat16 or float16)",
        "a smaller image.size",
    ]
    if batch_size > 1:
        ways.insert(0, f"--set training.batch_size={batch_size // 2}")
    return DeviceError(f"{found}\nTry {', '.join(ways[:-1])} or {ways[-1]}.")


def _wanted_memory(text: str) -> str:
    """What TensorFlow or XLA was making room for, where its message says so."""
    if tensor := re.search(r"shape\s?\[([\d,]+)\] and type (\w+)", text):
        return f" for a {tensor[2]} tensor of shape ({tensor[1].replace(',', ', ')})"
    if plain := re.search(r"allocat\w+ (\d+) bytes", text):
        return f" for {int(plain[1]) / 2**30:.2f} GiB more"
    return ""


# The GPUs --------------------------------------------------------------------------------------


def _let_memory_grow(gpus: Sequence[Any]) -> None:
    """Take memory as it is needed, so that other programs may use these GPUs too."""
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # TensorFlow is running already: as it began
            tf.config.experimental.set_memory_growth(gpu, True)


def _gpu_device(gpus: list[Any], threads: int, strategy: Any) -> Device:
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    precision = "float32"
    if capability >= (8, 0):
        precision = "bfloat16"
    elif capability >= (7, 0):
        precision = "float16"
    memories = [_gpu_memory(gpu) for gpu in gpus]
    known = [memory for memory in memories if memory]
    return Device(
        strategy=strategy,
        name=f"{len(gpus)} x {details.get('device_name', 'GPU')}",
        kind="gpu",
        best_precision=precision,
        why="compute capability {}.{}".format(*capability),
        best_xla=True,
        threads=threads,
        memory_bytes=min(known, default=ASSUMED_MEMORY),
        memory_is_assumed=not known,
    )


def _gpu_memory(gpu: Any) -> int | None:
    """The memory of a GPU in bytes, from the driver, since TensorFlow does not tell it."""
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


# The CPU ---------------------------------------------------------------------------------------


def _cpu_device(threads: int, strategy: Any) -> Device:
    is_fast, why = _bfloat16_is_fast()
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
    )


def computes_bfloat16() -> bool:
    """Whether TensorFlow finds kernels for bfloat16 on the CPU.

    On a processor with AVX-512 it asks oneDNN for them without looking at oneDNN's limit, and every
    convolution fails.
    """
    asks_onednn = _uses_onednn() and "avx512f" in machine.cpu_flags()
    return not (asks_onednn and _instruction_limit()[1] in WITHOUT_BFLOAT16)


def _bfloat16_is_fast() -> tuple[bool, str]:
    """Whether the CPU trains faster in bfloat16 than in float32, and why."""
    has = [name for flag, name in BFLOAT16_FLAGS.items() if flag in machine.cpu_flags()]
    names = " and ".join(has)
    if not has:
        return False, "no bfloat16 instructions"
    if not _uses_onednn():
        return False, f"{names} is not used: {ONEDNN_SWITCH}={os.environ[ONEDNN_SWITCH]}"
    variable, limit = _instruction_limit()
    if limit in (*WITHOUT_BFLOAT16, *EMULATED_BFLOAT16):
        return False, f"{names} is hidden by {variable}={limit}"
    return True, names


def _uses_onednn() -> bool:
    """Whether TensorFlow may use oneDNN. With no word about it, it does on such processors."""
    return os.environ.get(ONEDNN_SWITCH, "").lower() not in ("0", "false")


def _instruction_limit() -> tuple[str, str]:
    """The variable that limits oneDNN's instructions, and its value in capitals; "" if none."""
    for variable in INSTRUCTION_LIMITS:
        if limit := os.environ.get(variable):
            return variable, limit.upper()
    return "", ""


def _use_threads(threads: int, waiting: int) -> int:
    """Compute with so many threads; returns how many it is, which a running TensorFlow keeps.

    Besides, `waiting` threads may wait for other workers.
    """
    settings = tf.config.threading
    with contextlib.suppress(RuntimeError):  # it is running already
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(threads + waiting)
    return settings.get_intra_op_parallelism_threads() or machine.usable_cores().number
