"""What `fer doctor` finds out about a machine, how it measures, and how it says it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from typer.testing import Result

from fer_bench.device import machine
from fer_bench.device.selection import Device
from fer_bench.training import speed as speed_module

Fer = Callable[..., Result]
Patch = pytest.MonkeyPatch


def some_device(kind: Any = "cpu", precision: str = "bfloat16") -> Device:
    return Device(
        strategy=tf.distribute.get_strategy(),
        name="a device",
        kind=kind,
        best_precision=precision,
        why="a reason",
        best_xla=kind == "gpu",
        threads=2,
        memory_bytes=2**30,
    )


class Clock:
    """A clock on which looking takes 1 ms, and all else what it says of itself."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        self.sleep(0.001)
        return self.now

    perf_counter = monotonic


@pytest.fixture
def bursts(monkeypatch: Patch) -> list[tuple[str, bool]]:
    """What was timed, in turn. Nothing is trained: a step takes 10 ms, with XLA 100 ms.

    A step of bfloat16 takes half as long; the first one with XLA takes 0.3 s more.
    """
    seen: list[tuple[str, bool]] = []
    clock = Clock()
    monkeypatch.setattr(speed_module, "time", clock)

    def build(precision: str, *, xla: bool) -> Callable[[int], None]:
        def steps(count: int) -> None:
            if xla and (precision, xla) not in seen:
                clock.sleep(0.3)
            seen.append((precision, xla))
            clock.sleep(count * (0.1 if xla else 0.01) / (2 if precision == "bfloat16" else 1))

        return steps

    monkeypatch.setattr(speed_module, "build_step", build)
    monkeypatch.setattr(speed_module, "COPIED_BYTES", 2**20)
    monkeypatch.setattr(speed_module, "MATRIX", 16)
    return seen


def measured(on: Device, seconds: float) -> dict[tuple[str, str], dict[str, Any]]:
    document = speed_module.measure(on, seconds, lambda text: None)
    return {(row["precision"], row["xla"]): row for row in document["training"]}


# Measuring -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "precisions"),
    [
        (some_device("cpu", "float32"), {"float32", "bfloat16"}),
        (some_device("cpu", "bfloat16"), {"float32", "bfloat16"}),
        (some_device("gpu", "bfloat16"), {"float32", "bfloat16", "float16"}),
        (some_device("gpu", "float16"), {"float32", "float16"}),
        (some_device("gpu", "float32"), {"float32"}),
    ],
)
def test_every_arithmetic_of_the_device_is_tried(on: Device, precisions: set[str]) -> None:
    found = speed_module.ways(on)
    assert set(found) == {(precision, xla) for precision in precisions for xla in (False, True)}
    assert len(found) == 2 * len(precisions)


@pytest.mark.bfloat16
def test_every_way_is_measured_and_the_choice_of_auto_is_marked(bursts: list[Any]) -> None:
    rows = measured(some_device(), 2)
    speeds = {way: row["images_per_second"] for way, row in rows.items()}
    assert speeds["bfloat16", "off"] > speeds["float32", "off"] > speeds["float32", "on"] > 0
    assert [way for way, row in rows.items() if row["chosen"]] == [("bfloat16", "off")]
    assert rows["float32", "on"]["first_step_seconds"] >= 0.3
    assert rows["float32", "on"]["images_per_second"] > 64 / 0.3  # so that is not counted
    assert all(row["note"] is None for row in rows.values())


@pytest.mark.bfloat16
def test_the_ways_are_timed_in_turn(bursts: list[tuple[str, bool]]) -> None:
    measured(some_device(), 2)
    first_two = bursts[8:16]  # after two steps of each that compile and warm up
    assert first_two[:4] == first_two[4:]
    assert len(set(first_two)) == 4


@pytest.mark.bfloat16
def test_what_does_not_fit_the_time_is_left_out_and_named(bursts: list[Any]) -> None:
    rows = measured(some_device(), 0.3)
    assert rows["bfloat16", "off"]["images_per_second"] > 0
    assert rows["bfloat16", "on"]["images_per_second"] > 0  # begun while there was time
    left_out = rows["float32", "on"]
    assert left_out["images_per_second"] is None
    assert "--seconds" in left_out["note"]


def test_the_choice_is_measured_however_short_the_time(bursts: list[Any]) -> None:
    rows = measured(some_device("gpu", "float16"), 0.001)
    known = [way for way, row in rows.items() if row["images_per_second"]]
    assert known == [("float16", "on")]


def row(precision: str, xla: str, speed: float | None, *, chosen: bool = False) -> dict[str, Any]:
    return {"precision": precision, "xla": xla, "images_per_second": speed, "chosen": chosen}


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        ([row("bfloat16", "off", 100, chosen=True), row("float32", "off", 109)], None),
        ([row("bfloat16", "off", 100, chosen=True), row("float32", "off", None)], None),
        (
            [row("bfloat16", "off", 100, chosen=True), row("float32", "off", 150)],
            ["training.precision=float32"],
        ),
        (
            [row("float32", "on", 100, chosen=True), row("float32", "off", 150)],
            ["training.xla=off"],
        ),
        (
            [
                row("bfloat16", "on", 300),
                row("bfloat16", "off", 150),
                row("float32", "off", 100, chosen=True),
            ],
            ["training.precision=bfloat16", "training.xla=on"],
        ),
    ],
)
def test_advice_only_where_another_way_is_much_faster(
    rows: list[dict[str, Any]], settings: list[str] | None
) -> None:
    found = speed_module.advice(rows)
    assert (found and found["set"]) == settings


