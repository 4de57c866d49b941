"""Which arithmetic a processor is fast at: float32 or bfloat16, and why."""

import os

from fer_bench.device import machine
from fer_bench.device.kernels import ONEDNN_SWITCH, uses_onednn

# The Keras policy of each `training.precision`.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# Linux's flags for the instructions that multiply bfloat16, and their makers' names for them.
BFLOAT16_FLAGS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "bf16": "ARM BF16"}

# The variable that limits which instructions oneDNN uses, by its current and its former name, and
# those of its values (oneDNN's guide, "CPU Dispatcher Control") that leave it no bfloat16 kernels,
# or only kernels that emulate bfloat16: on an AVX512-BF16 processor these took 2.7 times as long as
# float32.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
EMULATED_BFLOAT16 = ("AVX512_CORE", "AVX512_CORE_VNNI")


def computes_bfloat16() -> bool:
    """Whether TensorFlow finds kernels for bfloat16 on the CPU.

    On a processor with AVX-512 it asks oneDNN for them without checking oneDNN's limit, and every
    convolution fails.
    """
    asks_onednn = uses_onednn() and "avx512f" in machine.cpu_flags()
    return not (asks_onednn and _instruction_limit()[1] in WITHOUT_BFLOAT16)


def bfloat16_is_fast() -> tuple[bool, str]:
    """Whether the CPU trains faster in bfloat16 than in float32, and why."""
    flags = machine.cpu_flags()
    names = " and ".join(name for flag, name in BFLOAT16_FLAGS.items() if flag in flags)
    if not names:
        return False, "no bfloat16 instructions"
    if not uses_onednn():  # bfloat16 then took 14 times as long as float32
        return False, f"{names} is not used: {ONEDNN_SWITCH}={os.environ[ONEDNN_SWITCH]}"
    variable, limit = _instruction_limit()
    if limit in (*WITHOUT_BFLOAT16, *EMULATED_BFLOAT16):
        return False, f"{names} is hidden by {variable}={limit}"
    return True, names


def _instruction_limit() -> tuple[str, str]:
    """The variable that limits oneDNN's instructions and its value in capitals; "" if none."""
    for variable in INSTRUCTION_LIMITS:
        if limit := os.environ.get(variable):
            return variable, limit.upper()
    return "", ""
