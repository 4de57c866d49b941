"""`scripts/benchmark.py`: its arithmetic, and taking turns."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark
from baselines import task as tasks
from baselines.children import Child, Measurement, Reading, check_parameters, measure
from baselines.outcomes import HEADING, OURS, Outcome, outcomes_of
from baselines.processors import PROCESSORS, Processor
from baselines.rows import ROWS, Opponent, Row
from baselines.turns import Turns, peak_memory
from drawn_images import scaled, write_images
from measuring import ChildError
from messages import says

SCRIPTS = Path(benchmark.__file__).parent
ROW = next(row for row in ROWS if row.name == "files_cnn_slides")
KERAS = Opponent("keras", "float32", 2.0)

# A child that records each of its turns in a file, and trains on 10 images in no time.
FAKE = """
import os, sys
from baselines.turns import open_turns
name, notes, parameters, whole = sys.argv[1:]
turns = open_turns(whole=whole == "whole")
print("output of a library")
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


def outcome(ours: Sequence[Reading], plain: Sequence[Reading], target: float = 1.0) -> Outcome:
    return Outcome(ROW, replace(KERAS, target=target), ours, plain)


def test_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() -> None:
    ours = [Reading(100, 1.0), Reading(100, 2.0), Reading(100, 4.0)]
    plain = [Reading(100, 8.0), Reading(100, 6.0), Reading(100, 4.0)]
    found = outcome(ours, plain, 3.0)
    assert found.ratio == pytest.approx((3.0, 1.0, 8.0))
    assert found.speeds == pytest.approx((50.0, 100 / 6))
    network = ROW.task.network
    assert found.cells[:2] == (ROW.name, network)
    assert found.cells[3:] == (*("50.0", "keras float32", "16.7", "3.00 [1.00, 8.00]", "3", "yes"),)
    assert len(found.cells) == len(HEADING)


def test_ratio_counts_the_images_that_were_trained_on() -> None:
    assert outcome([Reading(96, 1.0)], [Reading(100, 1.0)]).ratio.median == pytest.approx(0.96)


@pytest.mark.parametrize(("target", "reached"), [(2.0, True), (2.01, False)])
def test_the_target_is_reached_by_the_median(target: float, reached: bool) -> None:
    assert outcome([Reading(10, 1.0)], [Reading(10, 2.0)], target).reached is reached


def test_outcomes_pair_turns_of_one_round() -> None:
    rounds = [
        {OURS: Reading(10, 1.0), "keras float32": Reading(10, 2.0), "torch float32": Reading(5, 1)},
        {OURS: Reading(10, 2.0), "keras float32": Reading(10, 8.0), "torch float32": Reading(5, 4)},
    ]
    found = outcomes_of(ROW, [KERAS, Opponent("torch", "float32", 1)], Measurement(rounds))
    assert [of.ratio for of in found] == [pytest.approx((3.0, 2.0, 4.0))] * 2
    assert [of.opponent.name for of in found] == ["keras float32", "torch float32"]


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


def test_different_networks_are_not_compared(tmp_path: Path) -> None:
    commands = {
        "A": fake("A", tmp_path / "notes", parameters=1000),
        "B": fake("B", tmp_path / "notes", parameters=1011),
    }
    with pytest.raises(ChildError) as caught:
        measure(commands, 1, whole=False)
    says(caught.value, "A 1,000", "B 1,011", "1%")
    check_parameters({"A": 1000, "B": 1010})


def test_a_failed_child_is_named_with_its_output() -> None:
    code = "import sys; sys.exit('no such network')"
    with Child("keras", [sys.executable, "-c", code]) as child, pytest.raises(ChildError) as caught:
        child.ready()
    says(caught.value, "keras", "(1)", "no such network")


def test_an_unexpected_answer_is_refused() -> None:
    code = "print('Found 10 files.')"
    with Child("keras", [sys.executable, "-c", code]) as child, pytest.raises(ChildError) as caught:
        child.ready()
    says(caught.value, "keras", "'Found 10 files.'", "'ready'")


def test_a_child_ends_with_its_driver(tmp_path: Path) -> None:
    with Child("A", fake("A", tmp_path / "notes")) as child:
        child.ready()
        process = child.process
    assert process.poll() is not None


def test_turns_end_with_stop_or_with_the_driver() -> None:
    output = io.StringIO()
    turns = Turns(io.StringIO("go\nstop\n"), output, whole=False)
    turns.ready()
    assert not turns.stopped
    turns.end_epoch(10, 100)
    assert turns.stopped
    gone = Turns(io.StringIO(""), io.StringIO(), whole=False)
    gone.ready()
    assert gone.stopped
    answers = [json.loads(line) for line in output.getvalue().splitlines()]
    assert answers[0] == {"ready": "imports"}
    assert answers[1] | {"seconds": 0} == {
        "epoch": 1,
        "seconds": 0,
        "images": 10,
        "parameters": 100,
    }


def test_a_whole_run_reports_its_sums_at_the_end() -> None:
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


def test_peak_memory_grows_with_allocations() -> None:
    code = "from baselines.turns import peak_memory; held = bytearray({}); print(peak_memory())"
    small, large = (
        int(subprocess.check_output([sys.executable, "-c", code.format(size)], cwd=SCRIPTS))
        for size in (1, 100_000_000)
    )
    assert 80_000_000 < large - small < 120_000_000
    assert peak_memory() > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_child_reads_the_task_that_the_driver_writes(row: Row) -> None:
    task = row.task_of(Path("/images"), "float32", device="cpu", seed=3, rounds=25)
    assert tasks.read_task(task.to_json()) == task
    assert task.whole or task.stages[0].epochs == 25


