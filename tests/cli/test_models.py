"""`fer models`: what it prints, what it draws, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from fer_bench.registry import BACKBONES

Fer = Callable[..., Result]


@pytest.fixture
def config(tiny: dict[str, Any], write_config: Callable[..., Path]) -> Path:
    """An experiment whose data is not there."""
    return write_config(tiny | {"dataset": {"name": "affectnet", "root": "nowhere"}})


@pytest.fixture
def two_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take their time."""
    monkeypatch.setattr(BACKBONES, "names", lambda: ["cnn_compact", "cnn_slides"])


@pytest.mark.usefixtures("two_backbones")
def test_the_list_is_one_document(fer: Fer) -> None:
    result = fer("models", "--json")
    assert result.exit_code == 0, result.output
    assert [entry["name"] for entry in json.loads(result.stdout)] == ["cnn_compact", "cnn_slides"]


@pytest.mark.usefixtures("two_backbones")
def test_the_list_is_a_table(fer: Fer) -> None:
    result = fer("models")
    assert result.exit_code == 0, result.output
    for words in ("cnn_compact", "1.6 M", "16 px", "RGB / 127.5 - 1"):
        assert words in result.stdout


def test_show_prints_one_document_and_draws(fer: Fer, config: Path, tmp_path: Path) -> None:
    plot = tmp_path / "new" / "plan.png"
    result = fer("models", "show", config, "--json", "--plot", plot)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["name"] == "tiny"
    assert len(document["classes"]) == 8
    assert [stage["layers"] for stage in document["stages"]] == [0, 12]
    assert str(plot) in result.stderr.replace("\n", "")
    with Image.open(plot) as image:
        assert image.width > 1000


def test_show_prints_a_table_that_fits_a_terminal(fer: Fer, config: Path) -> None:
    result = fer("models", "show", config, "--set", "dataset.contempt=drop")
    assert result.exit_code == 0, result.output
    for words in ("cnn_compact", "7 classes", "head_logits", "1-1", "2-3"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("{last: 2000}", "stage 'all': last: 2000 of 49 backbone layers"),
        ("{from: conv9d}", "stage 'all': the backbone has no layer or block 'conv9d'"),
    ],
)
def test_a_stage_that_does_not_fit_ends_with_a_message(
    fer: Fer, config: Path, tmp_path: Path, train: str, message: str
) -> None:
    plot = tmp_path / "plan.png"
    result = fer("models", "show", config, "--plot", plot, "--set", f"stages.1.train={train}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not plot.exists()