def test_the_advice_is_a_valid_setting(tiny: dict[str, Any], write_config: Any) -> None:
    from fer_bench.config.loading import load_experiment

    found = speed_module.advice([row("float32", "off", 1, chosen=True), row("bfloat16", "on", 3)])
    assert found
    training = load_experiment(write_config(tiny), found["set"]).training
    assert (training.precision, training.xla) == ("bfloat16", "on")
    assert found["times"] == 3


@pytest.mark.slow
@pytest.mark.bfloat16
def test_a_step_trains_in_its_arithmetic_and_leaves_the_policy_as_it_was(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(speed_module, "BATCH", 2)
    built: list[Any] = []
    monkeypatch.setattr(speed_module, "use_fast_kernels", lambda model, kind: built.append(model))
    before = keras.config.dtype_policy().name
    step = speed_module.build_step("bfloat16", xla=False)
    assert keras.config.dtype_policy().name == before
    (model,) = built
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in model.layers}
    weights = model.get_weights()
    step(1)
    assert any((a != b).any() for a, b in zip(weights, model.get_weights(), strict=True))


def test_an_arithmetic_without_kernels_is_not_tried() -> None:
    on = replace(some_device("cpu", "float32"), computes_bfloat16=False)
    assert {precision for precision, _ in speed_module.ways(on)} == {"float32"}


# The document ----------------------------------------------------------------------------------


def test_the_document(fer: Fer, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "kind").mkdir(parents=True)
    (tmp_path / "cache" / "kind" / "entry").write_bytes(bytes(1000))
    result = fer("doctor", "--device", "cpu", "--seconds", 0, "--json", "--outputs", tmp_path / "o")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    keys = {"versions", "system", "device", "choices", "measured", "cache", "outputs"}
    assert set(document) == keys
    assert document["measured"] is None
    assert document["versions"]["tensorflow"] == tf.__version__
    assert document["system"]["cores"] == machine.usable_cores().number
    assert document["device"]["kind"] == "cpu"
    assert bool(document["device"]["gpus"]) is (document["device"]["why_no_gpu"] is None)
    assert document["choices"]["xla"]["value"] == "off"
    assert document["choices"]["precision"]["value"] in ("float32", "bfloat16")
    assert document["choices"]["threads"]["value"] >= 1
    cache = document["cache"]
    assert (cache["folder"], cache["files"], cache["bytes"]) == (str(tmp_path / "cache"), 1, 1000)
    assert cache["free_bytes"] > 0
    assert document["outputs"] == {"folder": str(tmp_path / "o"), "writable": True}
    assert not (tmp_path / "o").exists()


def test_instructions_have_the_names_that_people_use(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2", "amx_bf16", "fpu"})
    document = speed_module.examine(some_device(), Path("outputs"), 0, lambda text: None)
    assert document["system"]["cpu_features"] == ["AVX2", "AMX-BF16"]


def test_a_given_number_of_threads_is_named_as_the_reason() -> None:
    usable = machine.usable_cores().number
    document = speed_module.examine(
        Device(**vars(some_device()) | {"threads": usable + 1}), Path("o"), 0, lambda text: None
    )
    threads = document["choices"]["threads"]
    assert threads == {"value": usable + 1, "why": f"asked for; {usable} usable"}


# The screen ------------------------------------------------------------------------------------


def shown(fer: Fer, *arguments: object) -> str:
    result = fer("doctor", "--device", "cpu", *arguments)
    assert result.exit_code == 0, result.stderr
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    return " ".join(result.stdout.split())


def test_the_screen_without_measurement(fer: Fer) -> None:
    text = shown(fer, "--seconds", 0)
    assert f"tensorflow {tf.__version__}" in text
    assert machine.cpu_model() in text
    assert "XLA off (compiled convolutions" in text
    assert "images/s" not in text


@pytest.mark.slow
@pytest.mark.bfloat16
@pytest.mark.usefixtures("onednn_unlimited")
def test_the_screen_with_measurement(fer: Fer, bursts: list[Any], monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx512_bf16"})
    text = shown(fer, "--seconds", 0.3)
    assert "what auto chooses" in text
    assert "give more --seconds" in text
    assert "GB/s" in text
    assert "the fastest here, or within 10 % of it" in text


@pytest.mark.bfloat16
def test_the_screen_says_what_to_set(fer: Fer, bursts: list[Any], monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", set)
    text = shown(fer, "--seconds", 1)
    assert re.search(r"[12]\.\d times as fast", text)
    assert "--set training.precision=bfloat16" in text
    assert "training.xla" not in text


def test_a_folder_that_cannot_be_written_is_named(fer: Fer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = shown(fer, "--seconds", 0, "--outputs", tmp_path / "file" / "runs")
    assert "CANNOT BE WRITTEN" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threads", 0), "--threads 0: expected at least 1"),
        (("--device", "gpu:99"), "--device gpu:99"),
        (("--seconds", -1), "--seconds"),
    ],
)
def test_what_cannot_be_examined(fer: Fer, arguments: tuple[object, ...], words: str) -> None:
    result = fer("doctor", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_a_real_measurement(fer: Fer) -> None:
    result = fer("doctor", "--device", "cpu", "--seconds", 0.5, "--json")
    assert result.exit_code == 0, result.stderr
    measurement = json.loads(result.stdout)["measured"]
    (chosen,) = [row for row in measurement["training"] if row["chosen"]]
    assert chosen["images_per_second"] > 0
    assert chosen["first_step_seconds"] > 0
    assert measurement["matrix_product_gflops"]["float32"] > 0
    assert measurement["copy_gb_per_second"] > 0
