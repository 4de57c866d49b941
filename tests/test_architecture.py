"""The structure of the package: what may import what, and what an import may cost."""

import ast
import functools
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

# Whatever needs no model must not wait for these: importing them takes seconds.
HEAVY = ("keras", "tensorflow")

# One module each. They may import each other, and every room may import them.
GROUND = {
    "errors",
    "labels",
    "registry",
    "settings",
    "spelling",
    "display",
    "timing",
    "user_folders",
}

# Each room, and the other rooms that it may import. The package itself imports what it offers when
# that is first used.
ROOMS: dict[str, set[str]] = {
    "": {"settings"},
    "storage": set(),
    "metrics": set(),
    "config": {"storage"},
    "device": {"storage"},
    "data": {"config", "device", "storage"},
    "runs": {"config", "data", "device", "metrics", "storage"},
    "models": {"config", "data", "runs", "storage"},
    "comparison": {"device", "metrics", "runs", "storage"},
    "sweep": {"config", "device", "runs", "storage"},
    "training": {"config", "data", "device", "metrics", "models", "runs", "storage"},
    "evaluation": {"config", "data", "device", "metrics", "models", "runs", "storage"},
    "report": {
        *("config", "data", "metrics", "models", "runs", "storage"),
        *("comparison", "evaluation", "sweep"),
    },
    "api": {
        *("config", "data", "device", "metrics", "models", "runs"),
        *("comparison", "evaluation", "report", "training"),
    },
    "cli": {
        *("config", "data", "device", "models", "runs", "storage"),
        *("api", "comparison", "evaluation", "report", "sweep", "training"),
    },
    "__main__": {"cli", "sweep"},
}
# A package of plug-ins: none of them imports another, and no other module names one.
PLUGINS = ("data.datasets", "models.backbones")

# What computes. Every other module is imported without `HEAVY`.
COMPUTES = {
    *("data.augmentation", "data.pipeline"),
    *("device.collective", "device.inventory", "device.selection"),
    *("evaluation.evaluate", "evaluation.explain", "evaluation.grad_cam"),
    "evaluation.trained_model",
    *("models.build", "models.freezing", "models.inference", "models.kernels", "models.neck"),
    *("models.receptive_field", "models.summary", "models.trunk"),
    *("models.weight_files", "models.weights"),
    *("training.frozen_features", "training.losses", "training.optimizers", "training.record"),
    *("training.session", "training.speed", "training.stage", "training.steps", "training.train"),
}

Imports = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the package, by its name relative to the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(module: str, source: str, is_package: bool) -> Iterator[str]:
    """The full dotted name of everything that `source` imports, wherever it does so.

    The package itself names its public functions for type checkers alone.
    """
    tree = ast.parse(source)
    if not module:
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["fer_bench", *module.split(".")] if module else ["fer_bench"]
                up = node.level - 1 if is_package else node.level
                base = ".".join(here[: len(here) - up] + ([node.module] if node.module else []))
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def imports() -> Imports:
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


def room(module: str) -> str:
    """The room, or the ground file, that a module is in."""
    return module.partition(".")[0]


def may_import(module: str, target: str) -> bool:
    own, other = room(module), room(target)
    for package in PLUGINS:
        if target.startswith(f"{package}.") and plugin(module, package) != plugin(target, package):
            return own == "cli"  # which makes the data that the project draws
    if own in GROUND:
        return other in GROUND
    return other in {own, "", *GROUND, *ROOMS[own]}


def plugin(module: str, package: str) -> str:
    """The plug-in of `package` that a module is, or is in; empty for any other module."""
    return module.removeprefix(f"{package}.").partition(".")[0] if package in module else ""


def test_every_module_is_in_a_room() -> None:
    assert {room(module) for module in modules()} == {*ROOMS, *GROUND}


def test_rooms_import_only_rooms_below_them() -> None:
    graph = imports()
    assert [
        f"{module or 'fer_bench'} must not import {target}"
        for module in graph
        for target in sorted(graph[module])
        if not may_import(module, target)
    ] == []


def test_no_arrow_of_the_table_is_left_over() -> None:
    graph = imports()
    for own, allowed in ROOMS.items():
        found = {
            room(target) for module in graph if room(module) == own for target in graph[module]
        }
        assert allowed - GROUND <= found, f"{own or 'fer_bench'} does not import all that it may"


def test_imports_form_no_cycle() -> None:
    graphlib.TopologicalSorter(imports()).prepare()
    rooms = {own: allowed - GROUND for own, allowed in ROOMS.items()}
    graphlib.TopologicalSorter(rooms).prepare()


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("training.train", "training.steps", True),
        ("training.train", "evaluation.evaluate", False),
        ("metrics.document", "runs.predictions", False),
        ("comparison", "report", False),
        ("data.splits", "errors", True),
        ("errors", "data.splits", False),
        ("data.datasets.rafdb", "data.files.folders", True),
        ("data.load", "data.datasets.rafdb", False),
        ("data.datasets.rafdb", "data.datasets.affectnet", False),
        ("data.datasets.affectnet", "data.datasets.affectnet.kaggle", True),
        ("data.datasets.affectnet.kaggle", "data.datasets.affectnet.shared", True),
        ("data.datasets.rafdb", "models.backbones", False),
        ("cli.data", "data.datasets.drawn", True),
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
            {"data.images", "evaluation.corruptions.effects", "runs.tracking.tensorboard"},
        ),
        # Everything else is bounded by `usable_cores`; `doctor` tells both numbers.
        (("cpu_count(", "PoolExecutor()"), {"device.machine", "device.inventory"}),
        (("import fcntl", "fcntl.flock("), {"storage.locks"}),
    ],
    ids=["image files are decoded", "processors are counted", "files are locked"],
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
    """The modules that must not load `HEAVY`, each after the packages that it is in."""
    return [module for module in modules() if module and module not in {*COMPUTES, "__main__"}]


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
    """It takes little more than the library that reads the command line and prints the help."""
    libraries, whole = [], []
    for _ in range(3):
        started = processor_seconds()
        python("-c", "import typer.rich_utils")
        between = processor_seconds()
        assert "train" in python("-c", "from fer_bench.cli import main; main()", "--help")
        libraries.append(between - started)
        whole.append(processor_seconds() - between)
    assert min(whole) < 2.5 * min(libraries)


def processor_seconds() -> float:
    """What the children have used so far; unlike the clock, blind to what else is running."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
