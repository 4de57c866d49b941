"""The table of `docs/usage.md`: what is typed and what happens, a row per case, each of them tried.

To write the table again after a change of the rows: python scripts/write_usage.py
"""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from messages import says
from typed_files import EXPERIMENT
from typer.testing import Result

Fer = Callable[..., Result]

USAGE = Path(__file__).resolve().parents[2] / "docs" / "usage.md"
BEGIN, END = "<!-- typed: begin -->", "<!-- typed: end -->"


@dataclass(frozen=True)
class Row:
    """What is typed and what happens.

    Attributes:
        typed: the command; `RUN` is the id of the run called `one`.
        happens: in plain words.
        out: parts of what standard output says. A row without them is of an error.
        error: parts of what standard error says.
        unsaid: parts of what standard output does not say.
        change: the file `tiny.yaml` is changed so before: (what, by what).
    """

    typed: str
    happens: str
    out: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    change: tuple[str, str] = ("", "")

    @property
    def exit_code(self) -> int:
        """0 where something is done, 2 for an error that the user can fix."""
        return 2 if self.error else 0


REPORT = ("one-s0-", "report.html")
SAME = "tiny-s42-e8e9e5d4"  # the run id of `tiny.yaml`

ROWS: dict[str, tuple[Row, ...]] = {
    "A run": (
        Row("fer report RUN", "the run with this id, in the folder `outputs`", REPORT),
        Row("fer report on", "the one run whose id begins so", REPORT),
        Row("fer report o", "an error that lists the runs that begin so", error=("2 runs", "'o'")),
        Row("fer report outputs/RUN/", "the run in this folder", REPORT),
        Row("fer report outputs/RUN/run.json", "the run that this file belongs to", REPORT),
        Row(
            "fer report outputs/RUN/predictions/test.csv",
            "the run that this file belongs to",
            REPORT,
        ),
        Row("fer report latest", "the run that began last", ("third-s2-", "report.html")),
        Row("fer report one other", "one after the other", (*REPORT, "other-s1-")),
        Row(
            "fer report nothing",
            "an error that lists the runs that there are",
            error=("'nothing'", "one-s0-", "--outputs"),
        ),
        Row("fer compare one third", "these two runs", ("one-s0-", "third-s2-")),
        Row(
            "fer compare outputs theirs",
            "the runs in both folders; a copy in the second is left out, with its original",
            ("one-s0-", "is a copy of", "same run id and predictions"),
        ),
        Row(
            "fer compare outputs",
            "the runs directly in this folder; not those in folders further below, such as backups",
            ("one-s0-", "other-s1-", "third-s2-"),
            unsaid=("backup", "is a copy of", "over seeds"),
        ),
        Row(
            "fer compare outputs outputs/backup/2026",
            "the runs in both; the copies in the backup are left out, and never a second seed",
            ("one-s0-", "is a copy of", "same run id and predictions"),
            unsaid=("over seeds",),
        ),
        Row(
            "fer compare outputs --split tset",
            "an error that names the split",
            error=("tset", "'test'"),
        ),
        Row(
            "fer train one",
            "an error: predictions that were adopted have no experiment",
            error=("has no experiment",),
        ),
    ),
    "A file or a folder": (
        Row("fer validate ~/tiny.yaml", "the file in the home folder", (SAME,)),
        Row("fer validate $PLACE/tiny.yaml", "the variable is replaced by its value", (SAME,)),
        Row(
            "fer validate $NOWHERE/tiny.yaml",
            "an error: the variable is not set",
            error=("$NOWHERE", "not set"),
        ),
        Row(
            "fer report one --outputs ~/outputs",
            "the same in an option",
            REPORT,
        ),
        Row("fer validate tiny.yml", "an error that names `tiny.yaml`", error=("'tiny.yaml'",)),
        Row("fer validate .", "an error that names the YAML files in it", error=("tiny.yaml",)),
        Row("fer data stats faces", "the dataset whose layout this folder has", ("drawn",)),
    ),
    "A name": (
        Row(
            "fer validate tiny.yaml --set model.backbone=CNN-Compact",
            "the registered name, and the same run id",
            (SAME,),
        ),
        Row(
            "fer validate tiny.yaml --set dataset.name=Drawn",
            "the registered name, and the same run id",
            (SAME,),
        ),
        Row(
            "fer validate tiny.yaml --set model.backbone=resnet",
            "an error that lists the names: several begin so",
            error=("'resnet'", "resnet50", "resnet152v2"),
        ),
        Row(
            "fer validate tiny.yaml --set training.optimizer=Adamm",
            "an error that names the nearest",
            error=("'Adamm'", "'adam'"),
        ),
        Row("fer reprot one", "an error that names the command", error=("'report'",)),
        Row("fer help validate", "the help, as `fer validate -h`", ("Usage:", "validate")),
    ),
    "A key or an option": (
        Row("fer validate tiny.yaml --set 'seed = 3'", "spaces do not matter", ("tiny-s3-",)),
        Row(
            "fer validate tiny.yaml --set 'stages[0].epochs=1'",
            "a stage by its position in brackets, from 0",
            (SAME,),
        ),
        Row("fer validate tiny.yaml --set stages.head.epochs=1", "a stage by its name", (SAME,)),
        Row(
            "fer validate tiny.yaml --set stages.2.epochs=1",
            "an error that gives the positions and the names",
            error=("0 to 1", "head, all"),
        ),
        Row(
            "fer validate tiny.yaml --set batch_size=8",
            "an error that gives the whole key",
            error=("training.batch_size",),
        ),
        Row(
            "fer validate tiny.yaml --set training.lr=1",
            "an error that gives the key",
            error=("stages.0.learning_rate",),
        ),
        Row(
            "fer train tiny.yaml --epochs 8",
            "an error with the `--set` of each stage, and its value in the file",
            error=("--set stages.0.epochs=8  (stage head, now 1)", "--set stages.1.epochs=8"),
        ),
        Row(
            "fer train tiny.yaml --lr 0.1",
            "the same",
            error=("--set stages.0.learning_rate=0.1", "now 0.001"),
        ),
        Row(
            "fer train tiny.yaml --batch-size 8",
            "an error with the `--set`",
            error=("--set training.batch_size=8  (now 16)",),
        ),
        Row(
            "fer train tiny.yaml seed=3",
            "an error with the `--set`; nothing is trained",
            error=("--set seed=3",),
        ),
        Row("fer train tiny.yaml --resume", "an error: that is what it does", error=("--fresh",)),
        Row("fer train tiny.yaml --gpus 1", "an error with the option", error=("--device gpu:0",)),
        Row(
            "fer train tiny.yaml --output-dir runs",
            "an error with the option",
            error=("--outputs FOLDER",),
        ),
    ),
    "A number in YAML or `--set`": (
        Row(
            "fer validate tiny.yaml --set stages.0.learning_rate=1e-3",
            "0.001, which YAML 1.1 reads as a text",
            (SAME,),
        ),
        Row(
            "fer validate tiny.yaml --set training.batch_size=016",
            "an error: YAML 1.1 reads 14 (octal)",
            error=("octal (14)", "Write 16"),
        ),
        Row(
            "`batch_size: 016` in `tiny.yaml`",
            "the same, with line and column",
            error=("line 4", "octal (14)", "Write 16"),
            change=("batch_size: 16", "batch_size: 016"),
        ),
        Row(
            "fer validate tiny.yaml --set training.batch_size=0x10",
            "an error: 16 (hexadecimal)",
            error=("hexadecimal (16)", "Write 16"),
        ),
        Row(
            "fer validate tiny.yaml --set training.batch_size=1:30",
            "an error: 90 (base 60)",
            error=("base 60 (90)", "Write 90"),
        ),
        Row(
            "fer validate tiny.yaml --set training.batch_size=1_6",
            "an error: 16",
            error=("underscores", "Write 16"),
        ),
        Row(
            "fer validate tiny.yaml --set training.batch_size=16.5",
            "an error: a whole number is needed",
            error=("training.batch_size", "whole number", "16.5"),
        ),
        Row(
            "fer validate tiny.yaml --set stages.0.learning_rate=0,001",
            "an error: a decimal comma is a text",
            error=("stages.0.learning_rate", "'0,001'"),
        ),
    ),
}


