"""`fer sync`: what trackers have not got yet."""

from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.console import say
from fer_bench.cli.options import Outputs
from fer_bench.runs.directory import RunDirectory


def sync(
    run_ids: Annotated[
        list[str] | None, typer.Argument(help="The runs. Default: all that are tracked.")
    ] = None,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Send to MLflow or TensorBoard what tracked runs could not send before."""
    from fer_bench.runs.tracking.mirror import check_packages, tracked_by

    tracked = [(run, name) for run in _chosen(run_ids, outputs) for name in tracked_by(run)]
    check_packages(sorted({name for _, name in tracked}))
    failures = _send(tracked)
    if failures:
        from fer_bench.runs.tracking.mirror import TrackingError

        advice = "Nothing is lost: run `fer sync` again when this is fixed."
        raise TrackingError("\n".join([*failures, advice]))


def _chosen(run_ids: list[str] | None, outputs: Path) -> list[RunDirectory]:
    """The chosen runs. Raises: RunError if one is missing or has no tracker."""
    from fer_bench.errors import RunError
    from fer_bench.runs.directory import list_runs
    from fer_bench.runs.names import runs_named
    from fer_bench.runs.tracking.mirror import tracked_by

    if not run_ids:
        return list_runs(outputs)
    runs = runs_named(outputs, run_ids)
    for run in runs:
        if not tracked_by(run):
            raise RunError(
                f"{run.run_id}: its experiment has no tracking, so there is nowhere to send it.\n"
                "Train with --set tracking=[mlflow], or --set tracking=[tensorboard]."
            )
    return runs


def _send(tracked: list[tuple[RunDirectory, str]]) -> list[str]:
    """Send each run to its trackers; returns the errors.

    A tracker that cannot be reached is not tried again for the other runs.
    """
    from fer_bench.runs.tracking.mirror import TrackingError, UnreachableError, open_tracker

    failures, silent, sent = [], set(), 0
    for run, name in tracked:
        if name in silent:
            continue
        try:
            parcel = open_tracker(name, run).send()
        except TrackingError as error:
            failures.append(f"{name}: {error}.")
            silent |= {name} if isinstance(error, UnreachableError) else set()
            continue
        if parcel:
            sent += 1
            say(f"{run.run_id}: {name}: {parcel}")
    if not sent and not failures:
        say("nothing to send")
    return failures
