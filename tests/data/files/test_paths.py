"""No name in an archive or a list leads out of the folder of its dataset."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import save
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets import image_list
from fer_bench.data.files.archive import unpack
from fer_bench.errors import DataError

parts = st.sampled_from(["..", ".", "", "a", "b.jpg", "C:", "c:b.jpg", "~", "..\\..", "‥", " .."])
names = st.builds(
    lambda begin, inner, end: begin + "/".join([*inner, end]),
    st.sampled_from(["", "/", "\\", "\\\\host\\", "../"]),
    st.lists(parts, max_size=4),
    st.sampled_from(["b.jpg", "x.png", "..", "a"]),
)
within_a_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def zipped(path: Path, members: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in dict.fromkeys(members):
            archive.writestr(zipfile.ZipInfo(name), b"image")
    return path


def tarred(path: Path, members: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"image"))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
@within_a_test
@given(st.lists(names, min_size=1, max_size=3))
def test_members_of_an_archive_stay_in_its_folder(
    tmp_path: Path, pack: Callable[[Path, list[str]], Path], members: list[str]
) -> None:
    top = tmp_path / "top"
    shutil.rmtree(top, ignore_errors=True)
    root = top / "inner" / "root"
    root.parent.mkdir(parents=True)
    archive = pack(tmp_path / "archive", ["kept/a.jpg", *members])
    try:
        unpack(archive, root, force=False)
    except DataError:
        assert not root.exists()
    outside = [path for path in top.rglob("*") if path.is_file() and root not in path.parents]
    assert [path.name for path in outside] in ([], [".root.lock"])


@within_a_test
@given(names)
def test_paths_in_a_list_stay_in_the_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    for path in ("happy.jpg", "sad.jpg", "a/b.jpg"):
        save(Image.new("L", (4, 4)), root / path)
        save(Image.new("L", (4, 4)), tmp_path / path)
    (root / "labels.csv").write_text(f"path,label\nhappy.jpg,happy\nsad.jpg,sad\n{name},fear\n")
    try:
        samples = image_list.read(Dataset(name="list", root=root)).samples
    except DataError:
        return
    for path in samples["path"]:
        assert os.path.normpath(path) == path
        assert (root / path).resolve().is_relative_to(root.resolve())
