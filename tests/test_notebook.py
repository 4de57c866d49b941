"""The notebook in `docs/notebooks`: it is well formed, and gives the numbers of the commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
