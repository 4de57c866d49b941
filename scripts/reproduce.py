"""What can be said of the prior work, from the runs in `outputs/`: writes docs/reproduction.md.

The first part has a row for each experiment of the prior work: what it printed, what is missing
here to repeat it, what can be rebuilt, what was measured over its seeds, and the verdict. Each
suite that is named has a part with the comparison of exactly its runs. Nothing is trained here:

    fer sweep configs/suites/pisa.yaml
    python scripts/reproduce.py configs/suites/pisa.yaml

The suites take many hours of one machine, so that hardly any has all their runs: what the page says
of suites that are not named, and of experiments of which there is no run, stays as it is.
"""

import argparse
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import leak
from fer_bench.comparison import Comparison, Group
from fer_bench.comparison.collect import collect
from fer_bench.comparison.result import Row

from fer_bench.config.experiment import Experiment
from fer_bench.errors import RunError
from fer_bench.report import paper
from fer_bench.report.comparison import write_verdict
from fer_bench.report.wording import write_label
from fer_bench.storage.files import write_atomically
from fer_bench.sweep.suite import Suite, load_suite

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRIOR_WORK = CONFIGS / "suites" / "prior_work.yaml"
PAGE = Path("docs/reproduction.md")
KERAS_WEIGHTS = Path("~/.keras/models").expanduser()
NONE = "—"
NOT_MEASURED = ("not run", NONE)
# What asks the question of an experiment that cannot run here, with other weights or other faces.
STAND_INS = {
    "ippm_resnet50": "ippm",
    "ippm_resnet50_ippm": "ippm",
    "rafdb_effv2l_frozen": "unfreeze_ladder",
    "rafdb_effv2l_unfreeze20": "unfreeze_ladder",
    "rafdb_effv2l_unfreeze45": "unfreeze_ladder",
    "pisa_vgg16_frozen": "pisa_vgg16",
    "pisa_vgg16_finetuned": "pisa_vgg16",
}

INTRODUCTION = """# The prior work, reproduced

Written by `python scripts/reproduce.py SUITE…`, each part from the runs of its suite. The
experiments are those of `configs/suites/prior_work.yaml`, each in a corrected protocol: the test
images choose nothing, and what is augmented is augmented after the split. *Printed* is what their
authors report, mostly without an interval; *measured* is the mean over the seeds with their
standard deviation, and the half width of one run's 95% interval on its test images. An experiment
whose data or first weights are not at hand was not run here, and its row says what is missing;
where its question can be asked of what is at hand, *rebuilt here* names the part that does so. What
follows from all this, and what does not, is in [results.md](results.md#the-prior-work).
"""


def missing(experiment: Experiment) -> list[str]:
    """What is not at hand of what `experiment` needs."""
    found = []
    if not experiment.dataset.root.is_dir():
        found.append(f"{experiment.dataset.name} ({experiment.dataset.root})")
    stored = KERAS_WEIGHTS.glob(f"*{experiment.model.backbone}*")
    if experiment.model.weights == "imagenet" and not any(stored):
        found.append("ImageNet weights")
    return found


def rebuilt(name: str, needed: Sequence[str], parts: Collection[str]) -> str:
    """How much of an experiment can be run here, with a link where one of `parts` stands for it."""
    if not needed:
        return "in full"
    stand_in = STAND_INS.get(name)
    if stand_in in parts:
        return f"with other weights or faces: [{stand_in}](#{stand_in})"
    return "no"


def compared(suite: Suite, outputs: Path) -> Comparison | None:
    """The comparison of the runs of `suite`; None where there are none yet."""
    try:
        return collect(outputs, only={run.run_id for run in suite.runs})
    except RunError:
        return None


def rows_of(comparison: Comparison | None) -> dict[str, tuple[Group, list[Row]]]:
    """By the name of an experiment, its runs and the group that they are in."""
    found: dict[str, tuple[Group, list[Row]]] = {}
    for group in comparison.groups if comparison else ():
        for row in group.runs:
            found.setdefault(row.name, (group, []))[1].append(row)
    return found


