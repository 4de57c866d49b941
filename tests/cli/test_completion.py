"""The Tab key, in bash itself: `fer --install-completion` installs the script that runs here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
SCRIPT = """
eval "$(_FER_COMPLETE=source_bash fer)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_fer_completion fer
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a run, and a `bin` with the command `fer`."""
    root = tmp_path_factory.mktemp("completion")
    (root / "configs").mkdir()
    (root / "configs" / "small.yaml").touch()
    (root / "configs" / "notes.txt").touch()
    run = root / "outputs" / "small-s1-0123abcd"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "finished"}))
    command = root / "bin" / "fer"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom fer_bench.cli import main\nmain()\n")
    command.chmod(0o755)
    return root


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["train", "configs/"], {"configs/small.yaml"}),
        (["train", "x.yaml", "--set", "training.b"], {"training.batch_size="}),
        *(
            pytest.param(words, completed, marks=pytest.mark.slow)
            for words, completed in (
                (["ev"], {"evaluate"}),
                (["train", "small"], {"small-s1-0123abcd"}),
                (["evaluate", "s"], {"small-s1-0123abcd"}),
                (["evaluate", "--outputs", "nowhere", ""], {"latest"}),
                (["evaluate", "--split", ""], {"train", "validation", "test"}),
            )
        ),
    ],
)
def test_tab_completes(here: Path, words: list[str], completed: set[str]) -> None:
    assert BASH
    environment = os.environ | {
        "PATH": f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [BASH, "-c", SCRIPT, "bash", "fer", *words],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == completed
