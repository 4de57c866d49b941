"""Which processes train a run together, from the command line, `TF_CONFIG` or Slurm."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fer_bench.errors import ConfigError

SLURM = "slurm"
# Two tasks of a host need two ports; the first one of each host has this.
SLURM_PORT = 8888


@dataclass(frozen=True)
class Workers:
    """The processes of one training run, each on a host of its own or several on one.

    Attributes:
        addresses: where each listens, as `host:port`.
        index: which of them this process is; number 0 writes the run.
    """

    addresses: tuple[str, ...]
    index: int

    def __len__(self) -> int:
        return len(self.addresses)


def find_workers(
    wanted: str | None, index: int | None, environment: Mapping[str, str]
) -> Workers | None:
    """The workers that `--workers` and `--index` name, else those of `TF_CONFIG`; None: only this.

    Args:
        wanted: `host:port,host:port`, or `slurm` for the tasks of the job step this process is in.
        index: which of them this process is; needed with addresses, and only there.
        environment: of this process.

    Raises:
        ConfigError: an address, the index or a variable of the environment is missing or wrong.
    """
    if wanted == SLURM:
        return _of_slurm(environment)
    if wanted is not None:
        return _checked(wanted.split(","), index, "--workers")
    if index is not None:
        raise ConfigError(
            f"--index {index}: which worker this is means nothing without --workers.\n"
            "Give the addresses of all workers too: --workers host:port,host:port."
        )
    return _of_tensorflow(environment["TF_CONFIG"]) if environment.get("TF_CONFIG") else None


def _of_tensorflow(text: str) -> Workers | None:
    try:
        document = json.loads(text)
        addresses = document["cluster"]["worker"]
        task = document["task"]
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"TF_CONFIG: expected a cluster with workers and a task, found {text!r} ({error!r}).\n"
            "Unset the variable, or use --workers and --index."
        ) from error
    if kind != "worker" or set(document["cluster"]) != {"worker"}:
        raise ConfigError(
            "TF_CONFIG: only tasks of the type worker train; worker 0 is the one that writes.\n"
            "List every process under cluster.worker."
        )
    return _checked(addresses, index, "TF_CONFIG")


def _of_slurm(environment: Mapping[str, str]) -> Workers | None:
    """The tasks of this job step: consecutive ports on each host, in the order of Slurm."""
    needed = ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"--workers slurm: {', '.join(missing)} is not set.\n"
            "Start the workers with srun, one task each."
        )
    hosts = _hosts(environment["SLURM_STEP_NODELIST"])
    tasks = _tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    addresses = [
        f"{host}:{SLURM_PORT + task}"
        for host, count in zip(hosts, tasks, strict=True)
        for task in range(count)
    ]
    return _checked(addresses, int(environment["SLURM_PROCID"]), "--workers slurm")


def _hosts(text: str) -> list[str]:
    """For example [n08, n09, last] for `n[08-09],last`, in this order.

    TensorFlow's own reader of these sorts them, which need not be how Slurm numbers its tasks.
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
        if not host or not port.isdecimal():
            raise ConfigError(f"{source}: '{address}' is no address; expected host:port.")
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"{source}: an address stands twice: {', '.join(addresses)}.")
    if index is None or not 0 <= index < len(addresses):
        found = "no --index" if index is None else f"index {index}"
        raise ConfigError(
            f"{source}: {found} for {len(addresses)} workers.\n"
            f"Give each worker its own, from 0 to {len(addresses) - 1}."
        )
    return Workers(tuple(addresses), index) if len(addresses) > 1 else None
