"""`fer sweep`: all runs of a suite, or a search."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.compare import show_comparison
from fer_bench.cli.console import messages, say
from fer_bench.cli.options import Json, Outputs, Overrides
from fer_bench.cli.shell import mention, notify
from fer_bench.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from fer_bench.comparison import Comparison
    from fer_bench.sweep.job import Job, Outcome
    from fer_bench.sweep.suite import Suite


def sweep(
    suite: Annotated[
        Path, typer.Argument(help="YAML file of the suite; with --search, of an experiment.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    overrides: Overrides = None,
    outputs: Outputs = Path("outputs"),
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only every N-th run, starting with the I-th, and the runs these depend on; for "
            "job arrays.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of runs at a time. Default: one per device; with --engine ray, as many as "
            "there are resources for."
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device of a run; several devices (gpu:0,gpu:1) are used in turn."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads of each run. Default: all usable cores, shared by the runs.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: on this machine or on a cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --engine ray: a running cluster, or auto. Default: this machine only.",
        ),
    ] = None,
    cpus_per_run: Annotated[
        float, typer.Option(min=0, help="With --engine ray: cores reserved for each run.")
    ] = 1.0,
    gpus_per_run: Annotated[
        float, typer.Option(min=0, help="With --engine ray: GPUs reserved for each run.")
    ] = 0.0,
    search: Annotated[
        Path | None,
        typer.Option(
            metavar="SPACE",
            help="Search for the best values of one experiment, in the space of this YAML file.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="With --search: number of trials, including earlier ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and evaluate every run of a suite, then compare them all.

    A failed run does not stop the others. Finished runs are not repeated, and
    interrupted runs are resumed.
    """
    one_of("--engine", engine, ("local", "ray"))
    devices = [name for names in device or ["auto"] for name in names.split(",")]
    place = Place(engine, address, workers, devices, threads, (cpus_per_run, gpus_per_run))
    place.check()
    if trials is not None and search is None:
        raise ConfigError(f"--trials {trials}: has no effect without --search.")
    if search is not None:
        _search(suite, search, overrides or [], trials, outputs, place, (dry_run, as_json), part)
        return

    from fer_bench.sweep.scheduler import job_status, make_job, sweep_folder
    from fer_bench.sweep.suite import load_suite

    loaded = load_suite(suite, overrides or [])
    if part is not None:
        loaded = loaded.part(*_fraction(part))
    folder = sweep_folder(outputs, loaded)
    jobs = [make_job(run, outputs, folder) for run in loaded.runs]
    before = {job.run_id: job_status(job) for job in jobs}
    if dry_run:
        _show_plan(loaded, before, as_json)
        return
    left = [job for job in jobs if before[job.run_id] != "finished"]
    outcomes = _execute(loaded, outputs, left, place) if left else {}
    comparison = None if part else _compare(outputs, before, outcomes)
    if as_json:
        _print_json(loaded, before, outcomes, comparison)
    elif comparison:
        show_comparison(comparison)
    if comparison:
        _write_page(comparison, folder / "comparison.html", jobs)
    _repeat_warnings(outcomes)
    _name_failed(left, outcomes)


@dataclass(frozen=True)
class Place:
    """Where the runs are executed, and how many at a time."""

    engine: str
    address: str | None
    workers: int | None
    devices: list[str]
    threads: int | None
    share: tuple[float, float]

    def check(self) -> None:
        """Raises: FerError for options that are invalid, or do not go together."""
        from fer_bench.sweep.local_engine import check_workers

        check_workers(self.workers, self.devices)
        if self.engine == "ray" and len(self.devices) > 1:
            raise ConfigError(
                f"--device {','.join(self.devices)}: Ray chooses the devices itself.\n"
                "Use --gpus-per-run to give each run one."
            )
        if self.engine == "local" and self.address is not None:
            raise ConfigError(f"--address {self.address}: has no effect without --engine ray.")

    def open(self, outputs: Path, folder: Path) -> Any:
        """The engine, a context manager. Raises: ConfigError if it is not available."""
        if self.engine == "local":
            from fer_bench.sweep.local_engine import LocalEngine

            return LocalEngine(self.workers, self.devices, self.threads)
        from fer_bench.sweep.ray_engine import RayEngine, Share

        return RayEngine(
            outputs.absolute(),
            folder.absolute(),
            Share(*self.share),
            address=self.address,
            workers=self.workers,
            device=self.devices[0],
            threads=self.threads,
        )


def _search(
    config: Path,
    space: Path,
    overrides: Sequence[str],
    trials: int | None,
    outputs: Path,
    place: Place,
    shown: tuple[bool, bool],
    part: str | None,
) -> None:
    """Run a search, whose trials run on this machine."""
    if place.engine != "local" or part is not None:
        found = "--part" if part is not None else "--engine ray"
        raise ConfigError(f"{found}: has no effect with --search, which trains on this machine.")
    from fer_bench.cli.search import search
    from fer_bench.sweep.search.search import Slots

    dry_run, as_json = shown
    slots = Slots(place.workers or len(place.devices), tuple(place.devices), place.threads)
    search(
        config,
        space,
        overrides=overrides,
        trials=trials,
        outputs=outputs,
        slots=slots,
        dry_run=dry_run,
        as_json=as_json,
    )


