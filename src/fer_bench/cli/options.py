"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path, typer.Argument(help="YAML file of the experiment, or a run that was trained with it.")
]
ConfigFiles = Annotated[
    list[Path], typer.Argument(help="YAML files of experiments, or runs that were trained.")
]
Data = Annotated[
    Path, typer.Argument(help="YAML file of an experiment, or the folder of a dataset.")
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run: its id, a beginning that fits one run, its folder, a file in it, or latest.",
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="The runs, each by its id, a beginning that fits one run, its folder, a file in it, "
        "or as latest.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. training.batch_size=16."),
]
Places = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Where the data lies that is measured on, if not where its file says: "
        "dataset.root=FOLDER.",
    ),
]
Outputs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:<index>.")]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads to compute with on the CPU; default one per usable core."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
WorkerAddresses = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="HOST:PORT,...",
        help="Train on several hosts: the address of every worker, or `slurm`; default: those of "
        "the variable TF_CONFIG.",
    ),
]
WorkerIndex = Annotated[
    int | None,
    typer.Option("--index", help="With --workers: which of them this is; 0 writes the run."),
]
