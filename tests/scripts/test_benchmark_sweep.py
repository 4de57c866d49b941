"""`scripts/benchmark_sweep.py`: its suites, and its arithmetic."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark_sweep as benchmark
import measuring

from fer_bench.device.machine import usable_cores
from fer_bench.sweep.suite import load_suite


@pytest.mark.parametrize("network", benchmark.NETWORKS)
def test_the_suite_is_one_network_with_one_seed_per_core(network: str, tmp_path: Path) -> None:
    size, epochs = benchmark.NETWORKS[network]
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(benchmark.suite(network, size, epochs, 3)))
    experiments = [run.experiment for run in load_suite(path).runs]
    assert [experiment.seed for experiment in experiments] == [0, 1, 2]
    for experiment in experiments:
        assert experiment.model.backbone == network
        assert (experiment.image.size, experiment.stages[0].epochs) == (size, epochs)
        assert experiment.dataset.name == "drawn"


def test_ways_take_turns_and_ratios_are_taken_within_each_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = usable_cores().number
    seconds = iter([60.0, 40.0, 30.0, 90.0])
    workers: list[int] = []

    def timed(call: Callable[[], object]) -> measuring.Timing:
        call()
        return measuring.Timing(next(seconds), 0.0)

    monkeypatch.setattr(measuring, "timed", timed)
    monkeypatch.setattr(benchmark, "sweep", lambda path, number: workers.append(number))
    cells = benchmark.compare("vgg16", 2, tmp_path)
    assert workers == [cores, 1, cores, cores, 1]  # the first one does not count
    assert cells == (
        *(f"`vgg16`, 48 px, {cores} runs of 2 epochs", "75", "35", "2.25 [1.50, 3.00]"),
    )
