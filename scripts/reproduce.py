"""Writes docs/reproduction.md: the prior work, compared with the runs in `outputs/`.

The first section has one row per experiment of the prior work: its printed results, the data and
weights that are missing here, what was run instead, the results over its seeds, and the verdict.
Each given suite has a section with the comparison of its runs. Nothing is trained here:

    fer sweep configs/suites/pisa.yaml
    python scripts/reproduce.py configs/suites/pisa.yaml

The suites take many hours of one machine, so that few machines have all their runs: the sections of
other suites, and the rows of experiments without runs, are kept as they are.
"""

import argparse
import re
import statistics
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
# The suite that answers the question of an experiment with other weights or other faces.
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

Written by `python scripts/reproduce.py SUITE…`, one section per suite from its runs. The
experiments are those of `configs/suites/prior_work.yaml`, each with a corrected protocol: the test
images select nothing, and images are augmented after the split. *Printed* is the result that the
authors report, mostly without an interval; *measured* is the mean over the seeds with their
standard deviation, and the half width of the 95% interval of one run on its test images. An
experiment whose data or initial weights are not available was not run here, and its row names what
is missing; if another suite answers its question with available data, *rebuilt here* links to it.
The conclusions are in [results.md](results.md#the-prior-work).
"""


def missing(experiment: Experiment) -> list[str]:
    """The data and weights of an experiment that are missing here."""
    found = []
    if not experiment.dataset.root.is_dir():
        found.append(f"{experiment.dataset.name} ({experiment.dataset.root})")
    stored = KERAS_WEIGHTS.glob(f"*{experiment.model.backbone}*")
    if experiment.model.weights == "imagenet" and not any(stored):
        found.append("ImageNet weights")
    return found


def rebuilt(name: str, needed: Sequence[str], parts: Collection[str]) -> str:
    """Whether an experiment can be run here, with a link to the suite that replaces it."""
    if not needed:
        return "in full"
    stand_in = STAND_INS.get(name)
    if stand_in in parts:
        return f"with other weights or faces: [{stand_in}](#{stand_in})"
    return "no"


def compared(suite: Suite, outputs: Path) -> Comparison | None:
    """The comparison of the runs of a suite; None without any."""
    try:
        return collect(outputs, only={run.run_id for run in suite.runs})
    except RunError:
        return None


def rows_of(comparison: Comparison | None) -> dict[str, tuple[Group, list[Row]]]:
    """The runs of each experiment, and the group that they are in."""
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
    """A Markdown table with one row per experiment.

    Args:
        suite: the experiments.
        comparison: the comparison of their runs.
        parts: the names of the suites that have a section of the page.
        before: by experiment, the last two cells, which are kept if `comparison` has no run of it.
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
    """The published results of an experiment."""
    for entry in experiment.published:
        size = f" (n = {entry.n:,})" if entry.n else ""
        yield f"{write_label(entry.metric)} {entry.value:g}{size}"


def shown(rows: Sequence[Row]) -> str:
    """The accuracy over the seeds, or the CCC of valence if no expression is predicted."""
    metric = next(name for name in ("accuracy", "valence_ccc") if name in rows[0].metrics)
    values = [100 * row.value(metric) for row in rows]
    cell = rows[0].metrics[metric]
    text = f"{write_label(metric)} {statistics.mean(values):.1f} %"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}"
    facts = [f"{len(values)} seed{'s' if len(values) > 1 else ''}", f"n = {rows[0].n:,}"]
    low, high = cell["low"], cell["high"]
    if low is not None and high is not None:
        facts.append(f"one run ± {50 * (high - low):.1f}")
    return f"{text} ({', '.join(facts)})"


def verdicts(group: Group, name: str) -> Iterator[str]:
    """The verdicts of the comparison with the published results."""
    for entry in group.published:
        if entry["name"] == name:
            yield f"{write_label(entry['metric'])}: {write_verdict(entry)}"


def suite_part(path: Path, outputs: Path) -> str:
    """The section with the comparison of all runs of a suite."""
    suite = load_suite(path)
    comparison = compared(suite, outputs)
    done = sum(len(group.runs) for group in comparison.groups) if comparison else 0
    head = f"## {suite.name}\n\n{suite.description} `fer sweep {path}`, then "
    head += f"`python scripts/reproduce.py {path}`: {done} of {len(suite.runs)} runs are finished "
    parts = [head + "and evaluated.\n", paper.markdown(comparison) if comparison else ""]
    if path.resolve() == leak.SUITE and done == len(suite.runs):
        parts += [*leak.findings(outputs), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def parts_of(page: str) -> dict[str, str]:
    """The sections of a page by their headings, in order, without the introduction."""
    _, *parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


def measured_before(table: str) -> dict[str, list[str]]:
    """The last two cells of each experiment in the table of experiments."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[-2:] for cells in lines}


def page(suites: Sequence[Path], outputs: Path, before: str = "") -> str:
    """The whole page; whatever `suites` and `outputs` do not replace is taken from `before`."""
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
    parser.add_argument("suites", type=Path, nargs="*", help="suite files, one section each")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--write", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    before = arguments.write.read_text() if arguments.write.exists() else ""
    write_atomically(arguments.write, page(arguments.suites, arguments.outputs, before))
    print(arguments.write)


if __name__ == "__main__":
    main()
