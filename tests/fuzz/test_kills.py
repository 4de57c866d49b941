"""40 kills, stops and full disks, after which every command does what it does undisturbed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.scale
@pytest.mark.skipif(sys.platform != "linux", reason="the injector needs /proc and LD_PRELOAD")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_a_killed_command_is_made_good_by_the_next() -> None:
    path = os.pathsep.join(str(folder) for folder in (TESTS.parent / "src", TESTS))
    command = [sys.executable, "-m", "fuzz.kills", "0", "40"]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