def test_the_example_of_a_child_by_hand_is_a_task() -> None:
    readme = (SCRIPTS / "baselines" / "README.md").read_text()
    task = tasks.read_task(readme[readme.index("'{") + 1 : readme.rindex("'")])
    assert (task.network, task.stages) == ("resnet50", (tasks.Stage("all", 3),))


def test_drawn_images_match_the_row(tmp_path: Path) -> None:
    numbers = scaled({"train": ROW.train, "validation": ROW.validation}, 0.005)
    for name in "ab":
        write_images(tmp_path / name, numbers, ROW.task.size, grey=ROW.grey, seed=1)
    train, validation = ((tmp_path / "a" / split) for split in ("train", "validation"))
    files = sorted(train.glob("*/*.jpg"))
    assert len(files) == 20
    assert len(list(validation.glob("*/*.jpg"))) == 8  # at least one per expression
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted((tmp_path / "b" / "train").glob("*/*.jpg"))
    ]
    with Image.open(files[0]) as image:
        assert (image.size, image.mode) == ((48, 48), "L")
    held_out = {path.read_bytes() for path in validation.glob("*/*.jpg")}
    assert held_out.isdisjoint(path.read_bytes() for path in files)


def test_the_list_names_every_row_at_once() -> None:
    command = [sys.executable, "-X", "importtime", str(SCRIPTS / "benchmark.py"), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()[2:]} == {r.name for r in ROWS}
    assert "tensorflow" not in done.stderr


def test_an_interpreter_without_pytorch_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # -S leaves out what is installed.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    python.chmod(0o755)
    with pytest.raises(ValueError, match="dependency group 'baselines'"):
        benchmark.find_torch(str(python))
    with pytest.raises(ValueError, match="No such file"):
        benchmark.find_torch(str(tmp_path / "none"))


def test_without_pytorch_its_script_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert [against.name for against in benchmark.runnable(ROW, None)] == ["keras float32"]
    says(capsys.readouterr().out, ROW.name, "torch float32", "--torch-python")
    assert benchmark.runnable(ROW, "python") == list(ROW.opponents)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cnn_compact", "mobilenetv3small"])
@pytest.mark.parametrize("train", ["head", "last-20", "all"])
def test_keras_trains_what_fer_bench_trains(network: str, train: str, tmp_path: Path) -> None:
    from baselines import keras_fit
    from baselines.ours_fit import experiment

    from fer_bench.models import freezing
    from fer_bench.models.build import build_model

    stage = tasks.Stage(train, 1)
    task = tasks.Task(network, 48, 8, (stage,))
    config = experiment(task)
    ours = build_model(config.model, 48, 7)
    resolved = freezing.set_trainable(ours, config.stages[0], weights=config.model.weights)
    plain, backbone = keras_fit.build(task, 7)
    keras_fit.set_trainable(backbone, stage)
    assert plain.count_params() == ours.count_params()
    trainable = sum(int(variable.shape.num_elements()) for variable in plain.trainable_variables)
    assert trainable == resolved.trainable_parameters


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_an_experiment(row: Row, tmp_path: Path) -> None:
    from baselines.ours_fit import experiment

    config = experiment(row.task_of(tmp_path, "auto", device="cpu", seed=3, rounds=7))
    assert config.selection_split == "test"
    frozen = [stage.freeze_batch_norm for stage in config.stages]
    assert frozen == [stage.train != "all" for stage in row.task.stages]
    assert config.image.augment.warps == row.name.startswith(("files", "free"))


@pytest.mark.large
def test_a_row_is_measured_printed_and_kept(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(SCRIPTS / "benchmark.py"), "--rows", "files_cnn_slides"),
        *("--scale", "0.01", "--pairs", "1", "--json", str(tmp_path / "rows.json")),
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    first = json.loads((tmp_path / "rows.json").read_text().splitlines()[0])
    assert first["against"] == "keras float32"
    assert first["ours_images"] == first["plain_images"] == [40]
    assert first["ratio"] > 0
    assert first["machine"]["versions"]["keras"]
    assert "| files_cnn_slides |" in done.stdout
    # TensorFlow leaves what it compiles of its own there.
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"rows.json"}


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor.name)
def test_a_class_hides_instructions_from_every_child_and_leaves_keras_its_default(
    processor: Processor,
) -> None:
    ours, keras, eigen = (processor.environment(name) for name in ("ours", "keras", "eigen"))
    assert eigen["TF_ENABLE_ONEDNN_OPTS"] == "0"
    for environment in (ours, keras, eigen, processor.environment("torch")):
        assert environment.get("ONEDNN_MAX_CPU_ISA", "native") == processor.name
    on_by_itself = processor.name not in ("AVX2", "AVX512_CORE")
    assert (keras.get("TF_ENABLE_ONEDNN_OPTS"), ours.get("TF_ENABLE_ONEDNN_OPTS")) == (
        (None, None) if on_by_itself else ("0", "1")
    )


def test_each_child_has_its_own_variables(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    code = FAKE.replace("os.getpid()", "os.environ['LIMIT']")
    commands = {
        name: [sys.executable, "-c", code, name, str(notes), "100", "epochs"] for name in "AB"
    }
    limits = {name: {"LIMIT": f"limit-{name}"} for name in "AB"}
    measure(commands, 1, whole=False, environments=limits)
    assert set(notes.read_text().splitlines()) == {"A limit-A", "B limit-B"}
