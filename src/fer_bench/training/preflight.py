"""Checks before training that do not need TensorFlow, whose import alone takes seconds."""

from dataclasses import dataclass
from pathlib import Path

from fer_bench.config.experiment import Experiment
from fer_bench.data.contents import Verify
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import RunError
from fer_bench.models.weight_source import find_weights
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.record import is_newer
from fer_bench.runs.tracking.mirror import check_packages
from fer_bench.training import checkpoint
from fer_bench.training.parent import Parent, find_parent, longer

FINISHED = "{run_id} is finished; --fresh trains it again, --more-epochs N continues it"


@dataclass(frozen=True)
class Checked:
    """An experiment that has passed the checks.

    Attributes:
        config: what is trained.
        parent: the run to continue; None for a new run, or one with a checkpoint.
        manifest: the dataset.
        verify: which files of the dataset are read again to find out whether they changed.
    """

    config: Experiment
    parent: Parent | None
    manifest: Manifest
    verify: Verify = "sample"


def is_finished(run: RunDirectory) -> bool:
    """Whether nothing is left to train. Removes what a killed process left in the run.

    Raises:
        RunError: another process trains the run, or see `has_finished`.
    """
    if not run.outputs.is_dir():
        return False
    with run.lock():
        return has_finished(run)


def has_finished(run: RunDirectory) -> bool:
    """Whether `run.json` says so; not if it is damaged and a checkpoint says how to go on.

    Raises:
        RunError: `run.json` is damaged and there is no checkpoint, or a newer version wrote it.
    """
    try:
        return run.status() == "finished"
    except RunError:
        if checkpoint.exists(run) and not is_newer(run.run_json):
            return False
        raise


def check_training(
    config: Experiment,
    outputs: Path,
    *,
    fresh: bool = False,
    more_epochs: int | None = None,
    verify: Verify = "sample",
) -> Checked:
    """Make sure that the packages, the weights and the dataset that `config` names exist.

    Args:
        config: the experiment.
        outputs: the folder of all runs.
        fresh: whether to start again.
        more_epochs: train the finished run of `config` for so many more epochs, as a new run.
        verify: which files of the dataset are read again to find out whether they changed.

    Raises:
        FerError: something is missing or cannot be read.
    """
    check_packages(config.tracking)
    wanted = longer(config, more_epochs) if more_epochs else config
    begins = fresh or not checkpoint.exists(RunDirectory(outputs / wanted.run_id))
    parent = find_parent(config, more_epochs, outputs) if begins and more_epochs else None
    if begins and not parent:
        find_weights(config.model, outputs)
    return Checked(wanted, parent, load_manifest(config.dataset, verify), verify)
