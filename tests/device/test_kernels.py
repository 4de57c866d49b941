"""The library that has the kernels: chosen before TensorFlow is imported, kept by a run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from messages import says

from fer_bench.device import kernels, machine
from fer_bench.errors import RunError

AVX2, ARM = "flags : fpu avx2", "Features : asimd bf16"
SKYLAKE, CASCADE_LAKE = "flags : fpu avx2 avx512f", "flags : fpu avx2 avx512f avx512_vnni"
ALDER_LAKE = "flags : fpu avx2 avx_vnni"


@pytest.fixture
def on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onednn_unlimited: None
) -> Callable[[str], None]:
    """Pretend to be on a processor with these flags, before TensorFlow is imported."""

    def pretend(flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(flags)
        monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)

    monkeypatch.setattr(os, "environ", os.environ.copy())
    return pretend


@pytest.mark.parametrize(
    ("flags", "switch"),
    [
        (AVX2, "1"),
        (SKYLAKE, "1"),
        (CASCADE_LAKE, None),
        (ALDER_LAKE, None),
        (ARM, None),
        ("", None),
    ],
)
def test_onednn_where_tensorflow_would_not_take_it_though_it_is_faster(
    flags: str, switch: str | None, on: Callable[[str], None]
) -> None:
    on(flags)
    assert kernels.choose() is None
    assert os.environ.get(kernels.ONEDNN_SWITCH) == switch
    assert kernels.uses_onednn()
    assert (kernels.why() == kernels.FASTER) == (switch is not None)


def test_the_switch_of_the_user_is_kept(on: Callable[[str], None]) -> None:
    on(AVX2)
    os.environ[kernels.ONEDNN_SWITCH] = "0"
    assert kernels.choose() is None
    assert os.environ[kernels.ONEDNN_SWITCH] == "0"
    assert kernels.why() == f"{kernels.ONEDNN_SWITCH}=0"


@pytest.mark.parametrize("typed", [None, "0", "1", "false"])
@pytest.mark.parametrize("begun_with", ["onednn", "eigen"])
def test_a_run_keeps_the_library_it_began_with(
    begun_with: Any, typed: str | None, on: Callable[[str], None]
) -> None:
    on(CASCADE_LAKE)
    if typed:
        os.environ[kernels.ONEDNN_SWITCH] = typed
    said = kernels.choose(begun_with)
    assert kernels.uses_onednn() == (begun_with == "onednn")
    if typed and (typed == "1") != (begun_with == "onednn"):
        assert said
        says(said, f"{kernels.ONEDNN_SWITCH}={typed}", "not used", kernels.NAMES[begun_with])
    else:
        assert said is None


def test_nothing_is_set_too_late(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(AVX2)
    monkeypatch.setitem(sys.modules, "tensorflow", sys)  # any module
    kernels.choose("eigen")
    assert kernels.ONEDNN_SWITCH not in os.environ


def test_a_run_is_not_continued_with_the_other_library() -> None:
    kernels.check_same("eigen", "eigen", "a-s1-00000000")
    kernels.check_same(None, "eigen", "a-s1-00000000")  # of an older version
    kernels.check_same("eigen", None, "a-s1-00000000")  # now on a GPU
    with pytest.raises(RunError) as raised:
        kernels.check_same("eigen", "onednn", "a-s1-00000000")
    says(raised.value, "a-s1-00000000", "Eigen", "oneDNN")


@pytest.mark.slow
def test_both_libraries_train_the_same_network_and_a_longer_run_keeps_its_own(
    tmp_path: Path, write_config: Callable[..., Path], tiny: dict[str, Any], onednn_unlimited: None
) -> None:
    stage = tiny["stages"][0] | {"epochs": 1}
    training = tiny["training"] | {"precision": "float32"}
    config = write_config(tiny | {"stages": [stage], "training": training})

    def train(switch: str | None, *more: str, folder: str) -> tuple[dict[str, Any], pd.DataFrame]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {kernels.ONEDNN_SWITCH: switch} if switch else {}
        words = [sys.executable, "-m", "fer_bench", "train", str(config), *more]
        done = subprocess.run(
            [*words, "--outputs", str(tmp_path / folder)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        run = tmp_path / folder / done.stdout.split()[-1]
        return json.loads((run / "run.json").read_text()), pd.read_csv(run / "history.csv")

    eigen, first = train("0", folder="eigen")
    onednn, second = train("1", folder="onednn")
    assert (eigen["kernels"], onednn["kernels"]) == ("eigen", "onednn")
    assert first["loss"][0] == pytest.approx(second["loss"][0], rel=1e-4)
    longer, _ = train(None, "--more-epochs", "1", folder="eigen")
    assert longer["kernels"] == "eigen"
