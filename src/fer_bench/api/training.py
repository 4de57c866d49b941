"""From an experiment to a trained run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fer_bench.api.choices import one_of
from fer_bench.api.devices import Progress, open_device, open_display
from fer_bench.api.experiments import experiment_file, load_experiment
from fer_bench.api.runs import Run
from fer_bench.config.experiment import Experiment
from fer_bench.data.contents import Verify
from fer_bench.device.kernels import Kernels
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.training.parent import longer
from fer_bench.training.preflight import FINISHED, Checked, check_training, is_finished

if TYPE_CHECKING:
    from fer_bench.device.selection import Device


def train(  # noqa: PLR0913 - the options of `fer train`
    experiment: Experiment | str | Path,
    outputs: str | Path = "outputs",
    device: str = "auto",
    progress: Progress = None,
    *,
    fresh: bool = False,
    more_epochs: int | None = None,
    threads: int | None = None,
    verify: Verify = "sample",
) -> Run:
    """Train an experiment to its end, or continue where it was interrupted.

    A run that is finished is returned as it is.

    >>> import fer_bench
    >>> run = fer_bench.train("configs/drawn_compact.yaml")
    >>> run.status
    'finished'

    Args:
        experiment: an experiment, or its file or a run, as for `load_experiment`.
        outputs: the folder of the runs.
        device: `auto`, `cpu`, `gpu` or `gpu:<index>`.
        progress: where progress is shown: any `Display`; None for a table and curves in a notebook,
            a live line on a terminal and plain lines elsewhere; False for nowhere.
        fresh: train it from the beginning. The present run stays until there is a checkpoint.
        more_epochs: train the finished run of this experiment for so many more epochs of its last
            stage, as a new run.
        threads: threads to compute with on the CPU; None for one per usable core.
        verify: which files of the dataset are read again to find out whether they changed:
            `sample`, `all` or `none`.

    Raises:
        FerError: the experiment, the data, the device or the run directory do not allow it.
        Interrupted: the user stopped it; the state is saved, and the same call continues.
    """
    one_of("verify", verify, get_args(Verify))
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment_file(Path(experiment), Path(outputs)))
    training = prepare_training(
        experiment,
        Path(outputs),
        fresh=fresh,
        more_epochs=more_epochs,
        skip_finished=not fresh,
        verify=verify,
    )
    with open_display(progress, training.begun) as display:
        chosen = None
        if training.checked:
            begun_with = None if fresh else training.begun_with
            chosen = open_device(device, threads, begun_with=begun_with, message=display.message)
        return Run(run_training(training, chosen, display, fresh=fresh))


@dataclass(frozen=True)
class PreparedTraining:
    """A training whose data and weights are there.

    Attributes:
        run: the folder of its run.
        checked: what is trained; None where nothing is left to train.
    """

    run: RunDirectory
    checked: Checked | None

    @property
    def begun(self) -> RunDirectory:
        """The run with the epochs that are done: the one that it continues, or its own."""
        parent = self.checked.parent if self.checked else None
        return parent.run if parent else self.run

    @property
    def begun_with(self) -> Kernels | None:
        """The kernels with which these epochs were trained; None if there are none, or unknown."""
        try:
            return self.begun.read_record().kernels
        except RunError:  # there is none, or training names what is wrong
            return None


def prepare_training(
    experiment: Experiment,
    outputs: Path,
    *,
    fresh: bool,
    more_epochs: int | None,
    skip_finished: bool,
    verify: Verify = "sample",
) -> PreparedTraining:
    """Check everything that can be checked before TensorFlow is imported. Raises: FerError."""
    run = RunDirectory(outputs / longer(experiment, more_epochs or 0).run_id)
    if skip_finished and is_finished(run):
        return PreparedTraining(run, None)
    checked = check_training(
        experiment, outputs, fresh=fresh, more_epochs=more_epochs, verify=verify
    )
    return PreparedTraining(run, checked)


def run_training(
    training: PreparedTraining, device: "Device | None", display: Display, *, fresh: bool
) -> RunDirectory:
    """Train what was prepared; the run. Raises: FerError, Interrupted."""
    checked = training.checked
    if checked is None or device is None:
        display.message(FINISHED.format(run_id=training.run.run_id))
        return training.run

    from fer_bench.training.train import train as train_run

    return train_run(
        checked.config,
        training.run.outputs,
        device,
        display,
        fresh=fresh,
        manifest=checked.manifest,
        parent=checked.parent,
        verify=checked.verify,
    )
