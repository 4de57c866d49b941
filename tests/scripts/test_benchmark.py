"""`scripts/benchmark.py`: its arithmetic, and how its children take turns."""

import io
import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark
from baselines import task as tasks
from baselines.children import Child, ChildError, Measurement, Reading, check_parameters, measure
from baselines.images import ImagesError, copy_images, draw_images
from baselines.outcomes import OURS, Outcome, markdown, outcomes_of
from baselines.rows import ROWS, Opponent, Row
from baselines.turns import Turns, peak_memory

SCRIPTS = Path(benchmark.__file__).parent
ROW = next(row for row in ROWS if row.name == "files_cnn_slides")
KERAS = Opponent("keras", "float32", 2.0)

# A child that notes each of its turns in a file and has trained on so many images in no time.
FAKE = """
import os, sys
from baselines.turns import open_turns
name, notes, parameters, whole = sys.argv[1:]
turns = open_turns(whole=whole == "whole")
print("libraries print what they like")
turns.ready(versions={name: "1"})
while not turns.stopped:
    with open(notes, "a") as file:
        file.write(f"{name} {os.getpid()}\\n")
    turns.end_epoch(10, int(parameters))
    if turns.whole:
        break
turns.end()
"""


def fake(name: str, notes: Path, *, parameters: int = 100, whole: bool = False) -> list[str]:
    kind = "whole" if whole else "epochs"
    return [sys.executable, "-c", FAKE, name, str(notes), str(parameters), kind]


def outcome(ours: Sequence[Reading], plain: Sequence[Reading], target: float | None) -> Outcome:
    return Outcome(ROW, replace(KERAS, target=target), ours, plain)


def test_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() -> None:
    ours = [Reading(100, 1.0), Reading(100, 2.0), Reading(100, 4.0)]
    plain = [Reading(100, 8.0), Reading(100, 6.0), Reading(100, 4.0)]
    found = outcome(ours, plain, 3.0)
    assert found.ratios == [8.0, 3.0, 1.0]
    assert found.ratio == 3.0
    assert found.speeds == pytest.approx((50.0, 100 / 6))
    assert "ratio 3.00 [1.00, 8.00], target 3, reached: yes" in str(found)


def test_ratio_counts_images_really_trained_on() -> None:
    assert outcome([Reading(96, 1.0)], [Reading(100, 1.0)], None).ratio == pytest.approx(0.96)


@pytest.mark.parametrize(("target", "reached"), [(2.0, True), (2.01, False), (None, None)])
def test_reached_from_the_target_on(target: float | None, reached: bool | None) -> None:
    assert outcome([Reading(10, 1.0)], [Reading(10, 2.0)], target).reached is reached


def test_outcomes_pair_turns_of_one_round() -> None:
    rounds = [
        {OURS: Reading(10, 1.0), "keras float32": Reading(10, 2.0), "torch float32": Reading(5, 1)},
        {OURS: Reading(10, 2.0), "keras float32": Reading(10, 8.0), "torch float32": Reading(5, 4)},
    ]
    found = outcomes_of(ROW, [KERAS, Opponent("torch", "float32")], Measurement(rounds))
    assert [of.ratios for of in found] == [[2.0, 4.0], [2.0, 4.0]]
    assert [of.opponent.name for of in found] == ["keras float32", "torch float32"]


def test_markdown_says_what_was_measured_on_what() -> None:
    machine = {
        "cpu": "A Processor",
        "cores": 2,
        "system": "Linux",
        "device": "cpu: A Processor",
        "precision": "bfloat16",
        "versions": {"keras": "3.0"},
        "images": "drawn faces",
        "scale": 0.5,
        "seed": 4,
        "pairs": 1,
        "date": "2026-01-01",
        "command": "python scripts/benchmark.py",
    }
    text = markdown([outcome([Reading(10, 1.0)], [Reading(10, 4.0)], None)], machine)
    assert "A Processor, 2 cores usable" in text
    assert "0.5 times as many as said below; seed 4" in text
    row = text.splitlines()[-1].strip("| ").split(" | ")
    assert row[3:] == ["10.0", "keras float32", "2.5", "4.00 [4.00, 4.00]", "-", "-"]
    assert text.splitlines()[-2].count("|") == text.splitlines()[-1].count("|")


