"""The structure of the package: what may import what, and what an import may cost."""

import ast
import graphlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "fer_bench"

# Names are relative to the package; "" is the package itself. A module that is not listed has
# the layer of the package that it is in.
LAYERS = {
    "": 0,
    "errors": 0,
    "ferplus": 1,
    "machine": 0,
    "registry": 0,
    "settings": 0,
    "paths": 0,
    "habits": 0,
    "run_names": 1,
    "spelling": 0,
    "yaml_files": 0,
    "alignment": 1,
    "archive": 1,
    "archive_formats": 1,
    "arrayfile": 1,
    "cachedir": 1,
    "calibration": 1,
    "config": 1,
    "corruptions": 1,
    "crossing": 1,
    "delimited": 1,
    "duplicates": 1,
    "filenames": 1,
    "images": 1,
    "inspection": 1,
    "labels": 1,
    "layout": 1,
    "links": 1,
    "locks": 1,
    "threads": 1,
    "manifest": 1,
    "metrics": 1,
    "poses": 1,
    "predictions": 1,
    "printed": 1,
    "record": 1,
    "releases": 1,
    "replacement": 1,
    "rundir": 1,
    "sample_names": 1,
    "splits": 1,
    "staging": 1,
    "statistics": 1,
    "stopping": 1,
    "subgroups": 1,
    "successor": 1,
    "suite": 1,
    "twins": 1,
    "weighted": 1,
    "where": 1,
    "workers": 1,
    "backbones": 2,
    "datasets": 2,
    "augmentation": 3,
    "cache": 3,
    "decoding": 3,
    "device": 3,
    "display": 3,
    "features": 3,
    "gradcam": 3,
    "kernels": 3,
    "loop": 3,
    "model": 3,
    "neck": 2,
    "pipeline": 3,
    "protocol": 3,
    "schedule": 3,
    "parent": 3,
    "preflight": 3,
    "state": 3,
    "together": 3,
    "tracking": 3,
    "trunk": 3,
    "weight_source": 3,
    "weights": 3,
    "losses": 3,
    "validation": 3,
    "views": 3,
    "adopt": 4,
    "audit": 4,
    "catalogue": 4,
    "compare": 4,
    "describe": 4,
    "doctor": 4,
    "evaluate": 4,
    "explain": 4,
    "recognition": 3,
    "robustness": 4,
    "search": 4,
    "sweep": 4,
    "train": 4,
    "report": 5,
    "search.picture": 5,
    "cli": 6,
    "__main__": 6,
}
PLUGIN_PACKAGES = ("backbones", "datasets")

# Importing TensorFlow or Keras takes seconds; whatever needs no model must not wait for them.
LIGHT = {
    *("cli", "compare", "config", "datasets", "manifest", "metrics", "report", "rundir"),
    "predictions",
    *("adopt", "printed"),
    *("delimited", "protocol", "record", "sample_names", "staging", "views"),
    *("corruptions", "robustness"),
    *("alignment", "audit", "duplicates", "images", "inspection"),
    *("poses", "threads", "twins"),
    *("cache", "decoding"),
    "tracking",
    *("search", "suite", "sweep"),
    *("locks", "successor", "state", "parent", "preflight", "weight_source"),
    *(
        "statistics",
        "calibration",
        "subgroups",
        "weighted",
        "archive",
        "archive_formats",
        "arrayfile",
        "cachedir",
        "describe",
        "ferplus",
        "filenames",
        "labels",
        "layout",
        "links",
        "registry",
        "releases",
        "replacement",
        "settings",
        "paths",
        "habits",
        "run_names",
        "spelling",
        "splits",
        "stopping",
        "where",
        "workers",
        "yaml_files",
    ),
}
HEAVY = ("keras", "tensorflow")

Imports = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the package, by its name relative to the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(module: str, source: str, is_package: bool) -> Iterator[str]:
    """The full dotted name of everything that `source` imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["fer_bench", *module.split(".")] if module else ["fer_bench"]
                up = node.level - 1 if is_package else node.level
                base = ".".join(here[: len(here) - up] + ([node.module] if node.module else []))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports() -> dict[str, set[str]]:
    """For every module, the modules of the package that it imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        names = imported_names(module, path.read_text(), path.name == "__init__.py")
        found[module] = {
            owner(name, known) for name in names if name.split(".")[0] == "fer_bench"
        } - {module}
    return found


def owner(name: str, known: Mapping[str, object]) -> str:
    """The module that the full name `name` is, or is a part of."""
    relative = ".".join(name.split(".")[1:])
    while relative not in known:
        relative = relative.rpartition(".")[0]
    return relative


def layer(module: str) -> int | None:
    """The layer of a module; None for one that is neither listed nor in a listed package."""
    return LAYERS.get(module, LAYERS.get(module.partition(".")[0]))


