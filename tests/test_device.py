"""Which device is chosen, with what arithmetic, and what is said when there is no GPU."""

import importlib.util
import platform
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from fer_bench import device
from fer_bench.errors import DeviceError

Patch = pytest.MonkeyPatch


@pytest.fixture
def visible(monkeypatch: Patch) -> list[Any]:
    """What was made visible; nothing is really changed."""
    chosen: list[Any] = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, kind: chosen.extend(gpus))
    return chosen


def pretend(monkeypatch: Patch, gpus: list[str], capability: tuple[int, int] = (9, 0)) -> None:
    """Let TensorFlow list these GPUs."""
    details = {"device_name": "Test GPU", "compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_without_a_gpu_it_is_the_cpu(monkeypatch: Patch, visible: list[Any], wanted: str) -> None:
    pretend(monkeypatch, [])
    opened = device.open_device(wanted)
    assert opened.name.startswith("cpu: ")
    assert opened.name.endswith(" cores")
    assert visible == []


def test_a_gpu_is_hidden_when_the_cpu_is_asked_for(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["gpu a"])
    assert device.open_device("cpu").name.startswith("cpu: ")
    assert visible == []


@pytest.mark.parametrize(("wanted", "chosen"), [("auto", ["a"]), ("gpu", ["a"]), ("gpu:0", ["a"])])
def test_a_gpu_is_used(
    monkeypatch: Patch, visible: list[Any], wanted: str, chosen: list[str]
) -> None:
    pretend(monkeypatch, ["a"])
    assert device.open_device(wanted).name == "1 x Test GPU"
    assert visible == chosen


def test_one_of_two_gpus(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["a", "b"])
    assert device.open_device("gpu:1").name == "1 x Test GPU"
    assert visible == ["b"]


@pytest.mark.parametrize(
    ("capability", "precision"), [((6, 1), "float32"), ((7, 5), "float16"), ((8, 0), "bfloat16")]
)
def test_the_arithmetic_that_a_gpu_is_best_at(
    monkeypatch: Patch, visible: list[Any], capability: tuple[int, int], precision: str
) -> None:
    pretend(monkeypatch, ["a"], capability)
    opened = device.open_device("gpu")
    assert opened.precision("auto") == precision
    assert opened.precision("float32") == "float32"


@pytest.mark.parametrize(
    ("flags", "precision"), [("fpu avx512_bf16", "bfloat16"), ("fpu avx2", "float32")]
)
def test_the_arithmetic_that_a_cpu_is_best_at(
    monkeypatch: Patch, visible: list[Any], flags: str, precision: str
) -> None:
    pretend(monkeypatch, [])
    monkeypatch.setattr(device, "_cpu_info", lambda key: flags if key == "flags" else "Test CPU")
    opened = device.open_device("cpu")
    assert opened.precision("auto") == precision
    assert opened.name.startswith("cpu: Test CPU, ")


def test_every_precision_has_a_keras_policy() -> None:
    assert set(device.POLICIES) == {"float32", "bfloat16", "float16"}


@pytest.mark.parametrize("wanted", ["tpu", "cpu:0", "gpu:x", "gpu:-1", "cuda", "", "GPU"])
def test_a_device_that_is_none(wanted: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, gpu or gpu:<index>"):
        device.open_device(wanted)


def test_a_gpu_beyond_the_last(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["a", "b"])
    with pytest.raises(DeviceError, match=r"sees 2 GPU\(s\).*\n.*gpu:0 to gpu:1"):
        device.open_device("gpu:2")


# Why there is no GPU ---------------------------------------------------------------------------


def system(monkeypatch: Patch, name: str, driver: Path, libraries: object) -> str:
    """What is said on this kind of machine when a GPU is asked for."""
    pretend(monkeypatch, [])
    monkeypatch.setattr(platform, "system", lambda: name)
    monkeypatch.setattr(device, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: libraries)
    with pytest.raises(DeviceError) as caught:
        device.open_device("gpu")
    first, *reason = str(caught.value).splitlines()
    assert first == "--device gpu: TensorFlow sees no GPU."
    return "\n".join(reason)


def test_no_gpu_on_this_operating_system(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Darwin", tmp_path, None)
    assert "Found Darwin" in reason
    assert "--device cpu" in reason


def test_no_gpu_for_want_of_a_driver(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path / "version", None)
    assert "no NVIDIA driver" in reason
    assert "Install the driver" in reason


def test_no_gpu_for_want_of_libraries(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path, None)
    assert "not the CUDA libraries" in reason
    assert "pip install 'fer-bench[gpu]'" in reason


def test_no_gpu_for_another_reason(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path, object())
    assert "nvidia-smi" in reason
    assert "CUDA_VISIBLE_DEVICES" in reason


@pytest.mark.gpu
def test_the_gpu_of_this_machine() -> None:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip(device.why_no_gpu())
    assert device.open_device("gpu").name.startswith("1 x ")
