"""Which device computes, with what arithmetic, and why a GPU cannot be seen."""

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from fer_bench.errors import DeviceError

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Device:
    """What a run computes on.

    Attributes:
        strategy: the `tf.distribute.Strategy` under which the model is built and stepped.
        name: what `run.json` calls it, for example `cpu: Intel Xeon, 2 cores`.
        best_precision: the arithmetic that `precision: auto` stands for here.
    """

    strategy: Any
    name: str
    best_precision: str

    def precision(self, wanted: str) -> str:
        """`float32`, `bfloat16` or `float16`, with `auto` resolved."""
        return self.best_precision if wanted == "auto" else wanted


def open_device(wanted: str = "auto") -> Device:
    """Choose among what TensorFlow sees: `auto`, `cpu`, `gpu` or `gpu:<index>`.

    Raises:
        DeviceError: the name is none of these, or the GPU asked for is not visible.
    """
    kind, _, index = wanted.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (index and (kind != "gpu" or not index.isdigit())):
        raise DeviceError(f"--device {wanted}: expected auto, cpu, gpu or gpu:<index>.")
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu":
        gpus = _chosen_gpus(gpus, wanted, index)
    elif kind == "cpu":
        gpus = []
    tf.config.set_visible_devices(gpus, "GPU")
    return _gpu_device(gpus) if gpus else _cpu_device()


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


def _gpu_device(gpus: list[Any]) -> Device:
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    precision = "float32"
    if capability >= (8, 0):
        precision = "bfloat16"
    elif capability >= (7, 0):
        precision = "float16"
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    return Device(strategy, f"{len(gpus)} x {details.get('device_name', 'GPU')}", precision)


def _cpu_device() -> Device:
    cores = len(tf.config.list_logical_devices("CPU")) and _usable_cores()
    precision = "bfloat16" if "avx512_bf16" in _cpu_flags() else "float32"
    return Device(tf.distribute.get_strategy(), f"cpu: {_cpu_model()}, {cores} cores", precision)


def _usable_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_info(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _cpu_flags() -> list[str]:
    return _cpu_info("flags").split()


def _cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()
