"""A run does not go on, and is not evaluated, with images or labels that changed in place."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from messages import says
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.data.load import load_manifest
from fer_bench.training import session
from fer_bench.training import steps as steps_module

pytestmark = pytest.mark.slow

Fer = Callable[..., Result]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test alone."""
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tiny: dict[str, Any], copied_root: Path, write_config: Callable[..., Path]) -> Path:
    """`tiny` with one stage of one epoch, on images that may be changed."""
    dataset = tiny["dataset"] | {"root": str(copied_root)}
    return write_config(tiny | {"dataset": dataset, "stages": tiny["stages"][:1]})


def rewrite(path: Path, content: bytes) -> bytes:
    """Replace the content of a file, and neither its size nor its time of change; what it was."""
    before, status = path.read_bytes(), path.stat()
    assert len(content) == len(before)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before


def change(path: Path) -> bytes:
    """Change the last byte of an image, which no decoder reads; what it was."""
    content = path.read_bytes()
    return rewrite(path, content[:-1] + bytes([content[-1] ^ 1]))


def image_of(config: Path, split: str) -> Path:
    manifest = load_manifest(load_experiment(config).dataset)
    return manifest.root / str(manifest.split(split)["path"].iloc[3])


def interrupt(fer: Fer, config: Path, outputs: Path, patch: pytest.MonkeyPatch) -> None:
    """Train until the third step."""
    build, count = steps_module.build_train_steps, iter(range(1, 1000))

    def build_counting(*arguments: Any) -> Any:
        step = build(*arguments)

        def counting(*batch: Any) -> None:
            step(*batch)
            if next(count) == 3:
                os.kill(os.getpid(), signal.SIGINT)

        return counting

    with patch.context() as within:
        within.setattr(steps_module, "build_train_steps", build_counting)
        within.setattr(session, "SECONDS_PER_CALL", 0)
        assert fer("train", config, "--outputs", outputs).exit_code == 130


def train(fer: Fer, config: Path, outputs: Path, *more: object) -> Result:
    result = fer("train", config, "--outputs", outputs, *more)
    assert result.exit_code == 0, result.output
    return result


def test_a_run_is_resumed_with_the_images_it_began_with_only(
    fer: Fer, config: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(fer, config, outputs, monkeypatch)
    path = image_of(config, "train")
    before = change(path)
    refused = fer("train", config, "--outputs", outputs)
    assert refused.exit_code == 2
    says(refused.stderr, path.name, "content changed", "--fresh")
    rewrite(path, before)
    resumed = train(fer, config, outputs)
    says(resumed.stderr, "resuming at epoch")
    assert "changed" not in resumed.stderr


def test_another_run_decodes_a_changed_image_again(fer: Fer, config: Path, outputs: Path) -> None:
    first = train(fer, config, outputs)
    assert "changed" not in first.stderr
    path = image_of(config, "train")
    change(path)
    ignored = train(fer, config, outputs, "--set", "seed=8", "--verify", "none")
    assert "changed" not in ignored.stderr
    warned = train(fer, config, outputs, "--set", "seed=9", "--verify", "all")
    says(warned.stderr, "warning", path.name, "content changed")
    digests = {}
    for seed, printed in ((7, first), (8, ignored), (9, warned)):
        run = outputs / printed.stdout.strip().splitlines()[-1]
        record = json.loads((run / "run.json").read_text())
        digests[seed] = record["dataset"]["content_digest"]
    assert list(digests[7]) == ["labels", "train", "validation", "test"]
    assert digests[7] == digests[8]
    assert {key for key in digests[7] if digests[7][key] != digests[9][key]} == {"train"}
    assert train(fer, config, outputs, "--fresh").exit_code == 0


def test_a_run_is_not_evaluated_on_changed_data(
    fer: Fer, config: Path, outputs: Path, copied_root: Path, tmp_path: Path
) -> None:
    run = train(fer, config, outputs).stdout.strip().splitlines()[-1]
    path = image_of(config, "test")
    before = change(path)
    for verify in ("sample", "none"):  # the digest of the run is compared in any case
        refused = fer("evaluate", run, "--outputs", outputs, "--verify", verify)
        assert refused.exit_code == 2
        says(refused.stderr, path.name, "content changed", run, "--data")
    rewrite(path, before)
    evaluated = fer("evaluate", run, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    again = fer("evaluate", run, "--outputs", outputs, "--verify", "all")
    assert again.exit_code == 0, again.output
    assert "changed" not in again.stderr
    other = tmp_path / "other.yaml"
    shutil.copy(config, other)
    change(path)
    measured = fer("evaluate", run, "--outputs", outputs, "--data", other)
    assert measured.exit_code == 0, measured.output
    says(measured.stderr, "warning", path.name, "content changed")
    rewrite(path, before)

    labels = copied_root / "labels.csv"
    lines = labels.read_text().splitlines(keepends=True)
    row, point, arousal = lines[3].rpartition(".")
    lines[3] = row + point + str((int(arousal[0]) + 1) % 10) + arousal[1:]
    rewrite(labels, "".join(lines).encode())
    refused = fer("evaluate", run, "--outputs", outputs)
    assert refused.exit_code == 2
    says(refused.stderr, copied_root.name, "labels", "changed", run)


def test_a_run_of_an_older_version_is_compared_with_the_cache_only(
    fer: Fer, config: Path, outputs: Path
) -> None:
    run = train(fer, config, outputs).stdout.strip().splitlines()[-1]
    path = outputs / run / "run.json"
    record = json.loads(path.read_text())
    del record["dataset"]["content_digest"]
    path.write_text(json.dumps(record))
    assert fer("evaluate", run, "--outputs", outputs).exit_code == 0
    image = image_of(config, "test")
    change(image)
    evaluated = fer("evaluate", run, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    says(evaluated.stderr, "warning", image.name, "content changed")


def test_what_to_verify_is_checked(fer: Fer, config: Path, outputs: Path) -> None:
    for command in (("train", config), ("evaluate", "latest")):
        refused = fer(*command, "--outputs", outputs, "--verify", "some")
        assert refused.exit_code == 2
        says(refused.stderr, "--verify", "some", "sample")
