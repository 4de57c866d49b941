"""Names of runs and evaluations as they are typed: none of them leads out of its folder."""

import os
from pathlib import Path

import filled
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.errors import ConfigError, RunError
from fer_bench.runs.directory import RunDirectory, find_run
from fer_bench.runs.names import LATEST, check_evaluation, named_run, run_at
from fer_bench.storage.files import LONGEST_NAME, check_name, is_name

# Texts that lead out of a folder, or that no folder can hold.
NO_NAMES = ("", ".", "..", "../x", "a/b", "/etc", "a\0b", "x" * 256, "ü" * 128, "../../x", "a/")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run. Do not change it."""
    outputs = tmp_path_factory.mktemp("named") / "outputs"
    outputs.mkdir()
    (outputs.parent / "run.json").write_text("{}")  # beside it: no name leads there
    filled.write_run(outputs / "cnn-s1-00000000", images=20)
    return outputs


# One function decides ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_is_no_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ValueError, match=r"^(is|has|holds|cannot)"):
        check_name(text)


@pytest.mark.parametrize("text", ["a", "...", "..a", "a..b", "-", "test@x+flip", "ü", "x" * 255])
def test_what_is_a_name(text: str) -> None:
    assert check_name(text) == text


@given(st.text() | st.text(alphabet="./\\\0ab~ ü\ud800", max_size=12))
def test_a_name_stays_in_its_folder(text: str) -> None:
    """Whatever is accepted is one entry of the folder that it is put in."""
    if is_name(text):
        path = os.path.normpath(os.path.join("/folder", text))  # noqa: PTH118 - as the system does
        assert os.path.dirname(path) == "/folder"  # noqa: PTH120
        assert len(os.fsencode(text)) <= LONGEST_NAME
        assert Path("/folder", text).parent == Path("/folder")


# Runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [name for name in NO_NAMES if "\0" not in name])
def test_a_run_is_never_looked_for_elsewhere(written: Path, text: str) -> None:
    """`..` was taken, and a name of 256 bytes ended in a traceback."""
    with pytest.raises(RunError) as raised:
        find_run(written, text)
    says(raised.value, written, "cnn-s1-00000000")


def test_the_run_above_is_called_as_its_folder(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written / "cnn-s1-00000000" / "metrics")
    found = run_at(Path(".."))
    assert found is not None
    assert found.run_id == "cnn-s1-00000000"


@pytest.mark.parametrize("text", ["x" * 300, "d/" * 3000, "\0"])
def test_what_no_file_system_could_hold_is_no_run(written: Path, text: str) -> None:
    with pytest.raises(RunError) as raised:
        named_run(written, text)
    says(raised.value, "cnn-s1-00000000")
    assert len(str(raised.value)) < 500


def test_a_loop_of_links_is_no_run(written: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RunError):
        named_run(written, str(tmp_path / "loop"))


@pytest.mark.parametrize("content", ["{", '{"seed": "x"}', "[" * 1000])
def test_a_damaged_run_does_not_hide_the_latest(tmp_path: Path, content: str) -> None:
    filled.write_run(tmp_path / "whole-s1-00000000", images=20)
    (tmp_path / "damaged-s1-00000000").mkdir()
    (tmp_path / "damaged-s1-00000000" / "run.json").write_text(content)
    assert named_run(tmp_path, LATEST).run_id == "whole-s1-00000000"


# Evaluations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NO_NAMES)
def test_a_file_of_an_evaluation_is_in_its_run(text: str) -> None:
    """`fer compare --split ../../x` read a file outside the run."""
    run = RunDirectory(Path("outputs/a"))
    for place in (run.predictions, run.metrics, run.corruptions, run.explanations):
        with pytest.raises(RunError):
            place(text)


@pytest.mark.parametrize(
    "name",
    ["test", "train", "validation", "test+flip", "test@x", "validation@fer_csv+ten_crop"],
)
def test_an_evaluation(name: str) -> None:
    check_evaluation(name)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("tset", "'test'"),
        ("val", "validation"),
        ("", "train, validation, test"),
        ("../../x", "train, validation, test"),
        ("test+flop", "flip"),
        ("test+", "ten_crop"),
        ("test@", "@"),
        ("test@../x", "@"),
        ("test@..", "@"),
        ("test/../test", "test+flip"),
        ("x" * 1000, "train"),
    ],
)
def test_no_evaluation(name: str, part: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_evaluation(name)
    says(raised.value, part, "test+flip")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("typed", ["cnn-s1-00000000", "cnn", LATEST])
def test_what_a_killed_process_left_is_settled_however_the_run_is_named(
    tmp_path: Path, typed: str
) -> None:
    """A run that was found by its whole id kept it."""
    run = filled.write_run(tmp_path / "cnn-s1-00000000", images=20)
    left = run.path / ".history.csv.999999999.tmp"
    left.write_text("half")
    assert named_run(tmp_path, typed).path == run.path
    assert not left.exists()