def experiment_table(
    suite: Suite,
    comparison: Comparison | None,
    parts: Collection[str],
    before: Mapping[str, Sequence[str]],
) -> list[str]:
    """A Markdown table with a line for each experiment.

    Args:
        suite: the experiments.
        comparison: of their runs.
        parts: the names of the suites that the page has a part of.
        before: by experiment, the last two cells, which stay where `comparison` has no run of it.
    """
    measured = rows_of(comparison)
    experiments = {run.experiment.name: run.experiment for run in suite.runs}
    lines = [
        "| experiment | printed | missing here | rebuilt here | measured | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name, experiment in experiments.items():
        needed = missing(experiment)
        cells = [
            f"`{name}`",
            "; ".join(printed(experiment)) or NONE,
            ", ".join(needed) or "nothing",
            rebuilt(name, needed, parts),
        ]
        if name in measured:
            group, rows = measured[name]
            cells += [shown(rows), "; ".join(verdicts(group, name))]
        else:
            cells += before.get(name, NOT_MEASURED)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def printed(experiment: Experiment) -> Iterator[str]:
    """What is reported of this experiment elsewhere."""
    for entry in experiment.published:
        size = f" (n = {entry.n:,})" if entry.n else ""
        yield f"{write_label(entry.metric)} {entry.value:g}{size}"


def shown(rows: Sequence[Row]) -> str:
    """The accuracy, or where no expression is predicted the concordance, of runs of all seeds."""
    metric = next(name for name in ("accuracy", "valence_ccc") if name in rows[0].metrics)
    values = [100 * row.value(metric) for row in rows]
    mean = sum(values) / len(values)
    cell = rows[0].metrics[metric]
    text = f"{write_label(metric)} {mean:.1f} %"
    if len(values) > 1:
        deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
        text += f" ± {deviation:.1f}"
    facts = [f"{len(values)} seed{'s' if len(values) > 1 else ''}", f"n = {rows[0].n:,}"]
    low, high = cell["low"], cell["high"]
    if low is not None and high is not None:
        facts.append(f"one run ± {50 * (high - low):.1f}")
    return f"{text} ({', '.join(facts)})"


def verdicts(group: Group, name: str) -> Iterator[str]:
    """What a comparison with the printed numbers gives."""
    for entry in group.published:
        if entry["name"] == name:
            yield f"{write_label(entry['metric'])}: {write_verdict(entry)}"


def suite_part(path: Path, outputs: Path) -> str:
    """The comparison of all runs of a suite."""
    suite = load_suite(path)
    comparison = compared(suite, outputs)
    done = sum(len(group.runs) for group in comparison.groups) if comparison else 0
    head = f"## {suite.name}\n\n{suite.description} `fer sweep {path}`, then "
    head += f"`python scripts/reproduce.py {path}`: {done} of {len(suite.runs)} runs are finished "
    parts = [head + "and evaluated.\n", paper.markdown(comparison) if comparison else ""]
    if path.resolve() == leak.SUITE and done == len(suite.runs):
        parts += [*leak.told(outputs), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def parts_of(page: str) -> dict[str, str]:
    """The parts of a page by their headings, in its order, without what stands before them."""
    _, *parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


def measured_before(table: str) -> dict[str, list[str]]:
    """By experiment, the last two cells of its row in a table of experiments."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[-2:] for cells in lines}


def page(suites: Sequence[Path], outputs: Path, before: str = "") -> str:
    """The whole page; what `suites` and `outputs` do not say anew is that of the page `before`."""
    prior_work = load_suite(PRIOR_WORK)
    heading = f"The {len({run.experiment.name for run in prior_work.runs})} experiments"
    parts = parts_of(before)
    stays = measured_before(parts.pop(heading, ""))
    parts |= {path.stem: suite_part(path, outputs) for path in suites}
    table = experiment_table(prior_work, compared(prior_work, outputs), parts, stays)
    first = [f"## {heading}\n", *table]
    return "\n".join([INTRODUCTION, *first, "", *parts.values()])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", type=Path, nargs="*", help="suite files, each a part of the page")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--write", type=Path, default=PAGE, help="the page")
    arguments = parser.parse_args()
    before = arguments.write.read_text() if arguments.write.exists() else ""
    write_atomically(arguments.write, page(arguments.suites, arguments.outputs, before))
    print(arguments.write)


if __name__ == "__main__":
    main()
