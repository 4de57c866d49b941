"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from fer_bench.cli.completion import configs, keys, runs, splits

ConfigFile = Annotated[
    Path,
    typer.Argument(help="YAML file of an experiment, or a trained run.", autocompletion=configs),
]
ConfigFiles = Annotated[
    list[Path],
    typer.Argument(help="YAML files of experiments, or trained runs.", autocompletion=configs),
]
Data = Annotated[
    Path,
    typer.Argument(
        help="YAML file of an experiment, or the folder of a dataset.", autocompletion=configs
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        autocompletion=runs,
        help="A run: its id, the beginning of its id, its folder, a file in it, or latest.",
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        autocompletion=runs,
        help="Runs: for each its id, the beginning of its id, its folder, a file in it, or latest.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key: training.batch_size=16.",
        autocompletion=keys,
    ),
]
Places = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Where the data is now, if it was moved: dataset.root=FOLDER.",
    ),
]
SplitName = Annotated[
    str, typer.Option("--split", help="train, validation or test.", autocompletion=splits)
]
VerifyFiles = Annotated[
    str,
    typer.Option(
        "--verify",
        metavar="FILES",
        help="Which files of the dataset are read again to find out whether they changed: sample "
        "(200 images of each split), all or none.",
    ),
]
Outputs = Annotated[Path, typer.Option(help="Folder of the runs.")]
To = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write into a copy of the run in this folder, which has no model: for a run that is "
        "read-only.",
    ),
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:<index>.")]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads to compute with. Default: one per usable core."),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
WorkerAddresses = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="HOST:PORT,...",
        help="Train on several hosts: the address of every worker, or slurm. Default: the "
        "environment variable TF_CONFIG.",
    ),
]
WorkerIndex = Annotated[
    int | None,
    typer.Option("--index", help="With --workers: index of this worker. Worker 0 writes the run."),
]
