"""Finds the processes that train a run together: from the command line, `TF_CONFIG` or Slurm."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fer_bench.errors import ConfigError

SLURM = "slurm"
# The port of the first task on each host; each further task takes the next one.
SLURM_PORT = 8888
LAST_PORT = 65_535


@dataclass(frozen=True)
class Workers:
    """The processes of one training run, on one host or several.

    Attributes:
        addresses: the address of each worker, as `host:port`.
        index: the index of this process; number 0 writes the run.
    """

    addresses: tuple[str, ...]
    index: int

    def __len__(self) -> int:
        return len(self.addresses)


def find_workers(
    wanted: str | None, index: int | None, environment: Mapping[str, str]
) -> Workers | None:
    """The workers in `--workers` and `--index`, or else in `TF_CONFIG`; None: only this process.

    Args:
        wanted: `host:port,host:port`, or `slurm` for the tasks of the current job step.
        index: the index of this process; required with addresses, and not allowed without.
        environment: the environment variables of this process.

    Raises:
        ConfigError: an address, the index or an environment variable is missing or invalid.
    """
    if wanted == SLURM:
        return _of_slurm(environment)
    if wanted is not None:
        return _checked(wanted.split(","), index, "--workers")
    if index is not None:
        raise ConfigError(
            f"--index {index}: has no effect without --workers.\n"
            "Give the addresses of all workers too: --workers host:port,host:port."
        )
    return _of_tensorflow(environment["TF_CONFIG"]) if environment.get("TF_CONFIG") else None


def _of_tensorflow(text: str) -> Workers | None:
    try:
        document = json.loads(text)
        addresses = [str(address) for address in document["cluster"]["worker"]]
        task = document["task"]
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"TF_CONFIG: expected a cluster with workers and a task, found {text!r} ({error!r}).\n"
            "Unset the variable, or use --workers and --index."
        ) from error
    if kind != "worker" or set(document["cluster"]) != {"worker"}:
        raise ConfigError(
            "TF_CONFIG: only tasks of type worker can train; worker 0 writes the run.\n"
            "List every process under cluster.worker."
        )
    return _checked(addresses, index, "TF_CONFIG")


def _of_slurm(environment: Mapping[str, str]) -> Workers | None:
    """The tasks of this job step in Slurm's order, with consecutive ports on each host."""
    needed = ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"--workers slurm: {', '.join(missing)} is not set.\n"
            "Start the workers with srun, one task per worker."
        )
    nodes, tasks, process = (environment[name] for name in needed)
    try:
        addresses = [
            f"{host}:{SLURM_PORT + task}"
            for host, count in zip(_hosts(nodes), _tasks_per_node(tasks), strict=True)
            for task in range(count)
        ]
        index = int(process)
    except ValueError as error:
        found = ", ".join(f"{name}={environment[name]}" for name in needed)
        raise ConfigError(
            f"--workers slurm: cannot read the tasks of the job step from {found}.\n"
            "Name the workers with --workers host:port,host:port and --index."
        ) from error
    return _checked(addresses, index, "--workers slurm")


def _hosts(text: str) -> list[str]:
    """For example [n08, n09, last] for `n[08-09],last`, in this order.

    TensorFlow's own resolver sorts them, which may differ from how Slurm numbers its tasks.
    """
    hosts = []
    for prefix, numbers in re.findall(r"([^,\[\]]+)(?:\[([^\]]*)\])?", text):
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            if not first:
                hosts.append(prefix)
                continue
            for number in range(int(first), int(last or first) + 1):
                hosts.append(f"{prefix}{number:0{len(first)}}")
    return hosts


def _tasks_per_node(text: str) -> list[int]:
    """For example [2, 2, 1] for `2(x2),1`."""
    counts = []
    for part in text.split(","):
        tasks, _, nodes = part.partition("(x")
        counts += [int(tasks)] * int(nodes.rstrip(")") or 1)
    return counts


def _checked(addresses: list[str], index: int | None, source: str) -> Workers | None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > LAST_PORT:
            raise ConfigError(f"{source}: '{address}' is not an address; expected host:port.")
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"{source}: duplicate address in {', '.join(addresses)}.")
    if index is None or not 0 <= index < len(addresses):
        found = "no --index" if index is None else f"index {index}"
        raise ConfigError(
            f"{source}: {found} for {len(addresses)} workers.\n"
            f"Give each worker its own index, from 0 to {len(addresses) - 1}."
        )
    return Workers(tuple(addresses), index) if len(addresses) > 1 else None
