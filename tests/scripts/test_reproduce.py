"""`scripts/reproduce.py`: a row for each experiment of the prior work, measured or not."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import reproduce

from fer_bench.comparison import Row
from fer_bench.config.loading import load_experiment
from fer_bench.sweep.suite import Planned, Suite

SUITES = reproduce.CONFIGS / "suites"


def rows(page: str) -> dict[str, list[str]]:
    """The cells of the table of experiments, by their names."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def test_without_runs_all_23_say_what_is_printed_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "KERAS_WEIGHTS", tmp_path)
    page = reproduce.page([], tmp_path / "outputs")
    table = rows(page)
    assert len(table) == 23
    assert table["rafdb_effv2l_unfreeze45"][:4] == [
        "val accuracy 0.6622; val loss 1.075; train accuracy 0.899; train loss 0.3212",
        "rafdb (data/rafdb), ImageNet weights",
        "no",
        "not run",
    ]
    assert table["pisa_t1"][1] == "opencv_emotion (data/opencv_emotion)"
    assert all(cells[2:] == ["no", "not run", "—"] for cells in table.values())


def test_what_is_at_hand_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "KERAS_WEIGHTS", tmp_path)
    experiment = load_experiment(SUITES.parent / "pisa_vgg16_frozen.yaml", [])
    here = experiment.dataset.model_copy(update={"root": tmp_path})
    experiment = experiment.model_copy(update={"dataset": here})
    assert reproduce.missing(experiment) == ["ImageNet weights"]
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    assert reproduce.missing(experiment) == []


@pytest.mark.slow
def test_what_stands_for_an_experiment_is_named_where_it_is_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "KERAS_WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    link = "with other weights or faces: [ippm](#ippm)"
    for suite, said in (("ippm", link), ("pisa", "no")):
        page = reproduce.page([SUITES / f"{suite}.yaml"], tmp_path / "outputs")
        assert rows(page)["ippm_resnet50_ippm"][2] == said


def test_stand_ins_are_of_experiments_and_suites_that_there_are() -> None:
    assert set(reproduce.STAND_INS) <= {path.stem for path in reproduce.CONFIGS.glob("*.yaml")}
    assert set(reproduce.STAND_INS.values()) <= {path.stem for path in SUITES.glob("*.yaml")}


def test_a_suite_without_runs_says_so(tmp_path: Path) -> None:
    part = reproduce.suite_part(SUITES / "pisa.yaml", tmp_path)
    assert part.startswith("## pisa\n")
    assert "0 of 15 runs are finished" in part


def row(seed: int, accuracy: float) -> Row:
    cell = {"value": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.03}
    facts = {field.name: None for field in fields(Row)}
    return Row(**facts | {"name": "cnn", "seed": seed, "n": 1000, "metrics": {"accuracy": cell}})  # type: ignore[arg-type]


def test_seeds_are_shown_with_their_spread_and_an_interval() -> None:
    runs = [row(1, 0.40), row(2, 0.42), row(3, 0.44)]
    assert reproduce.shown(runs) == "accuracy 42.0 % ± 2.0 (3 seeds, n = 1,000, one run ± 2.5)"
    assert reproduce.shown(runs[:1]) == "accuracy 40.0 % (1 seed, n = 1,000, one run ± 2.5)"


def test_a_trained_run_of_a_suite_is_in_its_table(trained_run: Path) -> None:
    experiment = load_experiment(trained_run / "config.yaml", [])
    suite = Suite("tiny", "One run.", (Planned(experiment, trained_run / "config.yaml"),))
    comparison = reproduce.compared(suite, trained_run.parent)
    before = {"tiny": ["accuracy of yesterday", "worse"]}
    (line,) = reproduce.experiment_table(suite, comparison, [], before)[2:]
    (cells,) = rows(line).values()
    assert cells[1:3] == ["nothing", "in full"]
    assert cells[3].startswith("accuracy ")
    assert "1 seed, n = 48" in cells[3]


@pytest.mark.slow
def test_what_has_no_runs_here_stays_on_the_page(tmp_path: Path) -> None:
    pisa, slides = SUITES / "pisa.yaml", SUITES / "slides.yaml"
    first = reproduce.page([pisa], tmp_path)
    measured = first.replace("0 of 15", "15 of 15").replace(
        next(line for line in first.splitlines() if line.startswith("| `pisa_t1`")),
        "| `pisa_t1` | accuracy 0 | nothing | no | accuracy 38.8 % | consistent |",
    )
    second = reproduce.page([slides], tmp_path, measured)
    assert rows(second)["pisa_t1"][3:] == ["accuracy 38.8 %", "consistent"]
    assert rows(second)["pisa_t1"][0] != "accuracy 0"
    assert rows(second)["pisa_t2"][3:] == ["not run", "—"]
    assert list(reproduce.parts_of(second)) == ["The 23 experiments", "pisa", "slides"]
    assert "15 of 15 runs are finished" in second
    assert reproduce.page([slides], tmp_path, second) == second
    assert "0 of 15 runs are finished" in reproduce.page([pisa], tmp_path, second)


def test_the_page_is_what_the_script_makes_of_it() -> None:
    """So that no run is needed to bring its first lines and its order up to date."""
    page = (SUITES.parents[1] / reproduce.PAGE).read_text()
    assert page.startswith(reproduce.INTRODUCTION)
    assert set(reproduce.parts_of(page)) - {"The 23 experiments"} <= {
        path.stem for path in SUITES.glob("*.yaml")
    }
