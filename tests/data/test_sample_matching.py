"""Names of samples from elsewhere: ids, and paths in any form."""

from pathlib import Path

import pandas as pd
import pytest

from fer_bench.data.manifest import Manifest
from fer_bench.data.sample_matching import how_paths_differ, sample_ids

TEST = [f"DATASET/test/{label}/{number:04d}.jpg" for label in (1, 2) for number in range(3)]
TRAIN = [path.replace("test", "train") for path in TEST]
IDS = [f"t{number}" for number in range(6)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve files below `raf`, and a link to that folder."""
    for path in (*TEST, *TRAIN):
        (tmp_path / "raf" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raf" / path).touch()
    (tmp_path / "link").symlink_to("raf")
    return tmp_path / "raf"


def manifest(root: Path) -> Manifest:
    samples = pd.DataFrame(
        {
            "sample_id": [*IDS, *(f"r{number}" for number in range(6))],
            "path": [*TEST, *TRAIN],
            "split": ["test"] * 6 + ["train"] * 6,
            "label": ["fear", "anger"] * 6,
        }
    )
    return Manifest("rafdb", "v", root, ("fear", "anger"), 3, samples)


@pytest.mark.parametrize(
    "lies", ["raf", "./raf", "{here}/raf", "link", "{here}/link", "sub/../raf"]
)
@pytest.mark.parametrize(
    "begin",
    [
        "",
        "./",
        "raf/",
        "{here}/raf/",
        "{here}/link/",
        "link/",
        "/home/other/raf/",
        "C:\\\\x\\\\raf\\\\",
    ],
)
def test_paths_of_the_images_are_their_ids(
    root: Path, lies: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = root.parent
    monkeypatch.chdir(here)
    (here / "sub").mkdir()
    read = manifest(Path(lies.format(here=here)))
    given = [f"{begin.format(here=here)}{path}" for path in TEST]
    if "\\" in begin:
        given = [path.replace("/", "\\") for path in given]
    assert sample_ids(given, read, "test") == IDS


def test_ids_come_first(root: Path) -> None:
    assert sample_ids(IDS[::-1], manifest(root), "test") == IDS[::-1]


def test_the_end_of_a_path_may_be_all_that_is_given(root: Path) -> None:
    given = [path.removeprefix("DATASET/") for path in TEST]
    assert sample_ids(given, manifest(root), "test") == IDS


@pytest.mark.parametrize(
    "given",
    [
        TRAIN,  # another split
        [path.removeprefix("DATASET/test/") for path in TEST],  # of the test or the training split
        [path.replace("DATASET", "ALIGNED") for path in TEST],
        [f"/other/train/{path.removeprefix('DATASET/test/')}" for path in TEST],
        [*TEST[:5], "DATASET/test/2/9999.jpg"],
        [*TEST[:5], TEST[0]],
        [*TEST[:5], ""],
    ],
)
def test_what_may_be_other_images_is_left_as_it_is(root: Path, given: list[str]) -> None:
    assert sample_ids(given, manifest(root), "test") == given


def test_files_of_the_same_content_are_not_the_same_files(root: Path, tmp_path: Path) -> None:
    for path in TEST:
        (tmp_path / "copy" / path.removeprefix("DATASET/test/")).parent.mkdir(
            parents=True, exist_ok=True
        )
        (tmp_path / "copy" / path.removeprefix("DATASET/test/")).touch()
    given = [str(tmp_path / "copy" / path.removeprefix("DATASET/test/")) for path in TEST]
    assert sample_ids(given, manifest(root), "test") == given


def test_samples_that_share_a_file_are_not_named_by_it(root: Path) -> None:
    read = manifest(root)
    read.samples["path"] = "fer2013.csv"
    given = ["fer2013.csv"] * 6
    assert sample_ids(given, read, "test") == given


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (
            "/home/o/DATASET/images/1/0001.jpg",
            "The file has paths such as /home/o/DATASET/images/1/0001.jpg, the dataset "
            "DATASET/test/1/0001.jpg: cut everything before DATASET/.",
        ),
        (
            "D:\\faces\\1\\0002.jpg",
            "the dataset DATASET/test/1/0002.jpg: let each begin with DATASET/.",
        ),
    ],
)
def test_paths_that_fit_nothing_are_shown_beside_those_that_would(
    root: Path, given: str, advice: str
) -> None:
    assert advice in how_paths_differ([given], manifest(root), "test")


def test_names_that_are_no_paths_need_no_advice_about_paths(root: Path) -> None:
    assert how_paths_differ(["nobody"], manifest(root), "test") == ""
