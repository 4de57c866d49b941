"""`scripts/benchmark_data.py` and `cost_model.py`: arithmetic, and one run of each kind."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark_data as data
import cost_model as model
import measuring
from drawn_images import scaled, write_images

from fer_bench.storage.cache import VARIABLE

STALL, START, MEMORY = data.ROWS


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a child with 24 + 8 tiny images and an empty cache."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    images = tmp_path / "images"
    write_images(images, {"train": 24, "validation": 8}, 48, faces=8, link=True)
    return {
        "images": str(images),
        "size": 48,
        "batch_size": 8,
        "network": "cnn_compact",
        "device": "cpu",
        "seed": 0,
        "max_gb": 1.0,
    }


def start(manifest: float, opening: float, first_batch: float) -> dict[str, Any]:
    parts = {"manifest": manifest, "open": opening, "first_batch": first_batch}
    return {**parts, "tracing": 9.0, "mapped": True}


@pytest.mark.parametrize("link", [True, False])
def test_repeated_images_are_links_or_copies(tmp_path: Path, link: bool) -> None:
    write_images(tmp_path / "i", {"train": 24, "validation": 9}, 16, faces=5, link=link)
    files = sorted((tmp_path / "i").glob("*/*/*.jpg"))
    assert len(files) == 33
    assert len({path.read_bytes() for path in files}) == 8  # rounded up to one per expression
    assert len({path.stat().st_ino for path in files}) == (8 if link else 33)
    contents = {(path.parent.name, path.read_bytes()) for path in files}
    assert len(contents) == 8  # a repeated face keeps its class
    assert {len(list(folder.iterdir())) for folder in (tmp_path / "i/train").iterdir()} == {3}


def test_numbers_scale_but_keep_every_expression() -> None:
    assert scaled(MEMORY.images, 1.0) == {"train": 286_000, "validation": 4_000}
    assert scaled(START.images, 0.1) == {"train": 2_700, "validation": 300}
    assert scaled(STALL.images, 0.001) == {"train": 8, "validation": 8}


def test_stall_takes_the_ratio_within_each_round() -> None:
    seconds = {"memory": [1.0, 4.0, 2.0], "cache": [2.0, 4.0, 2.5], "augmented": [2.0, 5.0, 3.0]}
    found = {"images": 100, "seconds": seconds, "processor_seconds": [0.1, 0.2, 0.3], "cores": 2}
    plain, augmented = data.stall_outcomes(STALL, "cnn_compact", found)
    assert plain.value == pytest.approx(0.8)  # of 0.5, 1.0 and 0.8
    assert plain.reached is False
    assert "0.80 [0.50, 1.00]" in plain.details
    assert augmented.reached is None
    assert "10000.0 µs lost per image" in augmented.details
    assert "2000.0 µs of processor time on 2 cores" in augmented.details


def test_second_start_is_the_data_work_without_tracing() -> None:
    starts = [start(0.1, 0.2, 0.3), start(0.2, 0.5, 0.4), start(0.1, 0.1, 0.2)]
    outcome = data.start_outcome(START, start(1.0, 8.0, 1.0), starts, 30_000)
    assert outcome.value == pytest.approx(0.6)
    assert outcome.reached is True
    assert "[0.400, 1.100]; manifest 0.100 s, open 0.200 s, first batch 0.300 s" in outcome.details
    assert "the first start took 10.0 s" in outcome.details


@pytest.mark.parametrize(("kept", "reached"), [(0, False), (43_000_000_000, True)])
def test_memory_target_leaves_out_pages_of_mapped_files(kept: int, reached: bool) -> None:
    peaks = {"resident": 9 * data.GIB, "anonymous": 2 * data.GIB, "phases": {"training": 1}}
    found = {**peaks, "kept": kept, "steps": 30}
    outcome = data.memory_outcome(MEMORY, found, 290_000, 20.0)
    assert outcome.reached is reached
    assert "VmHWM 9.00 GiB, RssAnon 2.00 GiB" in outcome.details


def test_cells_of_an_outcome() -> None:
    outcome = data.Outcome(STALL, "plain", 0.985, "details", {})
    assert outcome.cells == ("stall", "plain", "0.985", "≥ 0.97", "yes", "details")


def test_invalid_options_are_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="two sizes or more"):
        model.sizes_of("48")
    with pytest.raises(argparse.ArgumentTypeError, match="20,-1"):
        data.numbers_from_zero("20,-1")
    with pytest.raises(argparse.ArgumentTypeError, match="last-x"):
        model.free_layers("all,last-x")
    assert model.free_layers("head, last-45") == ["head", "last-45"]


HOLD_MEMORY = """
import json, time
import numpy as np
import benchmark_data as data

