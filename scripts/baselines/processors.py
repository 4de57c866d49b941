"""Classes of processors, and how a better one stands in for each.

`ONEDNN_MAX_CPU_ISA` hides the newer instructions from oneDNN, whose kernels compute nearly all of a
step, both in TensorFlow and in PyTorch. PyTorch's own kernels follow `ATEN_CPU_CAPABILITY`, those
of MKL `MKL_ENABLE_INSTRUCTIONS`. What cannot be hidden: TensorFlow's decision for oneDNN, which
the switch makes as it would be made there; and the processor's speed, memory and caches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fer_bench.device.kernels import ONEDNN_SWITCH


@dataclass(frozen=True)
class Processor:
    """A class of processors.

    Attributes:
        name: the value of `ONEDNN_MAX_CPU_ISA`, or `native`: the machine as it is.
        flag: Linux's flag for the instructions that the machine must have.
        pytorch: the limit on PyTorch's own kernels and on MKL.
        onednn: whether TensorFlow takes oneDNN by itself on this class.
    """

    name: str
    flag: str = ""
    pytorch: str = ""
    onednn: bool = True

    @property
    def limits(self) -> dict[str, str]:
        """Variables that hide newer instructions."""
        if not self.pytorch:
            return {}
        return {
            "ONEDNN_MAX_CPU_ISA": self.name,
            "ATEN_CPU_CAPABILITY": self.pytorch,
            "MKL_ENABLE_INSTRUCTIONS": self.pytorch.upper(),
        }

    def environment(self, framework: str) -> Mapping[str, str]:
        """Variables of a child of `ours`, `eigen`, `keras` (TensorFlow's defaults) or `torch`."""
        if framework == "eigen":
            return self.limits | {ONEDNN_SWITCH: "0"}
        if not self.onednn and framework in ("keras", "ours"):
            return self.limits | {ONEDNN_SWITCH: "0" if framework == "keras" else "1"}
        return self.limits


# AVX512_CORE stands for Skylake, before the VNNI instructions for which TensorFlow takes oneDNN.
PROCESSORS = (
    Processor("native"),
    Processor("AVX2", "avx2", "avx2", onednn=False),
    Processor("AVX512_CORE", "avx512dq", "avx512", onednn=False),
    Processor("AVX512_CORE_BF16", "avx512_bf16", "avx512"),
)
