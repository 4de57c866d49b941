"""A folder to type commands in."""

import shutil
from pathlib import Path

import pytest
from typed_files import EXPERIMENT

from fer_bench.evaluation.adopt import Adoption, adopt


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs that need no training, and their tables. Do not change it."""
    folder = tmp_path_factory.mktemp("adopted")
    for number, name in enumerate(("one", "other", "third")):
        table = folder / f"{name}.csv"
        rows = [f"{i}.png,{'happy' if i % 2 else 'sad'},0.{i + number + 1}" for i in range(7)]
        table.write_text(
            "sample_id,label,p_happy,p_sad\n"
            + "".join(f"{row},{1 - float(row.rpartition(',')[2]):.1f}\n" for row in rows)
        )
        adopt(Adoption(name, number, table, "test", None), folder / "outputs", fresh=False)
    return folder


@pytest.fixture
def here(adopted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_root: Path) -> Path:
    """The current folder, with a config, faces, and the three adopted runs."""
    shutil.copytree(adopted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    (tmp_path / "faces").symlink_to(drawn_root)
    return tmp_path