def table() -> str:
    """The block of Markdown between the markers."""
    parts = [BEGIN]
    for group, rows in ROWS.items():
        parts += ["", f"**{group}**", "", "| typed | what happens |", "|---|---|"]
        parts += [f"| {_code(row.typed)} | {row.happens} |" for row in rows]
    return "\n".join([*parts, "", END])


def _code(typed: str) -> str:
    return typed if "`" in typed else f"`{typed}`"


def written(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


def test_the_page_has_this_table() -> None:
    page = USAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page == written(page), "out of date; write it again: python scripts/write_usage.py"


def test_every_row_says_something() -> None:
    rows = [row for rows in ROWS.values() for row in rows]
    assert all(bool(row.out) != bool(row.error) for row in rows)
    assert len({row.typed for row in rows}) == len(rows)


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is the home folder; `theirs` and a folder of backups have copies."""
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("PLACE", str(here))
    monkeypatch.delenv("NOWHERE", raising=False)
    shutil.copytree(here / "outputs", here / "theirs")
    shutil.copytree(here / "theirs", here / "outputs" / "backup" / "2026")
    for started, name in enumerate(("one", "other", "third")):
        path = next((here / "outputs").glob(f"{name}-*")) / "run.json"
        document = json.loads(path.read_text()) | {"started": f"203{started}-01-01"}
        path.write_text(json.dumps(document))
    return here


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.typed) for rows in ROWS.values() for row in rows],
)
def test_what_is_typed_does_what_the_table_says(row: Row, place: Path, fer: Fer) -> None:
    run_id = next((place / "outputs").glob("one-*")).name
    (place / "tiny.yaml").write_text(
        EXPERIMENT.replace(*row.change) if row.change[0] else EXPERIMENT
    )
    typed = "fer validate tiny.yaml" if row.change[0] else row.typed
    result = fer(*shlex.split(typed.replace("RUN", run_id))[1:])
    assert result.exit_code == row.exit_code, result.output
    says(result.stdout, *row.out)
    says(result.stderr, *row.error)
    assert not [text for text in row.unsaid if text in result.stdout]
    assert (row.exit_code == 0) == (result.stdout != "")
