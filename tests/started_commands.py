"""A process that starts commands as a shell does, each in a process of its own.

They are forked from one that has imported everything, so that each is spared the seconds that
importing TensorFlow takes. `python started_commands.py` reads jobs from standard input, as JSON:
each has the `arguments` of a command and a `shell` that starts it: `plain`, `closed` or `full`
(standard output), `pipe` (whose reader is gone) or `nohup`. It writes `code`, `out` and `err`.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
from typing import Any


def import_everything() -> None:
    """Import what any command imports."""
    import fer_bench.cli

    for module in pkgutil.walk_packages(fer_bench.__path__, "fer_bench."):
        if not module.name.endswith(("__main__", "ray_engine")):
            importlib.import_module(module.name)


def redirect(shell: str, out: int, err: int) -> None:
    """Give this process the standard streams that a shell would."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    if shell == "closed":
        os.close(1)
        sys.stdout = sys.__stdout__ = None  # type: ignore[misc]
    elif shell == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif shell == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    elif shell == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def main() -> None:
    """Start every job. In the process of a command, this ends as the command does."""
    jobs: list[dict[str, Any]] = json.load(sys.stdin)
    import_everything()
    gc.freeze()  # or each process would spend seconds on collecting all of it when it ends
    for job in jobs:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                redirect(job["shell"], out.fileno(), err.fileno())
                sys.argv = ["fer", *job["arguments"]]
                from fer_bench.cli import main as fer

                fer()
                return
            _, status = os.waitpid(child, 0)
            job["code"] = os.waitstatus_to_exitcode(status)
            for name, file in (("out", out), ("err", err)):
                file.seek(0)
                job[name] = file.read().decode(errors="replace")
    json.dump(jobs, sys.stdout)


if __name__ == "__main__":
    main()
