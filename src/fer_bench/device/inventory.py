"""Lists what the machine has: processor, memory, devices, libraries, folders."""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from fer_bench.device import kernels, machine
from fer_bench.device.precision import BFLOAT16_FLAGS
from fer_bench.device.selection import Device, why_no_gpu
from fer_bench.storage.cache import cache_root
from fer_bench.user_folders import can_write, nearest_existing

# Linux's flags for the instructions that make arithmetic fast, and their common names.
CPU_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "asimd": "NEON",
    "sve": "SVE",
    **BFLOAT16_FLAGS,
}

WHY_XLA = {
    "gpu": "on a GPU it fuses many small operations into few",
    "cpu": "compiled convolutions were measured 4 to 10 times slower on CPUs",
}


def system() -> dict[str, Any]:
    """Operating system, processor, cores and memory."""
    memory, cores, flags = machine.memory(), machine.usable_cores(), machine.cpu_flags()
    return {
        "operating_system": _operating_system(),
        "cpu": machine.cpu_model(),
        "cpu_features": [name for flag, name in CPU_FEATURES.items() if flag in flags],
        "cores_of_machine": os.cpu_count() or 1,
        "cores": cores.number,
        "why_cores": cores.why,
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
    }


def _operating_system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    with contextlib.suppress(OSError):  # only Linux has the file that names the distribution
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    return kernel


def device_facts(device: Device) -> dict[str, Any]:
    """The device that computes, and all GPUs."""
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details
    return {
        "name": device.name,
        "kind": device.kind,
        "gpus": [details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "why_no_gpu": None if gpus else why_no_gpu(),
        "memory_bytes": device.memory_bytes,
        "memory_is_assumed": device.memory_is_assumed,
    }


def choices(device: Device) -> dict[str, dict[str, Any]]:
    """The choices of `auto` on this device, each with its reason."""
    cores = machine.usable_cores()
    is_default = device.threads == cores.number
    why_threads = cores.why if is_default else f"asked for; {cores.number} usable"
    precision, depthwise = (device.precision("auto", depthwise=each) for each in (False, True))
    exception = "" if depthwise == precision else f"; {depthwise} for depthwise networks"
    library = {}
    if device.kernels:
        library["kernels"] = {"value": kernels.NAMES[device.kernels], "why": kernels.why()}
    return {
        "precision": {"value": precision, "why": f"{device.why}{exception}"},
        "xla": {"value": on_machine(device.compiles("auto")), "why": WHY_XLA[device.kind]},
        "threads": {"value": device.threads, "why": why_threads},
        **library,
    }


def on_machine(xla: bool) -> str:
    """`on` or `off`."""
    return "on" if xla else "off"


def cache_folder_facts() -> dict[str, Any]:
    """The location and size of the cache, and the free space on its disk."""
    folder = cache_root()
    sizes = list(_file_sizes(folder))
    return {
        "folder": str(folder),
        "files": len(sizes),
        "bytes": sum(sizes),
        "free_bytes": shutil.disk_usage(nearest_existing(folder)).free,
        "writable": can_write(folder),
    }


def _file_sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be emptying the cache
            if path.is_file():
                yield path.stat().st_size
