"""A user's Keras file, notebook and variables change neither what is computed nor whether it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiers import some_fast

from fer_bench import settings

SHOW = """
import json, fer_bench, keras
from fer_bench import settings
print(json.dumps({
    "settings": {name: getattr(keras.config, name)() for name in settings.KERAS},
    "nnx": keras.config.is_nnx_enabled(),
    "most_epochs": keras.config.max_epochs(),
    "home": keras.src.backend.config.keras_home(),
    "told": settings.overridden(),
    "again": settings.overridden(),
}))
"""
DRAW = """
import json, fer_bench, matplotlib
from matplotlib.figure import Figure
print(json.dumps({"backend": matplotlib.get_backend(), "size": matplotlib.rcParams["font.size"]}))
"""
CHANNELS_FIRST = {"floatx": "float64", "epsilon": 0.01, "image_data_format": "channels_first"}


def python(
    code: str,
    *arguments: object,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run code in a new process, in which nothing is imported yet."""
    usual = {name: text for name, text in os.environ.items() if not name.startswith("KERAS_")}
    usual |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**usual, **(variables or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def keras_home(folder: Path, document: Any) -> dict[str, str]:
    """The variable that makes Keras read this document."""
    (folder / "keras.json").write_text(
        document if isinstance(document, str) else json.dumps(document)
    )
    return {"KERAS_HOME": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "variables", "told"),
    [
        pytest.param(
            None,
            {"KERAS_BACKEND": "torch", "KERAS_NNX_ENABLED": "1"},
            ["KERAS_BACKEND=torch"],
            marks=pytest.mark.slow,
        ),
        pytest.param("{not json", {"KERAS_MAX_EPOCHS": "many"}, [], marks=pytest.mark.slow),
        (
            CHANNELS_FIRST,
            {},
            ["image_data_format channels_first", "floatx float64", "epsilon 0.01"],
        ),
        pytest.param(
            {"backend": "torch", "floatx": "float8"},
            {},
            ["backend torch", "floatx float8"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keras_is_ours(
    tmp_path: Path, document: Any, variables: dict[str, str], told: list[str]
) -> None:
    """The case `users-keras-and-notebook` (b): no module named torch."""
    home = keras_home(tmp_path, document) if document is not None else {"KERAS_HOME": str(tmp_path)}
    found = json.loads(python(SHOW, variables=home | variables).stdout)
    assert found["settings"] == settings.KERAS
    assert (found["nnx"], found["most_epochs"]) == (False, None)
    assert found["home"] == str(tmp_path)  # weights are looked for where the user keeps them
    assert len(found["told"]) == len(told)
    assert all(part in line for part, line in zip(told, found["told"], strict=True))
    assert found["again"] == []
    assert document is not None or not any(tmp_path.iterdir())  # nothing is written there


@pytest.mark.slow
def test_the_usual_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"backend": "torch"}))
    found = json.loads(python(SHOW, variables={"HOME": str(tmp_path)}).stdout)
    assert found["home"] == str(tmp_path / ".keras")
    assert found["settings"] == settings.KERAS


@pytest.mark.parametrize(
    "variables",
    some_fast(
        [
            {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
            {"MPLBACKEND": "nonsense"},
            {"MPLCONFIGDIR": "/proc/nowhere"},
            {"MATPLOTLIBRC": "broken"},
            {},
        ],
        {"MATPLOTLIBRC": "broken"},
    ),
)
def test_matplotlib_is_ours(tmp_path: Path, variables: dict[str, str]) -> None:
    """The case `users-keras-and-notebook` (a): what every notebook sets for what it starts."""
    for name in ("broken", "matplotlibrc"):
        (tmp_path / name).write_text("font.size: 40\nbackend: nonsense\nno colon\n")
    done = python(DRAW, cwd=tmp_path, variables=variables)
    assert json.loads(done.stdout) == {"backend": "agg", "size": 10}
    assert done.stderr == ""


def test_in_a_notebook_matplotlib_stays_the_users() -> None:
    code = "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n" + (
        "import os, fer_bench; print(os.environ['MPLBACKEND'])"
    )
    assert python(code, variables={"MPLBACKEND": "svg"}).stdout == "svg\n"


@pytest.mark.slow
@pytest.mark.parametrize("program", ["fer_bench.cli", "fer_bench"])
def test_commands_do_not_wait_for_what_keras_imports_for_others(program: str) -> None:
    """A program still has those parts of Keras."""
    code = (
        f"import {program}, sys, keras\n"
        "found = [name for name in ('sklearn', 'matplotlib') if name in sys.modules]\n"
        "import sklearn, matplotlib\n"  # they can be imported afterwards
        "print(found)"
    )
    found = python(code).stdout.strip()
    assert found.startswith("[]" if program == "fer_bench.cli" else "['sklearn', 'matplotlib']")


@pytest.mark.slow
def test_keras_that_was_there_before_is_refused() -> None:
    code = (
        "import keras\nkeras.config.set_image_data_format('channels_first')\n"
        "from fer_bench.device.selection import open_device\n"
        "from fer_bench.errors import DeviceError\n"
        "try:\n    open_device('cpu')\nexcept DeviceError as error:\n    print(error)\n"
    )
    assert "with image_data_format channels_first" in python(code).stdout


@pytest.mark.slow
def test_the_same_run_gives_the_same_bits(
    trained_run: Path,
    tiny: dict[str, Any],
    write_config: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The case `users-keras-and-notebook` (c): Conv2DCustomBackpropInputOp only supports NHWC."""
    hostile = keras_home(tmp_path, CHANNELS_FIRST | {"backend": "torch"}) | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline"
    }
    fer = "from fer_bench.cli import main; main()"
    outputs = tmp_path / "outputs"
    trained = python(fer, "train", write_config(tiny), "--outputs", outputs, variables=hostile)
    python(fer, "evaluate", trained_run.name, "--outputs", outputs, variables=hostile)
    assert trained.stderr.count("is not used: fer-bench computes with") == 4
    run = outputs / trained_run.name
    for name in ("predictions/test.csv", "config.yaml"):
        assert (run / name).read_bytes() == (trained_run / name).read_bytes()
    ours, theirs = (
        pd.read_csv(path / "history.csv").filter(regex="loss|accuracy|f1")
        for path in (run, trained_run)
    )
    assert ours.equals(theirs)
