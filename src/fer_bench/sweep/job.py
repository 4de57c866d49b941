"""Trains and evaluates one run in its own processes, or stops it with its state saved."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fer_bench.config.experiment import Experiment
from fer_bench.config.overrides import with_value
from fer_bench.config.section import Section
from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.files import write_atomically
from fer_bench.storage.locks import Lock, ask, is_locked
from fer_bench.sweep.parent import PARENT

# How often, in seconds, a waiting job checks whether to stop and whether its turn has come.
PAUSE = 0.2
LAST_LINES = 3
# `fer` of this environment; -P: no file in the working directory can shadow a module.
FER = (sys.executable, "-P", "-m", "fer_bench")
_USER_CAN_FIX = 2  # exit status of `fer` on an expected error
INTERRUPTED = (130, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A run to complete. It is plain text and can be sent to another machine.

    Attributes:
        run_id: the run id of `config`.
        config: the experiment as YAML, from `config_text`.
        outputs: the folder of the runs.
        evaluation: the split to evaluate after training: `train`, `validation` or `test`; or None.
        device: as in `fer train --device`.
        threads: as in `fer train --threads`; None: one per usable core.
        log: the file to append the output to; the experiment is written beside it.
        folder: the folder that paths are relative to; None: the working directory.
    """

    run_id: str
    config: str
    outputs: str
    evaluation: str | None
    device: str
    threads: int | None
    log: str
    folder: str | None = None

    @property
    def run(self) -> RunDirectory:
        """The directory of the run."""
        return RunDirectory(Path(self.folder or ".", self.outputs, self.run_id))

    @property
    def is_done(self) -> bool:
        """Whether the run is trained, and evaluated if wanted.

        Raises:
            RunError: `run.json` cannot be read.
        """
        is_evaluated = self.evaluation is None or self.run.metrics(self.evaluation).exists()
        return self.run.status() == "finished" and is_evaluated


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: `interrupted`: it was stopped, and the next job of the run resumes it.
        message: the last lines of its output; empty if it is finished.
        seconds: its duration, including all waiting.
        warnings: its distinct warnings.
    """

    status: Literal["finished", "failed", "interrupted"]
    message: str
    seconds: float
    warnings: tuple[str, ...] = ()


def config_text(experiment: Experiment) -> str:
    """An experiment as YAML, including keys outside the run id, such as `cache.max_gb`."""
    document = yaml.safe_load(experiment.to_yaml())
    for key, value in _outside_the_id(experiment):
        document = with_value(document, key, value, key)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _outside_the_id(section: Section) -> Iterator[tuple[str, Any]]:
    """The dotted keys that `to_yaml` leaves out, if they differ from their default."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from ((f"{name}.{key}", inner) for key, inner in _outside_the_id(value))
        elif field.exclude and value != field.get_default(call_default_factory=True):
            yield name, list(value) if isinstance(value, tuple) else value


def not_stopped() -> bool:
    """The default of `run_job`: nobody stops it."""
    return False


def run_job(job: Job, stopped: Callable[[], bool] = not_stopped) -> Outcome:
    """Train a run, or resume it, then evaluate it; finished parts are not repeated.

    While another process is working on the same run, this one waits and then does the rest. Call it
    from a thread that lives as long as the job: however the thread ends, Linux then stops the
    processes that it started, with their state saved.

    Args:
        job: the run.
        stopped: called several times per second; once it returns True, the run is stopped, with its
            state saved.
    """
    began, log = time.monotonic(), Path(job.log)
    start = log.stat().st_size if log.exists() else 0
    status, message = _run(job, stopped)
    seconds = round(time.monotonic() - began, 3)
    return Outcome(status, message, seconds, _warnings(_text_from(log, start)))


_Ending = tuple[Literal["finished", "failed", "interrupted"], str]
_FINISHED: _Ending = ("finished", "")
_STOPPED: _Ending = ("interrupted", "")


