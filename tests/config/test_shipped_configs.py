"""The experiment files that come with the project."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from fer_bench.config.loading import load_experiment

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def test_there_are_some() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_experiment_is_valid_and_named_as_its_file(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert experiment.run_id.startswith(f"{path.stem}-s{experiment.seed}-")
    # One folder for each layout that a dataset comes in, below the one that git ignores.
    assert experiment.dataset.root.parent == Path("data")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_others_published_says_where(path: Path) -> None:
    for entry in load_experiment(path).published:
        assert entry.source.strip()
        assert entry.metric.strip()


def test_no_two_are_the_same_run() -> None:
    assert len({load_experiment(path).run_id for path in CONFIGS}) == len(CONFIGS)


def test_the_run_to_start_from_is_that_of_a_shipped_experiment() -> None:
    """Its id changes when the configuration gets another key, and has to change here too."""
    experiments = [load_experiment(path) for path in CONFIGS]
    run_ids = {experiment.run_id for experiment in experiments}
    named = {experiment.model.weights for experiment in experiments}
    wanted = {weights.removeprefix("run:") for weights in named if weights.startswith("run:")}
    assert wanted
    assert wanted <= run_ids


def test_validate_takes_them_all_at_once(fer: Callable[..., Result]) -> None:
    result = fer("validate", *CONFIGS)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    for path in CONFIGS:
        assert load_experiment(path).run_id in result.stdout
