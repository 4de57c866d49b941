"""What is damaged, how, and the commands that read it afterwards."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzz import damage
from fuzz.world import World

Arguments = Callable[[World], Sequence[object]]


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: what it is called in the table of results.
        files: its files in the world, in an order that does not depend on the file system.
        damagers: what may be done to one.
        commands: each reads the file; one of them is run.
        weight: how often it is taken, beside the others.
        evidence: what shows that a command did what it does with the intact file.
    """

    name: str
    files: Callable[[World], Sequence[Path]]
    damagers: Sequence[damage.Damager]
    commands: Sequence[Arguments]
    weight: int = 4
    evidence: Callable[[World, Any], str] = field(default=lambda world, result: result.stdout)


def _run(*parts: str) -> Callable[[World], Sequence[Path]]:
    return lambda world: [world.outputs.joinpath(world.finished, *parts)]


def _glob(where: Callable[[World], Path], pattern: str) -> Callable[[World], Sequence[Path]]:
    return lambda world: sorted(path for path in where(world).rglob(pattern) if path.is_file())


def _file(*parts: str) -> Callable[[World], Sequence[Path]]:
    return lambda world: [world.root.joinpath(*parts)]


def compare(world: World) -> Sequence[object]:
    return ("compare", world.outputs, "--json")


def report(world: World) -> Sequence[object]:
    return ("report", world.finished, "--outputs", world.outputs)


def evaluate(world: World) -> Sequence[object]:
    return ("evaluate", world.finished, "--outputs", world.outputs, "--json")


def _explain(world: World) -> Sequence[object]:
    return ("explain", world.finished, "--outputs", world.outputs, "-n", "2", "--json")


def resume(world: World) -> Sequence[object]:
    config = world.root / "experiment.yaml"
    return ("train", config, "--set", "seed=7", "--outputs", world.outputs)


def _validate(world: World) -> Sequence[object]:
    return ("validate", world.root / "experiment.yaml")


def _stats(world: World) -> Sequence[object]:
    return ("data", "stats", world.root / "experiment.yaml", "--json")


def _plan(world: World) -> Sequence[object]:
    return ("sweep", world.root / "suite.yaml", "--dry-run", "--outputs", world.outputs)


def _search(world: World) -> Sequence[object]:
    config, space = world.root / "experiment.yaml", world.root / "space.yaml"
    return ("sweep", config, "--search", space, "--dry-run", "--outputs", world.outputs)


def _check_table(world: World) -> Sequence[object]:
    return ("check-table", world.root / "table.txt", "--json")


def adopt(world: World) -> Sequence[object]:
    config, table = world.root / "experiment.yaml", world.root / "predictions.csv"
    return ("adopt", "theirs", table, "--data", config, "--outputs", world.outputs, "--json")


def _listed(world: World) -> Sequence[object]:
    keys = ("name=list", f"root={world.root / 'listed'}", "table=labels.csv")
    sets = [part for key in keys for part in ("--set", f"dataset.{key}")]
    return ("data", "stats", world.root / "experiment.yaml", *sets, "--json")


def audit(world: World) -> Sequence[object]:
    (_, _, config, *sets, _) = _listed(world)
    return ("data", "audit", config, *sets)


def prepare(world: World) -> Sequence[object]:
    archive = world.root / "archive.zip"
    return ("data", "prepare", "fer2013", archive, "--root", world.root / "prepared")


def _history(world: World, result: Any) -> str:
    """The numbers of every epoch but the times, to the last digit."""
    path = world.outputs / world.interrupted / "history.csv"
    if not path.is_file():
        return "no history"
    return "\n".join(line.rsplit(",", 2)[0] for line in path.read_text().splitlines())


def _metrics(world: World, result: Any) -> str:
    """What was measured. The run id is of the bytes of the table, in whichever encoding."""
    return json.dumps(json.loads(result.stdout)["metrics"]) if result.exit_code == 0 else ""


# A page shows the text of the configuration; it does not take it for anything.
_SHOWN_AS_IT_IS = re.compile(r"<summary>Resolved configuration</summary>.*?</details>", re.DOTALL)