def test_children_take_turns_and_the_first_two_epochs_do_not_count(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    seen: list[int] = []
    commands = {name: fake(name, notes) for name in "AB"}
    measured = measure(commands, 2, whole=False, on_round=lambda number, _: seen.append(number))
    turns = [line.split() for line in notes.read_text().splitlines()]
    assert "".join(name for name, _ in turns) == "ABBAABBA"
    assert len({process for _, process in turns}) == 2
    assert seen == [1, 2, 3, 4]
    assert len(measured.rounds) == 2
    assert measured.rounds[0]["A"].images == 10
    assert measured.facts["B"]["versions"] == {"B": "1"}
    assert all(peak > 1_000_000 for peak in measured.peak_bytes.values())


def test_whole_runs_have_a_new_process_each(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    measured = measure({name: fake(name, notes, whole=True) for name in "AB"}, 3, whole=True)
    turns = [line.split() for line in notes.read_text().splitlines()]
    assert "".join(name for name, _ in turns) == "ABBAAB"
    assert len({process for _, process in turns}) == 6
    assert len(measured.rounds) == 3


def test_networks_that_differ_are_not_compared(tmp_path: Path) -> None:
    commands = {
        "A": fake("A", tmp_path / "notes", parameters=1000),
        "B": fake("B", tmp_path / "notes", parameters=1011),
    }
    with pytest.raises(ChildError, match=r"not the same: A 1,000, B 1,011 parameters"):
        measure(commands, 1, whole=False)
    check_parameters({"A": 1000, "B": 1010})


def test_a_child_that_fails_is_named_with_what_it_said() -> None:
    code = "import sys; sys.exit('no such network')"
    said = pytest.raises(ChildError, match=r"keras ended \(1\):\nno such network")
    with Child("keras", [sys.executable, "-c", code]) as child, said:
        child.ready()


def test_a_child_that_speaks_out_of_turn_is_refused() -> None:
    code = "print('Found 10 files.')"
    said = pytest.raises(ChildError, match=r"said 'Found 10 files\.', expected 'ready'")
    with Child("keras", [sys.executable, "-c", code]) as child, said:
        child.ready()


def test_a_child_is_gone_when_the_driver_is(tmp_path: Path) -> None:
    with Child("A", fake("A", tmp_path / "notes")) as child:
        child.ready()
        process = child.process
    assert process.poll() is not None


def test_turns_end_with_stop_and_with_a_driver_that_is_gone() -> None:
    output = io.StringIO()
    turns = Turns(io.StringIO("go\nstop\n"), output, whole=False)
    turns.ready()
    assert not turns.stopped
    turns.end_epoch(10, 100)
    assert turns.stopped
    gone = Turns(io.StringIO(""), io.StringIO(), whole=False)
    gone.ready()
    assert gone.stopped
    said = [json.loads(line) for line in output.getvalue().splitlines()]
    assert said[0] == {"ready": "imports"}
    assert said[1] | {"seconds": 0} == {"epoch": 1, "seconds": 0, "images": 10, "parameters": 100}


def test_a_whole_run_says_its_sums_at_the_end() -> None:
    output = io.StringIO()
    turns = Turns(io.StringIO("go\nstop\n"), output, whole=True)
    turns.ready()
    turns.end_epoch(10, 100)
    turns.end_epoch(10, 100)
    turns.end()
    result, peak = (json.loads(line) for line in output.getvalue().splitlines()[1:])
    assert result["images"] == 20
    assert len(result["epochs"]) == 2
    assert 0 <= sum(result["epochs"]) <= result["seconds"]
    assert peak.keys() == {"peak_rss_bytes"}


def test_peak_memory_grows_with_what_is_held() -> None:
    code = "from baselines.turns import peak_memory; held = bytearray({}); print(peak_memory())"
    small, large = (
        int(subprocess.check_output([sys.executable, "-c", code.format(size)], cwd=SCRIPTS))
        for size in (1, 100_000_000)
    )
    assert 80_000_000 < large - small < 120_000_000
    assert peak_memory() > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_child_reads_the_task_that_the_driver_writes(row: Row) -> None:
    task = row.task(Path("/images"), "float32", device="cpu", seed=3, rounds=25)
    assert tasks.read(tasks.parser(None, ("auto", "float32")).parse_args(task.flags())) == task
    assert row.whole or task.stages[0].epochs == 25


@pytest.mark.parametrize("text", ["head", "head:0", "last:3", "last-:3", "some:3", "all:x"])
def test_a_stage_that_is_none(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected WHAT:EPOCHS"):
        tasks.stage(text)


def test_drawn_images_are_those_of_the_row(tmp_path: Path) -> None:
    draw_images(tmp_path / "a", ROW, 0.005, 1)
    draw_images(tmp_path / "b", ROW, 0.005, 1)
    train, validation = ((tmp_path / "a" / split) for split in ("train", "validation"))
    files = sorted(train.glob("*/*.jpg"))
    assert len(files) == 20
    assert len(list(validation.glob("*/*.jpg"))) == 8  # one of each expression at least
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted((tmp_path / "b" / "train").glob("*/*.jpg"))
    ]
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((48, 48), "L")
    held_out = {path.read_bytes() for path in validation.glob("*/*.jpg")}
    assert held_out.isdisjoint(path.read_bytes() for path in files)


def folder_of(root: Path, sizes: dict[str, int]) -> Path:
    for split in ("train", "validation"):
        for label, size in sizes.items():
            (root / split / label).mkdir(parents=True)
            for number in range(size):
                (root / split / label / f"{number}.jpg").write_bytes(b"a picture")
    return root


def test_own_images_are_taken_from_the_classes_in_turn(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", {"anger": 50, "fear": 3, "happiness": 50})
    copy_images(tmp_path / "copy", replace(ROW, train=20), 1.0, source)
    sizes = {path.name: len(list(path.iterdir())) for path in (tmp_path / "copy/train").iterdir()}
    assert sizes == {"anger": 9, "fear": 3, "happiness": 8}


def test_own_images_in_another_layout_are_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", {"anger": 2})
    with pytest.raises(ImagesError, match=r"expected two class folders or more .* found anger"):
        copy_images(tmp_path / "copy", ROW, 1.0, source)


def test_the_list_names_every_row_at_once() -> None:
    command = [sys.executable, "-X", "importtime", str(SCRIPTS / "benchmark.py"), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == {r.name for r in ROWS}
    assert "tensorflow" not in done.stderr


def test_an_unknown_row_is_told_with_the_known_ones() -> None:
    with pytest.raises(benchmark.UsageError, match="no row effv3; known: effv2l_last45, "):
        benchmark.chosen("vgg16_all,effv3")
    assert [row.name for row in benchmark.chosen("vgg16_all, effv2l_last20")] == [
        "vgg16_all",
        "effv2l_last20",
    ]


def test_an_interpreter_without_pytorch_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # -S leaves out what is installed.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    python.chmod(0o755)
    with pytest.raises(benchmark.UsageError, match="dependency group 'baselines'"):
        benchmark.find_torch(str(python))
    with pytest.raises(benchmark.UsageError, match="No such file"):
        benchmark.find_torch(str(tmp_path / "none"))


def test_without_pytorch_its_column_is_left_out() -> None:
    arguments: Any = None
    context = benchmark.Context(arguments, Path(), None, (benchmark.opponent("torch:bfloat16"),))
    can_run, missing = context.opponents(ROW)
    assert [against.name for against in can_run] == ["keras float32"]
    assert {against.name for against in missing} == {"torch float32", "torch bfloat16"}
    with_it = replace(context, torch_python="python")
    assert len(with_it.opponents(ROW)[0]) == 3


def test_an_opponent_that_a_row_has_keeps_its_target() -> None:
    arguments: Any = None
    context = benchmark.Context(arguments, Path(), None, (benchmark.opponent("keras:float32"),))
    can_run, _ = context.opponents(ROW)
    assert [against.target for against in can_run] == [1.7]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cnn_compact", "mobilenetv3small"])
@pytest.mark.parametrize("train", ["head", "last-20", "all"])
def test_keras_trains_what_fer_bench_trains(network: str, train: str, tmp_path: Path) -> None:
    from baselines import keras_fit
    from baselines.ours_fit import experiment

    from fer_bench.models import freezing
    from fer_bench.models.build import build_model

    stage = tasks.Stage(train, 1)
    task = tasks.Task(network, tmp_path, 48, 8, (stage,))
    config = experiment(task)
    ours = build_model(config.model, 48, 7)
    resolved = freezing.set_trainable(ours, config.stages[0], weights=config.model.weights)
    plain, backbone = keras_fit.build(task, 7, None)
    keras_fit.set_trainable(backbone, stage)
    assert plain.count_params() == ours.count_params()
    trainable = sum(int(variable.shape.num_elements()) for variable in plain.trainable_variables)
    assert trainable == resolved.trainable_parameters


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_an_experiment(row: Row, tmp_path: Path) -> None:
    from baselines.ours_fit import experiment

    config = experiment(row.task(tmp_path, "auto", device="cpu", seed=3, rounds=7))
    assert config.selection_split == "test"
    frozen = [stage.freeze_batch_norm for stage in config.stages]
    assert frozen == [stage.train != "all" for stage in row.stages]
    assert config.image.augment.warps == (row.name.startswith("files"))


@pytest.mark.large
def test_a_row_is_measured_printed_and_kept(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(SCRIPTS / "benchmark.py"), "--rows", "files_cnn_slides"),
        *("--scale", "0.01", "--pairs", "1", "--json", str(tmp_path / "rows.json")),
        *("--markdown", str(tmp_path / "table.md")),
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    first = json.loads((tmp_path / "rows.json").read_text().splitlines()[0])
    assert first["against"] == "keras float32"
    assert first["ours_images"] == first["plain_images"] == [40]
    assert first["ratio"] > 0
    assert first["machine"]["versions"]["keras"]
    assert (tmp_path / "table.md").read_text() in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"rows.json", "table.md"}