def _fraction(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ConfigError(f"--part {text}: expected I/N, for example 1/4.")
    return int(index), int(count)


def _execute(
    suite: "Suite", outputs: Path, left: Sequence["Job"], place: Place
) -> dict[str, "Outcome"]:
    """Execute the remaining runs. Raises: Interrupted if stopped before all are finished."""
    from fer_bench.device.signals import stop_on_signals
    from fer_bench.report.terminal.sweep import open_sweep_display
    from fer_bench.sweep.progress import Follower
    from fer_bench.sweep.scheduler import run_jobs, sweep_folder

    ids = {job.run_id for job in left}
    skipped = [run.run_id for run in suite.runs if run.run_id not in ids]
    needs = {run.run_id: run.needs for run in suite.runs if run.needs}
    outcomes: dict[str, Outcome] = {}
    engines = place.open(outputs, sweep_folder(outputs, suite))
    with stop_on_signals() as stop, engines as engine:
        display = open_sweep_display(Follower(suite.runs, outputs, skipped), messages)
        try:
            outcomes = run_jobs(left, needs, engine, stop, display)
        finally:
            display.close(outcomes)
    finished = sum(outcome.status == "finished" for outcome in outcomes.values())
    if stop.is_set() and finished < len(left):
        raise Interrupted(
            f"{len(skipped) + finished} of {len(suite.runs)} runs are finished; the same "
            "`fer sweep` continues from here"
        )
    return outcomes


def _show_plan(suite: "Suite", before: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        document = {"suite": suite.name, "runs": _described(suite, before)}
        say(json.dumps(document, indent=2))
        return
    width = max(map(len, before))
    for run_id, status in before.items():
        say(f"{run_id:<{width}}  {status}")
    left = sum(status != "finished" for status in before.values())
    say(f"{len(before)} runs, {left} of them to be done")


def _described(suite: "Suite", before: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run.run_id,
            "name": run.experiment.name,
            "seed": run.experiment.seed,
            "config": str(run.config),
            "status": before[run.run_id],
        }
        for run in suite.runs
    ]


def _compare(
    outputs: Path, before: Mapping[str, str], outcomes: Mapping[str, "Outcome"]
) -> "Comparison | None":
    """The comparison of the finished runs; None if there are none."""
    from fer_bench.comparison.collect import collect

    ended = {run_id for run_id, outcome in outcomes.items() if outcome.status == "finished"}
    ended |= {run_id for run_id, status in before.items() if status == "finished"}
    return collect(outputs, only=ended) if ended else None


def _print_json(
    suite: "Suite",
    before: Mapping[str, str],
    outcomes: Mapping[str, "Outcome"],
    comparison: "Comparison | None",
) -> None:
    runs = _described(suite, before)
    for run in runs:
        outcome = outcomes.get(run["run_id"])
        run["outcome"] = outcome.status if outcome else "skipped"
        run["message"] = outcome.message if outcome else ""
        run["warnings"] = list(outcome.warnings) if outcome else []
    document = {
        "suite": suite.name,
        "runs": runs,
        "comparison": comparison.to_json() if comparison else None,
    }
    say(json.dumps(document, indent=2))


def _write_page(comparison: "Comparison", path: Path, jobs: Sequence["Job"]) -> None:
    """Write the page of the comparison, unless it is newer than everything it shows."""
    shown = [job.run.metrics("test") for job in jobs]
    newest = max(file.stat().st_mtime for file in shown if file.exists())
    if not path.exists() or path.stat().st_mtime < newest:
        from fer_bench.report.pages import write_comparison

        write_comparison(comparison, path)
    mention("page", path)


def _repeat_warnings(outcomes: Mapping[str, "Outcome"]) -> None:
    """Show every warning once: nobody reads the logs of runs that succeeded."""
    counts = Counter(line for outcome in outcomes.values() for line in outcome.warnings)
    for line, count in counts.items():
        notify(f"warning ({count} of {len(outcomes)} runs): {line}")


def _name_failed(jobs: Sequence["Job"], outcomes: Mapping[str, "Outcome"]) -> None:
    """Show which runs did not finish, and why. Raises: typer.Exit(1) if there are any."""
    failed = [job for job in jobs if outcomes[job.run_id].status != "finished"]
    for job in failed:
        outcome = outcomes[job.run_id]
        notify(f"{outcome.status}: {job.run_id}: {outcome.message}\n  log: {job.log}")
    if failed:
        messages.print(f"{len(failed)} of {len(jobs)} runs did not finish; the others did")
        raise typer.Exit(1)
