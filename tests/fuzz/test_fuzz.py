"""300 damaged inputs, of which each must end as promised; `python -m fuzz` tries more."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuzz import trial, world

CHUNK, CHUNKS = 30, 10
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def shared_trials(
    tmp_path_factory: pytest.TempPathFactory, fer: Callable[..., Any]
) -> trial.Trials:
    """A world to damage, made once in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_BENCH_CACHE", "")  # `build` sets it; afterwards it is as before
        return trial.Trials(world.build(tmp_path_factory.mktemp("fuzz"), fer), fer)


@pytest.fixture
def trials(shared_trials: trial.Trials, monkeypatch: pytest.MonkeyPatch) -> Iterator[trial.Trials]:
    """The same, while the commands use its own cache; restored, for pytest to remove it."""
    monkeypatch.setenv("FER_BENCH_CACHE", str(shared_trials.world.root / "cache"))
    yield shared_trials
    shared_trials.world.restore()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_damaged_files_are_handled_as_promised(trials: trial.Trials, chunk: int) -> None:
    done = [trials.attempt(f"1-{chunk * CHUNK + number}") for number in range(CHUNK)]
    assert [str(one) for one in done if not one.is_good] == []
