"""Output on a stream that cannot show everything, or that is closed, full or left early."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import CALLS, all_commands, write_inputs
from hypothesis import given
from hypothesis import strategies as st
from messages import says
from tiers import some_fast
from typer.testing import CliRunner

from fer_bench import cli
from fer_bench.cli import app
from fer_bench.cli.console import ERRORS

ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift-jis")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("66.67 ± 0.00", "66.67 +/- 0.00"),
        ("a → b", "a -> b"),
        ("p ≥ 0.05", "p >= 0.05"),
        ("┌─┬─┐│x│", "+-+-+|x|"),
        ("▁▄█", "_-#"),
        ("naïve", "na\\xefve"),
        ("\udcfc.png", "\\xfc.png"),
        ("怒", "\\u6012"),
    ],
)
def test_what_ascii_lacks_is_spelled(text: str, spelled: str) -> None:
    assert text.encode("ascii", ERRORS).decode() == spelled


def test_what_the_encoding_has_stays() -> None:
    assert "± é →".encode("latin-1", ERRORS) == "± é ->".encode("latin-1")


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(("utf-8", *ENCODINGS)))
def test_no_text_is_too_much_for_a_stream(text: str, encoding: str) -> None:
    assert isinstance(text.encode(encoding, ERRORS), bytes)


def test_one_place_prints() -> None:
    folder = Path(cli.__file__).parent
    for path in folder.glob("*.py"):
        found = re.findall(r"\bConsole\(|typer\.echo", path.read_text())
        allowed = ["Console("] * 2 if path.name == "console.py" else []
        assert found == allowed, path


# Every command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(
    trained_run: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder whose name no other encoding has, with a config, a suite, a space and a run."""
    folder = tmp_path_factory.mktemp("läufe → 怒")
    write_inputs(folder, tiny)
    shutil.copytree(trained_run, folder / "outputs" / trained_run.name)
    return folder


def test_every_command_is_tried() -> None:
    assert all_commands() <= set(CALLS), "add the new command to CALLS"


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_no_command_fails_on_what_its_output_can_show(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case `output-encoding`: UnicodeEncodeError and exit code 1 after the work was done."""
    monkeypatch.chdir(place)
    run = next(path.name for path in (place / "outputs").glob("tiny-*"))
    arguments = [*name.split(), *CALLS[name].format(run=run).split()]
    result = CliRunner(charset="ascii").invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes.isascii()


@pytest.mark.parametrize("encoding", some_fast(ENCODINGS, "ascii", "cp437"))
@pytest.mark.parametrize("name", ["compare", "validate", "check-table", "adopt"])
def test_every_encoding_gets_a_table(
    name: str, encoding: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    arguments = [name, *CALLS[name].split()]
    result = CliRunner(charset=encoding).invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "─" not in result.stdout_bytes.decode(encoding)


@pytest.mark.parametrize("name", ["", *CALLS])
def test_help_can_be_shown(name: str) -> None:
    result = CliRunner(charset="ascii").invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert result.stdout_bytes.isascii()


def test_json_is_ascii_on_any_stream(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for arguments in (["compare", "--json"], ["cache", "stats", "--json"]):
        result = CliRunner(charset="utf-8").invoke(app, arguments)
        assert result.stdout_bytes.isascii()
        json.loads(result.stdout_bytes)


# Real streams ----------------------------------------------------------------------------------


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `fer` is this package's."""
    python = f'"{sys.executable}" -c "from fer_bench.cli import main; main()"'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
    script = f'set -o pipefail; fer() {{ {python} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        pytest.param("fer compare | head -1", {0, 141}, marks=pytest.mark.slow),
        pytest.param("fer schema | head -1", {0, 141}, marks=pytest.mark.slow),
        pytest.param("fer schema | true", {0, 141}, marks=pytest.mark.slow),
        ("fer --help | true", {0, 141}),
        pytest.param("fer compare nowhere 2>&1 | true", {2, 141}, marks=pytest.mark.slow),
        pytest.param("fer compare >&-", {0}, marks=pytest.mark.slow),
        pytest.param("fer compare nowhere 2>&-", {2}, marks=pytest.mark.slow),
        pytest.param("fer sync 2> /dev/full", {0}, marks=pytest.mark.slow),
        pytest.param("fer compare > /dev/full", {2}, marks=pytest.mark.slow),
        pytest.param("fer compare nowhere 2> /dev/full", {2}, marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_is_left_closed_or_full(line: str, codes: set[int], place: Path) -> None:
    done = shell(line, place)
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_full_output_is_named(place: Path) -> None:
    done = shell("fer schema > /dev/full", place)
    assert done.returncode == 2
    says(done.stderr, "standard output", os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "cp1252:strict"}, marks=pytest.mark.slow),
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_without_a_locale(variables: dict[str, str], place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from fer_bench.cli import main; main()", "compare"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"+/-" in done.stdout or "±".encode("cp1252") in done.stdout


def test_a_command_in_a_cell_of_a_notebook_prints_plain_lines() -> None:
    """A kernel runs it in a pseudo-terminal, and says that colours are welcome."""
    import pty

    reader, writer = pty.openpty()
    environment = {"JPY_PARENT_PID": "1", "TERM": "xterm-color", "FORCE_COLOR": "1"}
    subprocess.run(
        [sys.executable, "-m", "fer_bench", "compare", "nowhere"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdout=writer,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    text = os.read(reader, 10_000).decode()
    os.close(reader)
    assert "nowhere" in text
    assert "\x1b" not in text
