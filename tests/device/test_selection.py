"""Which device is chosen, with which precision, threads and memory, and why there is no GPU."""

import ctypes
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from messages import says

from fer_bench.config.loading import load_experiment
from fer_bench.device import machine, precision, selection
from fer_bench.errors import ConfigError, DeviceError

pytestmark = pytest.mark.usefixtures("onednn_unlimited")
Patch = pytest.MonkeyPatch
GIB = 2**30


@pytest.fixture
def visible(monkeypatch: Patch) -> list[Any]:
    """The GPUs made visible; nothing is really changed."""
    chosen: list[Any] = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, kind: chosen.extend(gpus))
    return chosen


class Gpu(str):
    """A GPU that does not exist, equal to its name."""

    @property
    def name(self) -> str:
        return f"/physical_device:GPU:{'ab'.index(self)}"


def pretend(
    monkeypatch: Patch,
    gpus: list[str],
    capability: tuple[int, int] = (9, 0),
    memory: Mapping[int, int] | None = None,
) -> list[Any]:
    """Make TensorFlow list these GPUs, with this memory; returns those whose memory may grow."""
    details = {"device_name": "Test GPU", "compute_capability": capability}
    config, grown = tf.config.experimental, []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [Gpu(g) for g in gpus])
    monkeypatch.setattr(config, "get_device_details", lambda gpu: details)
    monkeypatch.setattr(config, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
    monkeypatch.setattr(ctypes, "CDLL", fake_driver(memory or {}))
    return grown


def fake_driver(memory: Mapping[int, int]) -> Callable[[str], Any]:
    """A loader of a CUDA driver that knows the memory of these GPUs; without any, it fails."""

    class Driver:
        def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
            return 0

        def cuDeviceGet(self, handle: Any, index: int) -> int:  # noqa: N802
            handle._obj.value = index
            return 0 if index in memory else 101

        def cuDeviceTotalMem_v2(self, size: Any, handle: Any) -> int:  # noqa: N802
            size._obj.value = memory[handle.value]
            return 0

    def load(name: str) -> Driver:
        if not memory:
            raise OSError(f"{name}: cannot open shared object file")
        return Driver()

    return load


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_without_a_gpu_it_is_the_cpu(monkeypatch: Patch, visible: list[Any], wanted: str) -> None:
    pretend(monkeypatch, [])
    opened = selection.open_device(wanted)
    assert opened.name.startswith("cpu: ")
    assert opened.name.endswith(" cores")
    assert visible == []


def test_a_gpu_is_hidden_when_the_cpu_is_wanted(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["a"])
    opened = selection.open_device("cpu")
    assert (opened.name[:5], opened.kind) == ("cpu: ", "cpu")
    assert visible == []


@pytest.mark.parametrize(("wanted", "chosen"), [("auto", ["a"]), ("gpu", ["a"]), ("gpu:0", ["a"])])
def test_a_gpu_is_used(
    monkeypatch: Patch, visible: list[Any], wanted: str, chosen: list[str]
) -> None:
    pretend(monkeypatch, ["a"])
    assert selection.open_device(wanted).name == "1 x Test GPU"
    assert visible == chosen


def test_one_of_two_gpus(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["a", "b"])
    assert selection.open_device("gpu:1").name == "1 x Test GPU"
    assert visible == ["b"]


@pytest.mark.parametrize(
    ("capability", "precision"), [((6, 1), "float32"), ((7, 5), "float16"), ((8, 0), "bfloat16")]
)
def test_the_best_precision_of_a_gpu(
    monkeypatch: Patch, visible: list[Any], capability: tuple[int, int], precision: str
) -> None:
    pretend(monkeypatch, ["a"], capability)
    opened = selection.open_device("gpu")
    assert opened.precision("auto") == precision
    assert opened.precision("float32") == "float32"
    assert opened.why == f"compute capability {capability[0]}.{capability[1]}"


@pytest.mark.parametrize(("kind", "depthwise"), [("gpu", "bfloat16"), ("cpu", "float32")])
def test_a_cpu_computes_depthwise_networks_in_float32(
    monkeypatch: Patch, tmp_path: Path, visible: list[Any], kind: str, depthwise: str
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    pretend(monkeypatch, ["a"], (8, 0))
    opened = selection.open_device(kind)
    assert opened.precision("auto") == "bfloat16"
    assert opened.precision("auto", depthwise=True) == depthwise
    assert opened.precision("bfloat16", depthwise=True) == "bfloat16"


@pytest.mark.parametrize(
    ("line", "precision", "why"),
    [
        ("flags : fpu avx512_bf16", "bfloat16", "AVX512-BF16"),
        ("flags : fpu amx_bf16 amx_tile", "bfloat16", "AMX-BF16"),
        ("flags : avx512_bf16 amx_bf16", "bfloat16", "AVX512-BF16 and AMX-BF16"),
        ("Features\t: fp asimd bf16", "bfloat16", "ARM BF16"),
        ("flags : fpu avx2 avx512f", "float32", "no bfloat16 instructions"),
        ("", "float32", "no bfloat16 instructions"),
    ],
)
def test_the_best_precision_of_a_cpu(
    monkeypatch: Patch, tmp_path: Path, line: str, precision: str, why: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : Test CPU\n{line}\n")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    opened = selection.open_device("cpu")
    assert (opened.precision("auto"), opened.why) == (precision, why)
    assert opened.name.startswith("cpu: Test CPU, ")


@pytest.mark.parametrize(
    ("variables", "precision", "why"),
    [
        ({}, "bfloat16", "AVX512-BF16"),
        ({"TF_ENABLE_ONEDNN_OPTS": "1"}, "bfloat16", "AVX512-BF16"),
        (
            {"TF_ENABLE_ONEDNN_OPTS": "0"},
            "float32",
            "AVX512-BF16 is not used: TF_ENABLE_ONEDNN_OPTS=0",
        ),
        ({"ONEDNN_MAX_CPU_ISA": "ALL"}, "bfloat16", "AVX512-BF16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "bfloat16", "AVX512-BF16"),
        (
            {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
            "float32",
            "AVX512-BF16 is hidden by ONEDNN_MAX_CPU_ISA=AVX512_CORE",
        ),
        (
            {"ONEDNN_MAX_CPU_ISA": "avx2"},
            "float32",
            "AVX512-BF16 is hidden by ONEDNN_MAX_CPU_ISA=AVX2",
        ),
        (
            {"DNNL_MAX_CPU_ISA": "AVX2"},
            "float32",
            "AVX512-BF16 is hidden by DNNL_MAX_CPU_ISA=AVX2",
        ),
    ],
)
def test_auto_respects_the_limits_of_onednn(
    bfloat16_processor: None,
    monkeypatch: Patch,
    variables: dict[str, str],
    precision: str,
    why: str,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    opened = selection.open_device("cpu")
    assert (opened.precision("auto"), opened.why) == (precision, why)


@pytest.fixture
def bfloat16_processor(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f avx512_bf16")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")


def test_bfloat16_without_kernels_is_refused(bfloat16_processor: None, monkeypatch: Patch) -> None:
    """TensorFlow would ask oneDNN for a kernel, and crash in the first convolution."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    opened = selection.open_device("cpu")
    assert opened.precision("float32") == "float32"
    with pytest.raises(DeviceError) as caught:
        opened.precision("bfloat16")
    says(caught.value, "ONEDNN_MAX_CPU_ISA=AVX2", "training.precision", "float32")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert selection.open_device("cpu").precision("bfloat16") == "bfloat16"


def test_every_precision_has_a_keras_policy() -> None:
    assert set(precision.POLICIES) == {"float32", "bfloat16", "float16"}


@pytest.mark.parametrize("wanted", ["tpu", "cpu:0", "gpu:x", "gpu:-1", "gpu:", "cuda", "", "GPU"])
def test_an_unknown_device_is_refused(wanted: str) -> None:
    with pytest.raises(DeviceError) as caught:
        selection.open_device(wanted)
    says(caught.value, f"--device {wanted or repr(wanted)}:", "auto, cpu, gpu or gpu:<index>")


def test_a_gpu_beyond_the_last(monkeypatch: Patch, visible: list[Any]) -> None:
    pretend(monkeypatch, ["a", "b"])
    with pytest.raises(DeviceError) as caught:
        selection.open_device("gpu:2")
    says(caught.value, "--device gpu:2", "2 GPU(s)", "gpu:0 to gpu:1")


# Why there is no GPU ---------------------------------------------------------------------------


def system(monkeypatch: Patch, name: str, driver: Path, libraries: object) -> str:
    """The reason given on this kind of machine when a GPU is wanted."""
    pretend(monkeypatch, [])
    monkeypatch.setattr(platform, "system", lambda: name)
    monkeypatch.setattr(selection, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: libraries)
    with pytest.raises(DeviceError) as caught:
        selection.open_device("gpu")
    first, *reason = str(caught.value).splitlines()
    assert first == "--device gpu: TensorFlow sees no GPU."
    return "\n".join(reason)


def test_no_gpu_on_this_operating_system(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Darwin", tmp_path, None)
    assert "Found Darwin" in reason
    assert "--device cpu" in reason


def test_no_gpu_without_a_driver(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path / "version", None)
    assert "no NVIDIA driver" in reason
    assert "Install the driver" in reason


def test_no_gpu_without_the_cuda_libraries(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path, None)
    assert "not the CUDA libraries" in reason
    assert "pip install 'fer-bench[gpu]'" in reason


def test_no_gpu_for_another_reason(monkeypatch: Patch, tmp_path: Path) -> None:
    reason = system(monkeypatch, "Linux", tmp_path, object())
    assert "nvidia-smi" in reason
    assert "CUDA_VISIBLE_DEVICES" in reason


# XLA -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpus", "auto"), [(["a"], True), ([], False)])
def test_auto_compiles_on_a_gpu_only(
    monkeypatch: Patch, visible: list[Any], gpus: list[str], auto: bool
) -> None:
    pretend(monkeypatch, gpus)
    opened = selection.open_device()
    assert [opened.compiles(wanted) for wanted in ("auto", "on", "off")] == [auto, True, False]


def losses(*, xla: bool) -> list[float]:
    """The losses of a tiny network over three steps of gradient descent."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = tf.constant(np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32))
    targets = tf.one_hot([0, 1, 2, 0, 1, 2], 3)

    @tf.function(jit_compile=xla)
    def step() -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        variables = model.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)
        return loss

    return [float(step()) for _ in range(3)]


def test_compiled_or_not_a_step_computes_the_same() -> None:
    opened = selection.open_device("cpu")
    compiled, plain = (losses(xla=opened.compiles(wanted)) for wanted in ("on", "off"))
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert plain[2] < plain[0]


@pytest.mark.parametrize(
    ("override", "xla"),
    [
        ("training.xla=on", "on"),  # YAML reads both as booleans
        ("training.xla=off", "off"),
        ("training.xla=true", "on"),
        ("training.xla='off'", "off"),
    ],
)
def test_an_experiment_chooses_whether_to_compile(
    tiny: dict[str, Any], write_config: Any, override: str, xla: str
) -> None:
    path = write_config(tiny)
    experiment = load_experiment(path, [override])
    assert experiment.training.xla == xla
    path.write_text(experiment.to_yaml())
    assert load_experiment(path) == experiment
    assert experiment.run_id != load_experiment(write_config(tiny)).run_id


def test_auto_does_not_change_the_run_id(tiny: dict[str, Any], write_config: Any) -> None:
    plain = load_experiment(write_config(tiny))
    assert plain.training.xla == "auto"
    assert "xla" not in yaml.safe_load(plain.to_yaml())["training"]
    assert load_experiment(write_config(tiny), ["training.xla=auto"]).run_id == plain.run_id


@pytest.mark.parametrize("value", ["1", "yse", "null"])
def test_an_invalid_choice_for_xla_is_refused(
    tiny: dict[str, Any], write_config: Any, value: str
) -> None:
    with pytest.raises(ConfigError, match=r"training\.xla: must be 'auto', 'on' or 'off'"):
        load_experiment(write_config(tiny), [f"training.xla={value}"])


# Threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, -3])
def test_threads_below_one(threads: int) -> None:
    with pytest.raises(DeviceError) as caught:
        selection.open_device("cpu", threads)
    says(caught.value, f"--threads {threads}:", "at least 1", machine.usable_cores().number)


@pytest.mark.slow
def test_threads_are_set_before_tensorflow_starts_and_kept_afterwards() -> None:
    code = (
        "import json, tensorflow as tf\n"
        "from fer_bench.device.selection import open_device\n"
        "first = open_device('cpu', 1)\n"
        "tf.zeros(1)\n"
        "second = open_device('cpu', 3)\n"
        "settings = tf.config.threading\n"
        "print(json.dumps([first.threads, second.threads,\n"
        "    settings.get_intra_op_parallelism_threads(),\n"
        "    settings.get_inter_op_parallelism_threads()]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert json.loads(answer.stdout) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("wanted", "memory", "gibibytes", "assumed"),
    [("gpu:0", {0: 80 * GIB, 1: 24 * GIB}, 80, False), ("gpu:1", {0: 80 * GIB}, 8, True)],
)
def test_the_memory_of_a_gpu(
    monkeypatch: Patch,
    visible: list[Any],
    wanted: str,
    memory: dict[int, int],
    gibibytes: int,
    assumed: bool,
) -> None:
    pretend(monkeypatch, ["a", "b"], memory=memory)
    opened = selection.open_device(wanted)
    assert (opened.memory_bytes, opened.memory_is_assumed) == (gibibytes * GIB, assumed)


def test_without_a_driver_the_memory_of_a_gpu_is_assumed(
    monkeypatch: Patch, visible: list[Any]
) -> None:
    pretend(monkeypatch, ["a"])
    assert selection.open_device("gpu").memory_is_assumed


def test_the_memory_of_a_used_gpu_grows(monkeypatch: Patch, visible: list[Any]) -> None:
    grown = pretend(monkeypatch, ["a", "b"])
    selection.open_device("gpu:1")
    assert grown == [("b", True)]


def test_a_gpu_already_in_use_keeps_its_memory_setting(
    monkeypatch: Patch, visible: list[Any]
) -> None:
    def refuse(gpu: Any, on: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    pretend(monkeypatch, ["a"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    assert selection.open_device("gpu").name == "1 x Test GPU"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "OOM when allocating tensor with shape[4096,46,46,32] and type float on /job:localhost",
            " for a float tensor of shape (4096, 46, 46, 32) at batch size 4096.",
        ),
        ("Out of memory while trying to allocate 6442450944 bytes.", " for 6.00 GiB more at batch"),
        ("something else", "no memory left at batch size 4096."),
    ],
)
def test_out_of_memory_names_the_allocation_and_what_to_try(message: str, words: str) -> None:
    error = tf.errors.ResourceExhaustedError(None, None, message)
    found, advice = str(selection.out_of_memory(error, 4096)).splitlines()
    assert words in found
    assert "--set training.batch_size=2048" in advice
    assert "training.precision" in advice
    assert "image.size" in advice


@pytest.mark.parametrize(("batch_size", "suggested"), [(3, "batch_size=1"), (2, "batch_size=1")])
def test_half_the_batch_size_is_suggested(batch_size: int, suggested: str) -> None:
    error = tf.errors.ResourceExhaustedError(None, None, "")
    assert suggested in str(selection.out_of_memory(error, batch_size))


def test_a_batch_of_one_image_is_not_halved() -> None:
    error = tf.errors.ResourceExhaustedError(None, None, "")
    advice = str(selection.out_of_memory(error, 1)).splitlines()[1]
    assert "batch_size" not in advice
    assert "image.size" in advice
