"""The names of devices on the command line."""

from typing import NamedTuple

from fer_bench.errors import DeviceError


class DeviceName(NamedTuple):
    """A parsed `--device`: `auto`, `cpu` or `gpu`, and the index of one GPU, if given."""

    kind: str
    gpu: int | None


def parse_device(name: str) -> DeviceName:
    """`gpu:1` as `("gpu", 1)`. Raises: DeviceError for anything else than a device."""
    kind, colon, index = name.partition(":")
    if kind in ("auto", "cpu", "gpu") and not colon:
        return DeviceName(kind, None)
    if kind == "gpu" and index.isdecimal():
        return DeviceName(kind, int(index))
    raise DeviceError(f"--device {name or repr(name)}: expected auto, cpu, gpu or gpu:<index>.")