sampler = data.MemorySampler()
sampler.start()
time.sleep(3 * data.SECONDS_BETWEEN_SAMPLES)
sampler.phase = "held"
held = np.ones(100_000_000, np.uint8)
time.sleep(6 * data.SECONDS_BETWEEN_SAMPLES)
peaks = sampler.stop()
assert len(held) == 100_000_000
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_the_sampler_sees_memory_that_is_held_for_a_while() -> None:
    # In its own process: memory of other tests may be freed meanwhile.
    scripts = str(Path(data.__file__).parent)
    printed = subprocess.run(
        [sys.executable, "-c", HOLD_MEMORY],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([scripts, *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    peaks = json.loads(printed.splitlines()[-1])
    assert peaks["phases"]["held"] - peaks["phases"]["start"] > 80_000_000
    assert peaks["anonymous"] == peaks["phases"]["held"]
    assert peaks["resident"] > 80_000_000


def test_a_failed_process_is_named(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys; sys.exit(3)")
    with pytest.raises(measuring.ChildError, match=r"stall.* 3"):
        measuring.run_child(script, "stall", {"device": "cpu"}, tmp_path)


def test_second_start_finds_the_images_of_the_first(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = data.child_start(options), data.child_start(options)
    assert first["mapped"]
    assert second["mapped"]
    assert all(second[part] > 0 for part in data.PARTS)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "another cache"))
    assert not data.child_start(options | {"max_gb": 0.0})["mapped"]


@pytest.mark.slow
def test_stall_times_every_source_in_every_round(options: dict[str, Any]) -> None:
    found = data.child_stall(options | {"pairs": 2})
    assert found["images"] == 24
    assert {name: len(times) for name, times in found["seconds"].items()} == {
        "memory": 2,
        "cache": 2,
        "augmented": 2,
    }
    assert all(value > 0 for times in found["seconds"].values() for value in times)
    assert len(found["processor_seconds"]) == 2


@pytest.mark.slow
def test_memory_row_stops_after_its_steps(options: dict[str, Any]) -> None:
    found = data.child_memory(options | {"steps": 4})  # 3 make an epoch
    assert 4 <= found["steps"] <= 6
    assert found["kept"] > 32 * 48 * 48 * 3
    assert found["resident"] > found["phases"]["training"] > 0


@pytest.mark.slow
def test_point_of_the_cost_model_counts_from_the_second_epoch_on(options: dict[str, Any]) -> None:
    found = model.child_point(options | {"free": "head", "epochs": 3})
    assert len(found["epoch_seconds"]) == 2
    assert found["image_bytes"] >= 48 * 48 * 3
    assert found["trunk_bytes"] > 0
    trunks = model.child_trunks(options | {"free": ["head", "all"]})
    assert trunks["all"] is None
    assert trunks["head"] is not None
    # The file holds a header too.
    assert 0 < trunks["head"] <= found["trunk_bytes"]


def cost(images: int, size: int, epoch: float, whole: float | None) -> model.Cost:
    return model.Cost(model.Point(images, size, "all"), [epoch], whole, 1.0, None, 1)


def test_the_pass_is_timed_after_the_first_batch() -> None:
    # The first of three batches includes tracing.
    assert model.pass_seconds([(100, 50.0), (200, 51.0), (250, 51.5)]) == pytest.approx(2.5)
    assert model.pass_seconds([]) is None
    assert model.pass_seconds([(250, 1.0)]) is None


def test_fits_recover_the_law_of_the_points() -> None:
    assert model.line_through([(x, 3 + 2 * x) for x in (1, 2, 4, 8)]) == pytest.approx((3, 2))
    assert model.exponent([(x, 5 * x**1.7) for x in (48, 64, 96, 128)]) == pytest.approx(1.7)


def test_prediction_extrapolates_from_the_largest_size() -> None:
    costs = [cost(100, size, size**2 / 1000, size / 10) for size in (96, 48, 64)]
    found = model.predicted(costs, "all", 4000, 1_000_000, 224)
    assert found.exponent == pytest.approx(2)
    assert found.epoch_hours == pytest.approx(224**2 / 1000 * 10_000 / 3600)
    assert found.pass_hours == pytest.approx(22.4 * 10_000 / 3600)
    assert found.trunk_gb == pytest.approx(4.0)
    bare = model.predicted([cost(100, s, s, None) for s in (48, 64)], "all", None, 100, 224)
    assert bare.pass_hours is None
    assert bare.cells[-2:] == ("-", "-")


def test_points_move_along_one_axis_at_a_time() -> None:
    arguments = argparse.Namespace(
        images=10, base_size=64, base_free="head", free=["head", "all"], sizes=[48, 64]
    )
    found = model.points(arguments)
    assert len(found) == len(set(found)) == 7
    assert [point.images for point in found[:4]] == [10, 20, 40, 80]
    assert {(point.size, point.free) for point in found[4:]} == {
        (48, "head"),
        (48, "all"),
        (64, "all"),
    }


@pytest.mark.large
@pytest.mark.parametrize(
    ("script", "given"),
    [
        ("benchmark_data.py", "--rows second_start --scale 0.001 --starts 1"),
        (
            "cost_model.py",
            "--network cnn_compact --images 8 --sizes 48,64 --free head --epochs 2 "
            "--batch-size 4 --base-size 48 --base-free head",
        ),
    ],
)
def test_whole_script_prints_a_table_and_keeps_json(
    script: str, given: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(Path(data.__file__).parent / script), *given.split()]
    command += ["--faces", "8", "--json", str(tmp_path / "found.json")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    document = json.loads((tmp_path / "found.json").read_text().splitlines()[0])
    assert document["machine"]["command"].startswith(f"python scripts/{script}")
    assert "| --- |" in done.stdout
    # TensorFlow leaves what it compiles of its own there.
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"found.json"}
