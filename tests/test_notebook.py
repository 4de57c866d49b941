"""The notebook in `docs/notebooks`: it is well formed, and gives the numbers of the commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from messages import says

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
DOCUMENT = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in DOCUMENT["cells"] if cell["cell_type"] == "code"]


def test_no_output_is_committed() -> None:
    assert DOCUMENT["nbformat"] == 4
    cells = [cell for cell in DOCUMENT["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)
    assert all(cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in DOCUMENT["cells"]}) == len(DOCUMENT["cells"])


@pytest.mark.slow
def test_the_notebook_gives_the_metrics_of_the_commands(
    tmp_path: Path, tiny: dict[str, Any], trained_run: Path
) -> None:
    """Its cells run in a fresh process, in the folder of the notebook, on few and small faces."""
    (tmp_path / "configs").mkdir()
    document = yaml.safe_dump({"name": "tiny", **tiny})
    (tmp_path / "configs" / "drawn_compact.yaml").write_text(document)
    folder = tmp_path / "docs" / "notebooks"
    folder.mkdir(parents=True)
    (folder / "cells.py").write_text("\n\n".join(CODE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "comparison.html").is_file()
    found, expected = (
        json.loads((run / "metrics" / "test.json").read_text())
        for run in (tmp_path / "outputs" / trained_run.name, trained_run)
    )
    assert found == expected


@pytest.mark.slow
def test_a_kernel_shows_a_table_and_curves_and_commands_plain_lines(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    places = os.pathsep.join(sys.path)
    paths = f"import os, sys; sys.path[:0] = {sys.path!r}; os.environ['PYTHONPATH'] = {places!r}"
    cells = (
        paths,
        "import fer_bench; run = fer_bench.train('tiny.yaml')",
        f"!{sys.executable} -m fer_bench train tiny.yaml --outputs others",
        "run = fer_bench.train('tiny.yaml', more_epochs=1)",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()

    _, trained, command, continued = (cell["outputs"] for cell in notebook["cells"])
    (output,) = (one for one in trained if "data" in one)  # updated, not repeated
    html = output["data"]["text/html"]
    says(html, "epochs trained", "the best is epoch", "validation accuracy")
    assert html.count("<figure") == 2
    assert "<progress" not in html
    text = "".join(one["text"] for one in command)
    assert "\x1b" not in text
    assert "\r" not in text.replace("\r\n", "\n")
    assert max(map(len, text.splitlines())) <= 200
    says(text, "val_loss", "tiny-s7-")
    epochs = sum(stage["epochs"] for stage in tiny["stages"])
    html = next(one for one in continued if "data" in one)["data"]["text/html"]
    says(html, f"{epochs + 1} epochs trained", "continuing from")
    assert html.count("<tr") == 1 + epochs + 1  # with those of the run that it continues
