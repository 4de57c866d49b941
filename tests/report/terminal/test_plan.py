"""The plan of an experiment on the terminal."""

import io
from typing import Any

from rich.console import Console

from fer_bench.config.experiment import Experiment
from fer_bench.report.terminal.plan import plan_table


def shown(document: dict[str, Any], width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(plan_table(Experiment.model_validate(document)))
    return text.getvalue()


def test_each_stage_has_its_epochs_and_what_trains(tiny: dict[str, Any]) -> None:
    text = shown({"name": "tiny", **tiny}, 100)
    assert "tiny-s7-" in text
    head, last = text.splitlines()[-2:]
    assert "head" in head
    assert "1-1" in head
    assert "0.001 constant" in head
    assert "2-3" in last
    assert "last 12 layers and head" in last
    assert "0.001 cosine" in last


def test_warm_up_patience_and_optimizer_of_a_stage_are_shown(tiny: dict[str, Any]) -> None:
    stage = {
        "name": "fine",
        "train": {"from": "conv2d_3"},
        "epochs": 9,
        "learning_rate": 0.1,
        "warmup": 1.5,
        "patience": 4,
        "optimizer": "sgd",
    }
    text = shown({"name": "tiny", **tiny, "stages": [stage]}, 100)
    for part in ("1-9", "from conv2d_3", "sgd", "warm-up 1.5", "patience 4"):
        assert part in text
