"""The run directory: the name of every file in it, its readers and its lock."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_bench.errors import DataError, RunError, shortened
from fer_bench.runs import successor
from fer_bench.runs.history import Epoch, read_history
from fer_bench.storage.files import (
    check_name,
    is_there,
    read_json,
    remove_abandoned,
    why_unreadable,
    write_beside,
)
from fer_bench.storage.locks import (
    LOCK,
    BusyError,
    held,
    is_locked,
    read_holder,
)
from fer_bench.storage.replacement import settle_files

if TYPE_CHECKING:
    from fer_bench.data.contents import TrainedOn
    from fer_bench.data.manifest import Manifest
    from fer_bench.runs.record import RunRecord, Status

# Nothing is written deeper than `explanations/test/x.png`; folders that others made may be.
_HIDDEN = (".*", "*/.*", "*/*/.*")


@dataclass(frozen=True)
class RunDirectory:
    """`<outputs>/<run_id>/`: all files of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """The id of the run, which is the name of its folder."""
        return self.path.name

    @property
    def outputs(self) -> Path:
        """The folder of all runs."""
        return successor.outputs_of(self.path)

    @property
    def config(self) -> Path:
        """The resolved experiment."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Status, device, versions, dataset, model and best epoch; see `RunRecord`."""
        return self.path / "run.json"

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / "history.csv"

    @property
    def model(self) -> Path:
        """The selected model."""
        return self.path / "model.keras"

    @property
    def state(self) -> Path:
        """The folder of the checkpoint from which training resumes."""
        return self.path / "state"

    @property
    def figures(self) -> Path:
        """The folder of PNG figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The self-contained page of this run."""
        return self.path / "report.html"

    def predictions(self, evaluation: str) -> Path:
        """The saved predictions of one evaluation: a split, `test+flip` or `test@other`."""
        return self.path / "predictions" / _file(evaluation, "csv")

    def metrics(self, evaluation: str) -> Path:
        """The metrics computed from the saved predictions of one evaluation."""
        return self.path / "metrics" / _file(evaluation, "json")

    def corruptions(self, evaluation: str) -> Path:
        """The robustness of one evaluation to corrupted images; the predictions are beside it."""
        return self.path / "corruptions" / _file(evaluation, "json")

    def explanations(self, split: str) -> Path:
        """The folder of the Grad-CAM sheets of a split."""
        return self.path / "explanations" / _file(split)

    def read_record(self) -> "RunRecord":
        """`run.json`. Raises: RunError naming the file, the key and the problem."""
        from fer_bench.runs.record import read_record

        return read_record(self.run_json)

    def read_history(self) -> list[Epoch]:
        """The epochs in `history.csv`; none where it is missing. Raises: RunError."""
        return read_history(self.history)

    def read_json(self, path: Path) -> dict[str, Any]:
        """One JSON object of an evaluation. Raises: RunError naming the file and the problem."""
        try:
            document = read_json(path)
            if not isinstance(document, dict):
                raise ValueError(f"expected an object, found {type(document).__name__}")
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path}: cannot be read as JSON ({why_unreadable(error)}).\n"
                f"Evaluate the run again: fer evaluate {self.run_id}"
            ) from error
        return document

    def status(self) -> "Status | None":
        """The status in `run.json`, or None if the run has not started."""
        return self.read_record().status if is_there(self.run_json) else None

    def is_adopted(self) -> bool:
        """Whether its predictions were adopted, so that it has no model."""
        return self.read_record().is_adopted

    def trained_on(self, advice: str) -> "TrainedOn":
        """The content that this run was trained on. Raises: RunError."""
        from fer_bench.data.contents import TrainedOn

        return TrainedOn(self.run_id, advice, self.read_record().dataset.content_digest or {})

    def check_labels(self, manifest: "Manifest") -> None:
        """Check that class, valence, arousal and attributes are those this run was trained on.

        Raises:
            DataError: some of them are not.
        """
        from fer_bench.data.contents import LABELS, labels_digest

        trained_on = (self.read_record().dataset.content_digest or {}).get(LABELS)
        if trained_on not in (None, labels_digest(manifest.samples)):
            raise DataError(
                f"{manifest.root}: labels of the {len(manifest.samples):,} samples changed since "
                f"{self.run_id} was trained (valence, arousal, or the attributes of people).\n"
                "Restore the files, or train the run again with --fresh."
            )

    def check_dataset(self, root: Path, fingerprint: str, trained_on: str | None = None) -> None:
        """Check that the dataset at `root` is the one this run was trained on.

        Args:
            root: the folder of the dataset.
            fingerprint: of the dataset.
            trained_on: the fingerprint to expect; None: that in `run.json`.

        Raises:
            DataError: it is another dataset, or its files have changed.
            RunError: the run does not record which dataset it was.
        """
        trained_on = trained_on or self.read_record().dataset.fingerprint
        if trained_on is None:
            raise RunError(
                f"{self.run_json}: dataset.fingerprint is missing: which dataset was this run "
                f"trained on?\nTrain the run again: fer train {self.config} --fresh"
            )
        if fingerprint != trained_on:
            raise DataError(
                f"{root}: the dataset is not the one {self.run_id} was trained on "
                f"(fingerprint {fingerprint[:12]}, in the run {trained_on[:12]}).\n"
                "Restore the files, or train the run again with --fresh."
            )

    def replace_file(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Let `write` make a file beside `path`, then move it to `path` in one step."""
        write_beside(path, path.with_name(f".writing-{path.name}"), write)

    def is_begun(self) -> bool:
        """Whether the folder contains anything but the lock."""
        return self.path.is_dir() and any(path.name != LOCK for path in self.path.iterdir())

    def is_locked(self) -> bool:
        """Whether a process holds this run, or trains its successor."""
        return is_locked(self.path / LOCK) or successor.is_replaced(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this run for one process; the lock vanishes with the process, however it ends.

        The leftovers of a killed process are removed.

        Raises:
            RunError: another process holds it; the message names that process.
        """
        successor.settle(self.path)
        if successor.is_replaced(self.path):
            raise self._busy(read_holder(successor.beside(self.path) / LOCK))
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(self.path / LOCK))
            except BusyError as error:
                raise self._busy(error.holder) from error
            self._clear_left_behind()
            try:
                yield
            finally:
                if self.path.is_dir() and not self.is_begun():
                    shutil.rmtree(self.path)

    def _busy(self, holder: str) -> RunError:
        return RunError(
            f"{self.path}: this run is being trained by {holder}.\n"
            "Wait for it to end, stop it, or train under another --outputs."
        )

    def settle(self) -> None:
        """Finish or undo what a killed evaluation left, and remove its temporary files.

        Raises:
            OSError: files that belong together cannot be put in their places.
        """
        settle_files(self.path)
        self.clear_left_behind()

    def clear_left_behind(self) -> None:
        """Remove the leftovers of a killed process, unless another one holds the run."""
        if not self.is_locked():
            with contextlib.suppress(OSError):  # of another user, or on a read-only disk
                self._clear_left_behind()

    def _clear_left_behind(self) -> None:
        for path in chain.from_iterable(map(self.path.glob, _HIDDEN)):
            remove_abandoned(path)
        if self.state.exists() and self._has_ended_without_state():
            shutil.rmtree(self.state)

    def _has_ended_without_state(self) -> bool:
        """Whether it was killed at its end, when only the state was left to be removed."""
        try:
            record = self.read_record()
        except RunError:
            return False
        return record.status == "finished" and bool(record.ended) and not record.state_kept