def _run(job: Job, stopped: Callable[[], bool]) -> _Ending:
    log, claim_path = Path(job.log), _claim_path(job.run)
    for path in (log, claim_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with claim_path.open("a") as claim, log.open("ab") as output:
        if not _wait_for(lambda: _take(claim.fileno(), job.run), stopped):
            return _STOPPED
        write_atomically(log.with_suffix(".yaml"), job.config)
        try:
            for arguments in _commands(job):
                start = log.stat().st_size
                code = _call(job, arguments, (output.fileno(), claim.fileno()), stopped)
                if code:
                    return _ending(code, _text_from(log, start))
        except RunError as error:
            return "failed", str(error)
    return _FINISHED


def _wait_for(condition: Callable[[], bool], stopped: Callable[[], bool]) -> bool:
    """Wait until the condition holds; False if the job is stopped before."""
    while not stopped():
        if condition():
            return True
        time.sleep(PAUSE)
    return False


def _commands(job: Job) -> Iterator[list[str]]:
    """The commands that are left, each decided after the previous one has ended."""
    common = ["--outputs", job.outputs, "--device", job.device]
    if job.threads is not None:
        common += ["--threads", str(job.threads)]
    if job.run.status() != "finished":
        yield ["train", str(Path(job.log).with_suffix(".yaml").absolute()), *common]
    if job.evaluation is not None and not job.run.metrics(job.evaluation).exists():
        yield ["evaluate", job.run_id, "--split", job.evaluation, *common]


def _call(
    job: Job, arguments: Sequence[str], files: tuple[int, int], stopped: Callable[[], bool]
) -> int:
    """The exit status of `fer`; waits for its turn if the same run is also trained by hand."""
    while True:
        code = _exit_status(job, arguments, files, stopped)
        if code != _USER_CAN_FIX or not job.run.is_locked():
            return code
        if not _wait_for(lambda: not job.run.is_locked(), stopped):
            return -signal.SIGTERM


def _exit_status(
    job: Job, arguments: Sequence[str], files: tuple[int, int], stopped: Callable[[], bool]
) -> int:
    """Run `fer` in a process that is told to stop at most once and is always waited for.

    Args:
        job: the run.
        arguments: the arguments of `fer`.
        files: the file descriptors of the log and of the claim, which the process inherits.
        stopped: whether to stop.
    """
    output, claim = files
    os.write(output, f"$ fer {' '.join(arguments)}\n".encode())
    process = subprocess.Popen(
        [*FER, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=job.folder,
        env=_environment(),
        start_new_session=True,  # Ctrl-C reaches only the sweep, which passes it on once
        pass_fds=[claim],
    )
    try:
        if not _wait_for(lambda: process.poll() is not None, stopped):
            process.terminate()
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _environment() -> dict[str, str]:
    # A job trains alone, even if this process is one of several workers of something else.
    alone = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return alone | {PARENT: str(os.getpid())}


def _ending(code: int, output: str) -> _Ending:
    lines = [line.rstrip() for line in output.splitlines()[1:] if line.strip()]  # skips the command
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    last = lines[errors[-1] :] if errors else lines[-LAST_LINES:]
    if code < 0 and code not in INTERRUPTED:
        last.append(f"ended by {signal.Signals(-code).name}")
    status: Literal["failed", "interrupted"] = "interrupted" if code in INTERRUPTED else "failed"
    return status, "\n".join(last).removeprefix("error: ")


def _warnings(output: str) -> tuple[str, ...]:
    start = "warning: "
    lines = (line.strip() for line in output.splitlines() if line.startswith(start))
    return tuple(dict.fromkeys(line.removeprefix(start) for line in lines))


def _text_from(path: Path, start: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


# Claims ----------------------------------------------------------------------------------------


def _claim_path(run: RunDirectory) -> Path:
    """The file that a job locks. It is beside the runs, so that all sweeps share it."""
    return run.outputs / "sweeps" / ".claims" / run.run_id


def _take(claim: int, run: RunDirectory) -> bool:
    """Claim a run, unless another job holds it or another process trains it.

    The processes of a job inherit its claim: if the job is killed, the next one waits until they
    have saved their state.
    """
    return ask(claim) is Lock.OURS and not run.is_locked()


def is_claimed(run: RunDirectory) -> bool:
    """Whether a job, of this sweep or another one, is working on a run."""
    return is_locked(_claim_path(run))