def _page(world: World) -> str:
    path = world.outputs / world.finished / "report.html"
    if not path.is_file():
        return "no page"
    return _SHOWN_AS_IT_IS.sub("", path.read_text(encoding="utf-8"))


def evidence(target: "Target", command: Arguments, world: World, result: Any) -> str:
    """What shows what a command did: its page, what it printed, or what the target names."""
    return _page(world) if command is report else target.evidence(world, result)


def is_shown_only(command: Arguments, place: Path) -> bool:
    """Whether a command shows a configuration without checking each value.

    Runs of every version are compared and shown: any mapping of keys to values is valid there.
    """
    if command not in (compare, report) or place.name != "config.yaml":
        return False
    try:
        return isinstance(yaml.safe_load(place.read_bytes()), dict)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False


def results(world: World, command: Arguments) -> Sequence[str]:
    """Where a command may change files, as beginnings of paths below the world."""
    run, resumed = (f"outputs/{name}/" for name in (world.finished, world.interrupted))
    places: dict[Arguments, Sequence[str]] = {
        report: (f"{run}report.html", f"{run}figures"),
        evaluate: tuple(
            run + name for name in ("predictions", "metrics", "run.json", "report.html")
        ),
        _explain: (f"{run}explanations",),
        resume: (resumed,),
        adopt: ("outputs/theirs",),
        prepare: ("prepared",),
        audit: ("listed.",),
    }
    return places.get(command, ())


def _state(world: World) -> Path:
    return world.outputs / world.interrupted / "state"


RUN = (compare, report, evaluate)
TARGETS: tuple[Target, ...] = (
    Target("run.json", _run("run.json"), damage.JSON, (*RUN, compare), 8),
    Target("metrics/*.json", _run("metrics", "test.json"), damage.JSON, (compare, report), 8),
    Target(
        "corruptions/*.json",
        _glob(lambda w: w.outputs / w.finished / "corruptions", "*.json"),
        damage.JSON,
        (compare, report),
        4,
    ),
    Target("history.csv", _run("history.csv"), damage.HISTORY, (report, compare), 4),
    Target("predictions/*.csv", _run("predictions", "test.csv"), damage.CSV, (compare, report), 6),
    Target("config.yaml of a run", _run("config.yaml"), damage.YAML, (*RUN, _explain), 6),
    Target("model.keras", _run("model.keras"), damage.ARCHIVES, (evaluate,), 3),
    Target(
        "progress.json",
        lambda world: [_state(world) / "progress.json"],
        tuple(map(damage.surely, damage.JSON)),
        (resume,),
        4,
        _history,
    ),
    Target("state/*.npz", _glob(_state, "*.npz"), damage.ARRAYS, (resume,), 5, _history),
    Target(
        "run.json of a resume",
        lambda world: [world.outputs / world.interrupted / "run.json"],
        damage.JSON,
        (resume,),
        2,
        _history,
    ),
    Target(
        "history.csv of a resume",
        lambda world: [world.outputs / world.interrupted / "history.csv"],
        damage.CSV,
        (resume,),
        2,
        _history,
    ),
    Target(
        "cache",
        _glob(lambda w: w.root / "cache", "*"),
        damage.EVERY_BIT,
        (_stats, resume, evaluate, _listed),
        8,
    ),
    Target("experiment.yaml", _file("experiment.yaml"), damage.YAML, (_validate, _stats), 8),
    Target("suite.yaml", _file("suite.yaml"), damage.YAML_LISTS, (_plan,), 5),
    Target("space.yaml", _file("space.yaml"), damage.YAML_LISTS, (_search,), 5),
    Target("printed table", _file("table.txt"), damage.PRINTED, (_check_table,), 3),
    Target("adopted predictions", _file("predictions.csv"), damage.CSV, (adopt,), 4, _metrics),
    Target("labels.csv", _file("listed", "labels.csv"), damage.CSV, (_listed,), 4),
    Target("images", _glob(lambda w: w.root / "listed", "*.png"), damage.IMAGES, (audit,), 3),
    Target("archive.zip", _file("archive.zip"), damage.ARCHIVES, (prepare,), 3),
)


def pick(random: Random) -> Target:
    """One of the targets, by weight."""
    return random.choices(TARGETS, weights=[target.weight for target in TARGETS])[0]
