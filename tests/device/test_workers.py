"""The workers of a run: from the command line, TF_CONFIG and Slurm."""

import json

import pytest
from messages import says

from fer_bench.device.workers import Workers, find_workers
from fer_bench.errors import ConfigError

TWO = ("a:1", "b:2")


def tf_config(**changes: object) -> dict[str, str]:
    document = {"cluster": {"worker": list(TWO)}, "task": {"type": "worker", "index": 1}}
    return {"TF_CONFIG": json.dumps(document | changes)}


def test_without_any_setting_it_is_one_process() -> None:
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
    with pytest.raises(ConfigError) as caught:
        find_workers("slurm", None, {})
    says(caught.value, "SLURM_STEP_NODELIST", "SLURM_PROCID", "srun")


@pytest.mark.parametrize(
    ("wanted", "index", "parts"),
    [
        ("a:1,b", 0, ["--workers", "'b'", "host:port"]),
        ("a:1,b:x", 0, ["'b:x'", "host:port"]),
        ("a:1,b:65536", 0, ["'b:65536'", "host:port"]),
        ("a:1,:2", 0, ["':2'", "host:port"]),
        ("a:1,a:1", 0, ["--workers", "a:1, a:1"]),
        ("a:1,b:2", None, ["--index", "2 workers", "0 to 1"]),
        ("a:1,b:2", 2, ["index 2", "2 workers", "0 to 1"]),
        (None, 1, ["--index 1", "--workers host:port"]),
    ],
)
def test_an_invalid_option_is_named(
    wanted: str | None, index: int | None, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_workers(wanted, index, {})
    says(caught.value, *parts)


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"TF_CONFIG": "{"}, ["cluster", "'{'", "--workers and --index"]),
        ({"TF_CONFIG": "{}"}, ["cluster", "'{}'"]),
        (tf_config(cluster={"worker": None}), ["cluster", '"worker": null']),
        (tf_config(cluster={"worker": ["a:1", 2]}), ["'2'", "host:port"]),
        (tf_config(task={"type": "chief", "index": 0}), ["worker 0", "cluster.worker"]),
        (tf_config(cluster={"worker": ["a:1"], "ps": ["b:2"]}), ["worker 0", "cluster.worker"]),
        (tf_config(task={"type": "worker", "index": 7}), ["index 7", "2 workers"]),
    ],
)
def test_an_invalid_tf_config_is_named(environment: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        find_workers(None, None, environment)
    says(caught.value, "TF_CONFIG", *parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_TASKS_PER_NODE": "1"},
        {"SLURM_STEP_TASKS_PER_NODE": "some"},
        {"SLURM_STEP_NODELIST": "n[a-b]"},
        {"SLURM_PROCID": "first"},
    ],
)
def test_variables_of_slurm_that_make_no_sense_are_named(changes: dict[str, str]) -> None:
    environment = {
        "SLURM_STEP_NODELIST": "a,b",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_PROCID": "0",
    }
    with pytest.raises(ConfigError) as caught:
        find_workers("slurm", None, environment | changes)
    ((name, value),) = changes.items()
    says(caught.value, "--workers slurm", f"{name}={value}", "--index")
