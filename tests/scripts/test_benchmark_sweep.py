"""`scripts/benchmark_sweep.py`: its suites, and its arithmetic."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark_sweep as benchmark

from fer_bench.device.machine import usable_cores
from fer_bench.sweep.suite import load_suite


@pytest.mark.parametrize("network", benchmark.NETWORKS)
def test_the_suite_is_one_network_with_a_seed_for_each_core(network: str, tmp_path: Path) -> None:
    size, epochs = benchmark.NETWORKS[network]
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(benchmark.suite(network, size, epochs, 3)))
    experiments = [run.experiment for run in load_suite(path).runs]
    assert [experiment.seed for experiment in experiments] == [0, 1, 2]
    for experiment in experiments:
        assert experiment.model.backbone == network
        assert (experiment.image.size, experiment.stages[0].epochs) == (size, epochs)
        assert experiment.dataset.name == "drawn"


def test_a_line_says_how_many_times_as_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = usable_cores().number
    seconds = iter([99.0, 60.0, 40.0, 90.0, 30.0])  # the first one does not count
    asked: list[int] = []

    def sweep_seconds(path: Path, workers: int) -> float:
        asked.append(workers)
        return next(seconds)

    monkeypatch.setattr(benchmark, "sweep_seconds", sweep_seconds)
    line = benchmark.compare("vgg16", 2, tmp_path)
    assert asked == [cores, 1, cores, 1, cores]
    assert line == f"| `vgg16`, 48 px, {cores} runs of 2 epochs | 75 | 35 | 2.25 [1.50, 3.00] |"
