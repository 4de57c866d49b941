"""Output on a stream that cannot show everything, or that is closed, full or left early."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
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


def leaves(command: Any, name: str = "") -> Iterator[str]:
    """The names of all commands below a group: `data stats`."""
    for child, sub in getattr(command, "commands", {}).items():
        yield from leaves(sub, f"{name} {child}".strip())
    if not getattr(command, "commands", {}):
        yield name


@pytest.fixture(scope="module")
def place(
    trained_run: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder whose name no other encoding has, with a config, a suite, a space and a run."""
    folder = tmp_path_factory.mktemp("läufe → 怒")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    (folder / "suite.yaml").write_text("description: one\nruns: [tiny.yaml]\n")
    (folder / "table.txt").write_text(
        "precision recall f1-score support\n\nangry 0.50 0.50 0.50 2\nhappy 0.75 0.75 0.75 4\n\n"
        "accuracy 0.67 6\nmacro avg 0.62 0.62 0.62 6\nweighted avg 0.67 0.67 0.67 6\n"
    )
    rows = [f"f{i}.png,{'happy' if i % 2 else 'sad'},0.{i + 1},0.{9 - i}" for i in range(8)]
    (folder / "answers.csv").write_text("sample_id,label,p_happy,p_sad\n" + "\n".join(rows) + "\n")
    shutil.copytree(trained_run, folder / "outputs" / trained_run.name)
    return folder


CALLS: dict[str, str] = {
    "train": "tiny.yaml --outputs outputs",
    "evaluate": "{run} --outputs outputs",
    "explain": "{run} --outputs outputs -n 4",
    "report": "{run} --outputs outputs",
    "compare": "outputs",
    "adopt": "mine answers.csv --outputs outputs --fresh",
    "check-table": "table.txt",
    "validate": "tiny.yaml",
    "schema": "",
    "doctor": "--seconds 0 --outputs outputs",
    "sweep": "suite.yaml --dry-run --outputs outputs",
    "sync": "--outputs outputs",
    "data prepare": "drawn --root new --force",
    "data stats": "tiny.yaml",
    "data audit": "tiny.yaml --quarantine q.csv --groups g.csv",
    "data show": "tiny.yaml --output sheet.png -n 4",
    "models": "",
    "models show": "tiny.yaml",
    "cache stats": "",
    "cache clear": "images",
}


def test_every_command_is_tried() -> None:
    assert set(leaves(typer.main.get_command(app))) <= set(CALLS), "add the new command to CALLS"


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


@pytest.mark.parametrize("encoding", ENCODINGS)
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
        ("fer compare | head -1", {0, 141}),
        pytest.param("fer schema | head -1", {0, 141}, marks=pytest.mark.slow),
        pytest.param("fer schema | true", {0, 141}, marks=pytest.mark.slow),
        ("fer --help | true", {0, 141}),
        pytest.param("fer compare nowhere 2>&1 | true", {2, 141}, marks=pytest.mark.slow),
        pytest.param("fer compare >&-", {0}, marks=pytest.mark.slow),
        pytest.param("fer compare nowhere 2>&-", {2}, marks=pytest.mark.slow),
        ("fer schema > /dev/full", {2}),
        pytest.param("fer compare > /dev/full", {2}, marks=pytest.mark.slow),
        pytest.param("fer compare nowhere 2> /dev/full", {2}, marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_is_left_closed_or_full(line: str, codes: set[int], place: Path) -> None:
    done = shell(line, place)
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


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
