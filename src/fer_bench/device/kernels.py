"""The library whose kernels the CPU computes with: oneDNN, or Eigen.

TensorFlow decides once, at its import, and takes oneDNN by itself only where it sees instructions
that were made for neural networks. The last bits of a result differ between the two, so that a run
keeps the library it began with.
"""

import os
import sys
from typing import Literal

from fer_bench.device import machine
from fer_bench.errors import RunError

Kernels = Literal["onednn", "eigen"]

# TensorFlow's switch for oneDNN.
ONEDNN_SWITCH = "TF_ENABLE_ONEDNN_OPTS"
_VALUES: dict[Kernels, str] = {"onednn": "1", "eigen": "0"}
_OFF = ("0", "false")
NAMES: dict[Kernels, str] = {"onednn": "oneDNN", "eigen": "Eigen"}

# Linux's flags for the instructions that TensorFlow looks for (its `DefaultOneDnnPolicy`).
NEURAL_NETWORK_FLAGS = frozenset(
    ("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
)
FASTER = "steps were measured 1.1 to 2.3 times as fast as with Eigen"


def choose(begun_with: Kernels | None = None) -> str | None:
    """Set TensorFlow's switch, if TensorFlow is not imported yet.

    Args:
        begun_with: the library that a run began with; None: the switch of the user, or else the
            faster library on this processor.

    Returns:
        A sentence for the user if their switch is not used.
    """
    if "tensorflow" in sys.modules:
        return None
    typed = os.environ.get(ONEDNN_SWITCH)
    if begun_with:
        os.environ[ONEDNN_SWITCH] = _VALUES[begun_with]
        if typed and (typed.lower() in _OFF) != (begun_with == "eigen"):
            return f"{ONEDNN_SWITCH}={typed} is not used: the run began with {NAMES[begun_with]}"
    elif not typed and _is_left_to_eigen():
        os.environ[ONEDNN_SWITCH] = _VALUES["onednn"]
    return None


def used() -> Kernels:
    """The library that TensorFlow computes with. Imports TensorFlow."""
    import tensorflow  # noqa: F401
    from tensorflow.python.util import _pywrap_util_port

    return "onednn" if _pywrap_util_port.IsMklEnabled() else "eigen"


def why() -> str:
    """Why TensorFlow computes with these kernels, in words that can follow their name."""
    if _is_left_to_eigen() and uses_onednn():
        return FASTER
    switch = os.environ.get(ONEDNN_SWITCH)
    return f"{ONEDNN_SWITCH}={switch}" if switch else "what TensorFlow takes on this processor"


def uses_onednn() -> bool:
    """Whether TensorFlow may use oneDNN, which it does unless the switch turns it off."""
    return os.environ.get(ONEDNN_SWITCH, "").lower() not in _OFF


def _is_left_to_eigen() -> bool:
    """Whether TensorFlow would take Eigen on this processor, though oneDNN is faster there."""
    flags = machine.cpu_flags()
    return "avx2" in flags and not flags & NEURAL_NETWORK_FLAGS


def check_same(begun_with: Kernels | None, now: Kernels | None, run_id: str) -> None:
    """Check that a run continues with the kernels it began with.

    Args:
        begun_with: in its `run.json`; None for older runs and on a GPU.
        now: what this process computes with; None on a GPU.
        run_id: of the run.

    Raises: RunError if they differ.
    """
    if begun_with and now and begun_with != now:
        raise RunError(
            f"{run_id}: the run began with the kernels of {NAMES[begun_with]}, and this process "
            f"computes with those of {NAMES[now]}, whose last bits differ.\n"
            "Train it with a command of its own, or restart Python (in a notebook, its kernel)."
        )
