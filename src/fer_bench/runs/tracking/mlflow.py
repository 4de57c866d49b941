"""MLflow: a run on the server that `MLFLOW_TRACKING_URI` names."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.tracking.outbox import (
    Parcel,
    Sent,
    TimedEpoch,
    TrackingError,
    UnreachableError,
    best_epoch,
    facts,
    measured,
    milliseconds,
    parameters,
    sending,
    unsent,
)

ADDRESS = "MLFLOW_TRACKING_URI"
# Unless the user sets them: the client gives up soon, since the next send tries again; it prints
# nothing between the results, and sends no telemetry.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
KEY_TAG = "fer_bench.key"
STATUSES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
# What a server accepts in one request: parameters, and epochs with some 20 values each.
PARAMETERS_AT_ONCE = 100
EPOCHS_AT_ONCE = 40
LONGEST_PARAMETER = 500
# A column that every epoch has.
COUNTED = "seconds"


class MLflow:
    """Sends what is new of a run to its run on the server, which all processes share."""

    name = "mlflow"

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._client: Any = None

    def send(self) -> Parcel:
        """Send what the server does not have yet, and return it.

        Raises:
            UnreachableError: nobody answers.
            TrackingError: the server refuses it, or the package is missing.
        """
        with sending(self._run, self.name) as sent:
            if not unsent(self._run, sent):
                return Parcel()
            address = _address()
            with _explained(address, self._run):
                from mlflow import MlflowClient

                self._client = self._client or MlflowClient(address)
                self._open(sent)
                parcel = unsent(self._run, sent)
                self._deliver(parcel, sent)
        return parcel

    # The run on the server --------------------------------------------------------------------

    def _open(self, sent: Sent) -> None:
        """Make sure that the server has the run, and that `sent` is what it has of it."""
        if "run" in sent.server and not self._is_there(sent):
            sent.forget()
        if "run" not in sent.server:
            # Written down first: after a kill, the run that was just made is found by its key.
            sent.server.setdefault("key", secrets.token_hex(8))
            sent.save()
            sent.server["run"] = self._create(sent.server["key"])
            sent.save()
        if sent.server.get("epochs_begun", 0) > sent.epochs:  # it may have come, unanswered
            points = self._client.get_metric_history(sent.server["run"], COUNTED)
            sent.epochs = max([sent.epochs, *(point.step for point in points)])
            sent.save()

    def _is_there(self, sent: Sent) -> bool:
        """Whether the server knows the run. Raises: TrackingError where it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(sent.server["run"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        if found.info.lifecycle_stage != "active":
            raise TrackingError(
                f"{self._run.run_id} was deleted on the server. Restore it there, or remove "
                f"{sent.path} and it is sent as a new run"
            )
        return True

    def _create(self, key: str) -> str:
        """The id of the server's run with `key`, with its tags and parameters."""
        client, tags = self._client, facts(self._run) | {KEY_TAG: key}
        experiment = self._experiment(f"fer-bench/{tags.get('dataset', 'unknown')}")
        found = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        started = milliseconds(self._run.read_record().started)
        run = found[0] if found else client.create_run(experiment, started, tags, tags["run_id"])
        settings = [
            self._entity("Param", _name(key), value[:LONGEST_PARAMETER])
            for key, value in parameters(self._run).items()
        ]
        for first in range(0, len(settings), PARAMETERS_AT_ONCE):
            client.log_batch(run.info.run_id, params=settings[first : first + PARAMETERS_AT_ONCE])
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        """The id of the experiment called `name`, which another process may be making too."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            with contextlib.suppress(MlflowException):
                return str(self._client.create_experiment(name))
            found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment '{name}' cannot be used on the server: it was deleted, or must not be "
                "made. Restore it there"
            )
        return str(found.experiment_id)

    # What it gets -----------------------------------------------------------------------------

    def _deliver(self, parcel: Parcel, sent: Sent) -> None:
        """Send the parts of `parcel`, each written down as it arrives.

        Files come last: they go to a store of their own, which may fail where the rest does not.
        """
        for first in range(0, len(parcel.epochs), EPOCHS_AT_ONCE):
            self._send_epochs(parcel.epochs[first : first + EPOCHS_AT_ONCE], sent)
        metrics = [name for name in parcel.files if name.endswith(".json")]
        for name in metrics:
            self._send_metrics(name, sent)
            self._note(name, parcel, sent)
        if parcel.status:
            self._send_status(parcel.status, sent)
        for name in parcel.files:
            if name not in metrics:
                self._send_file(name, sent)
                self._note(name, parcel, sent)

    def _note(self, name: str, parcel: Parcel, sent: Sent) -> None:
        sent.files[name] = parcel.files[name]
        sent.save()

    def _send_epochs(self, epochs: list[TimedEpoch], sent: Sent) -> None:
        sent.server["epochs_begun"] = epochs[-1].number
        sent.save()
        points = [
            self._point(key, value, epoch.time, epoch.number)
            for epoch in epochs
            for key, value in epoch.values.items()
        ]
        self._client.log_batch(sent.server["run"], metrics=points)
        sent.epochs = epochs[-1].number
        sent.save()

    def _send_metrics(self, name: str, sent: Sent) -> None:
        # With the time of the file: the same point sent twice is one point on the server.
        written, step = (self._run.path / name).stat().st_mtime, best_epoch(self._run)
        points = [
            self._point(key, value, written, step)
            for key, value in measured(self._run, name).items()
        ]
        self._client.log_batch(sent.server["run"], metrics=points)

    def _send_status(self, status: str, sent: Sent) -> None:
        run, client = sent.server["run"], self._client
        client.set_tag(run, "status", status)
        if status == "running":
            client.update_run(run, STATUSES[status])
        else:
            client.set_terminated(
                run, STATUSES[status], milliseconds(self._run.read_record().ended)
            )
        sent.status = status
        sent.save()

    def _send_file(self, name: str, sent: Sent) -> None:
        folder = str(PurePosixPath(name).parent)
        path = str(self._run.path / name)
        try:
            self._client.log_artifact(sent.server["run"], path, None if folder == "." else folder)
        except Exception as error:
            # The store of files may be another service, with a library and errors of its own.
            raise TrackingError(f"{name} cannot be stored ({_reason(error)})") from error

    def _point(self, key: str, value: float, seconds: float, step: int) -> Any:
        return self._entity("Metric", _name(key), value, int(seconds * 1000), step)

    def _entity(self, kind: str, *values: Any) -> Any:
        from mlflow import entities

        return getattr(entities, kind)(*values)


def _name(text: str) -> str:
    """`text` with what MLflow takes in a name: `test+flip` becomes `test_flip`."""
    return re.sub(r"[^\w./ -]", "_", text)


def _address() -> str:
    address = os.environ.get(ADDRESS)
    if not address:
        raise UnreachableError(
            f"{ADDRESS} is not set: set it to the address of your MLflow server, "
            "for example http://127.0.0.1:5000"
        )
    return address


@contextlib.contextmanager
def _explained(address: str, run: RunDirectory) -> Iterator[None]:
    """Turn what the client raises into one sentence. The package is imported here first."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.exceptions import MlflowException, RestException
    except ImportError as error:
        raise TrackingError(
            f"the package mlflow cannot be imported ({error}): pip install 'fer-bench[mlflow]'"
        ) from error
    try:
        yield
    except RestException as error:
        raise TrackingError(f"{address} refuses {run.run_id} ({_reason(error)})") from error
    except MlflowException as error:
        raise UnreachableError(
            f"{address} does not answer as an MLflow server ({_reason(error)})"
        ) from error


def _reason(error: BaseException) -> str:
    """What lies at the bottom of a chain of errors, in at most 200 characters."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else f"{text[:197]}..."