def violations(graph: Imports) -> list[str]:
    """Every import that points upward, or from one plug-in to another."""
    return [
        f"{module or 'fer_bench'} ({layer(module)}) must not import {target} ({layer(target)})"
        for module, targets in graph.items()
        for target in sorted(targets)
        if not may_import(module, target)
    ]


def may_import(module: str, target: str) -> bool:
    own, other = layer(module), layer(target)
    if own is None or other is None:
        return True  # named by the test for the table
    package = module.partition(".")[0]
    if own == other and {package, target.partition(".")[0]} & set(PLUGIN_PACKAGES):
        return target == package
    return other <= own


def test_every_module_has_a_layer() -> None:
    unknown = [module for module in modules() if layer(module) is None]
    assert not unknown, f"add {unknown} to LAYERS, one layer above the highest that they import"


def test_imports_point_downward() -> None:
    assert violations(imports()) == []


def test_imports_form_no_cycle() -> None:
    graphlib.TopologicalSorter(imports()).prepare()


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("train", "loop", True),
        ("loop", "train", False),
        ("compare", "report", False),
        ("report.figures", "report.tables", True),
        ("splits", "manifest", True),
        ("datasets.rafdb", "datasets", True),
        ("datasets", "datasets.rafdb", False),
        ("datasets.rafdb", "datasets.affectnet", False),
        ("datasets.rafdb", "backbones", False),
        ("backbones.vgg", "datasets.rafdb", False),
        ("datasets.rafdb", "labels", True),
        ("cli.data", "datasets.rafdb", True),
    ],
)
def test_the_rule_itself(module: str, target: str, allowed: bool) -> None:
    assert may_import(module, target) is allowed


def test_imports_are_found_in_every_form() -> None:
    source = (
        "import fer_bench.errors\n"
        "from fer_bench import labels, __version__\n"
        "from fer_bench.manifest import Manifest\n"
        "def later():\n"
        "    from . import y\n"
        "    from ..registry import DATASETS\n"
    )
    known = ("", "errors", "labels", "manifest", "datasets", "datasets.y", "registry")
    found = {
        owner(name, dict.fromkeys(known)) for name in imported_names("datasets.x", source, False)
    }
    assert found == {"errors", "labels", "", "manifest", "datasets.y", "registry"}


@pytest.mark.parametrize(
    ("words", "known"),
    [
        # Beside the decoder: what a corruption has just written, and a figure of a run.
        (
            ("Image.open(", "tf.io.decode", "imread("),
            {"images", "corruptions", "tracking.tensorboard"},
        ),
        # Everything else is bounded by `usable_cores`; `doctor` tells both numbers.
        (("cpu_count(", "PoolExecutor()"), {"machine", "doctor"}),
    ],
    ids=["image files are decoded", "processors are counted"],
)
def test_one_place_where(words: tuple[str, ...], known: set[str]) -> None:
    found = {
        module
        for module, path in modules().items()
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert found == known


def python(*arguments: str) -> str:
    """The standard output of a new interpreter that finds the package as this one does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments], check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout


def light_modules() -> list[str]:
    """The modules in `LIGHT` that exist, with everything inside them."""
    return [module for module in modules() if module.partition(".")[0] in LIGHT]


@pytest.fixture(scope="module")
def heavy_after() -> dict[str, list[str]]:
    """What each import of a light module, one after the other, newly loaded of `HEAVY`."""
    code = (
        "import importlib, json, sys\n"
        "heavy, loaded = set(json.loads(sys.argv[2])), {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    before = heavy & set(sys.modules)\n"
        "    importlib.import_module('fer_bench.' + name)\n"
        "    loaded[name] = sorted(heavy & set(sys.modules) - before)\n"
        "print(json.dumps(loaded))\n"
    )
    answer: dict[str, list[str]] = json.loads(
        python("-c", code, json.dumps(light_modules()), json.dumps(HEAVY))
    )
    return answer


@pytest.mark.parametrize("module", light_modules())
def test_importing_stays_light(module: str, heavy_after: dict[str, list[str]]) -> None:
    assert heavy_after[module] == []


def test_help_is_instant() -> None:
    """It takes little more than the libraries that read the command line and print."""
    libraries, whole = [], []
    for _ in range(5):
        started = processor_seconds()
        python("-c", "import typer, rich.console")
        between = processor_seconds()
        assert "train" in python("-c", "from fer_bench.cli import main; main()", "--help")
        libraries.append(between - started)
        whole.append(processor_seconds() - between)
    assert min(whole) < 4 * min(libraries)


def processor_seconds() -> float:
    """What the children have used so far; unlike the clock, blind to what else is running."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
