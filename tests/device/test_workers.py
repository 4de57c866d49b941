"""Who takes part in a run: from the command line, TF_CONFIG and Slurm."""

import json

import pytest

from fer_bench.device.workers import Workers, find_workers
from fer_bench.errors import ConfigError

TWO = ("a:1", "b:2")


def tf_config(**changes: object) -> dict[str, str]:
    document = {"cluster": {"worker": list(TWO)}, "task": {"type": "worker", "index": 1}}
    return {"TF_CONFIG": json.dumps(document | changes)}


def test_nothing_said_is_one_process() -> None:
    assert find_workers(None, None, {}) is None
    assert find_workers(None, None, {"TF_CONFIG": ""}) is None


def test_addresses_and_an_index() -> None:
    assert find_workers("a:1,b:2", 0, {}) == Workers(TWO, 0)
    assert len(Workers(TWO, 0)) == 2


def test_the_command_line_comes_before_the_environment() -> None:
    assert find_workers("c:1,d:2", 0, tf_config()) == Workers(("c:1", "d:2"), 0)


def test_one_worker_is_one_process() -> None:
    assert find_workers("a:1", 0, {}) is None


def test_the_variable_of_tensorflow() -> None:
    assert find_workers(None, None, tf_config()) == Workers(TWO, 1)


@pytest.mark.parametrize(
    ("nodes", "tasks", "addresses"),
    [
        ("node", "2", ("node:8888", "node:8889")),
        ("n[08-10]", "1(x3)", ("n08:8888", "n09:8888", "n10:8888")),
        ("n[9,11],last", "2(x2),1", ("n9:8888", "n9:8889", "n11:8888", "n11:8889", "last:8888")),
    ],
)
def test_the_tasks_of_a_slurm_step(nodes: str, tasks: str, addresses: tuple[str, ...]) -> None:
    environment = {
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": "1",
    }
    assert find_workers("slurm", None, environment) == Workers(addresses, 1)


def test_outside_of_slurm_its_variables_are_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)SLURM_STEP_NODELIST.*SLURM_PROCID.*srun"):
        find_workers("slurm", None, {})


@pytest.mark.parametrize(
    ("wanted", "index", "message"),
    [
        ("a:1,b", 0, "'b' is no address; expected host:port"),
        ("a:1,b:x", 0, "'b:x' is no address"),
        ("a:1,:2", 0, "':2' is no address"),
        ("a:1,a:1", 0, "an address stands twice"),
        ("a:1,b:2", None, r"(?s)no --index for 2 workers.*from 0 to 1"),
        ("a:1,b:2", 2, "index 2 for 2 workers"),
        (None, 1, r"(?s)--index 1.*without --workers"),
    ],
)
def test_what_is_wrong_is_said(wanted: str | None, index: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_workers(wanted, index, {})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "(?s)TF_CONFIG: expected a cluster.*Unset"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG: expected a cluster"),
        (tf_config(task={"type": "chief", "index": 0}), "only tasks of the type worker"),
        (tf_config(cluster={"worker": ["a:1"], "ps": ["b:2"]}), "only tasks of the type worker"),
        (tf_config(task={"type": "worker", "index": 7}), "index 7 for 2 workers"),
    ],
)
def test_what_is_wrong_with_the_variable_is_said(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_workers(None, None, environment)