def _file(evaluation: str, suffix: str = "") -> str:
    """The name of a file of an evaluation. Raises: RunError for a path out of its folder."""
    try:
        return check_name(f"{check_name(evaluation)}.{suffix}" if suffix else evaluation)
    except ValueError as error:
        raise RunError(
            f"{shortened(evaluation)}: is no evaluation; it {error}.\n"
            "Give a split, or a name such as test+flip or test@fer2013_csv."
        ) from error


def find_run(outputs: Path, run_id: str) -> RunDirectory:
    """The run called `run_id`. Raises: RunError naming the existing runs."""
    try:
        run = RunDirectory(outputs / check_name(run_id))
    except ValueError as error:
        # A path that leads nowhere is said to be no run, a name only if it could be one.
        why = "" if "/" in run_id else f"that {error}; "
        raise _no_run(outputs, run_id, why) from error
    with contextlib.suppress(OSError):  # read-only runs stay as they are
        successor.settle(run.path)
    if is_there(run.run_json):
        run.clear_left_behind()
        return run
    raise _no_run(outputs, run_id)


def _no_run(outputs: Path, run_id: str, why: str = "") -> RunError:
    present = [other.run_id for other in list_runs(outputs)]
    found = f"holds {', '.join(present[:8])}" if present else "holds no runs"
    return RunError(
        f"{outputs}: no run called {shortened(run_id)}; {why}it {found}.\n"
        "Give one of these, or the folder that holds the run with --outputs."
    )


def list_runs(outputs: Path) -> list[RunDirectory]:
    """The runs below `outputs`, sorted by id. Raises: RunError if the folder is missing."""
    if not outputs.is_dir():
        raise RunError(
            f"{outputs}: no such folder.\nGive the folder that holds your runs, or train one first."
        )
    successor.settle_all(outputs)
    runs = map(RunDirectory, sorted(outputs.iterdir()))
    return [run for run in runs if is_there(run.run_json)]
