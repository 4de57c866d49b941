"""The output of `fer doctor`."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from fer_bench.report.terminal.table import add_row, new_table, table_heading
from fer_bench.report.wording import MISSING, write_size

Document = Mapping[str, Any]


def machine_screen(document: Document) -> RenderableType:
    """Everything in the document that `fer doctor --json` prints."""
    versions = dict(document["versions"])
    title = f"fer-bench {versions.pop('fer-bench')}"
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        Text(f"{title}  ({others})", style="bold"),
        *_section("Machine", _machine(document["system"])),
        *_section("Device", _device(document["device"])),
        *_section("What auto chooses", _choices(document["choices"])),
        *_section("Folders", _folders(document["cache"], document["outputs"])),
    ]
    measured = document["measured"]
    return Group(*parts, *(_measured(measured) if measured else ()))


def _section(title: str, rows: Iterable[tuple[str, str]]) -> tuple[RenderableType, ...]:
    table = new_table(["<", ""], ruled=False)
    for name, value in rows:
        add_row(table, f"{name:<16}", value)
    return table_heading(title), Padding(table, (0, 0, 0, 2))


def _machine(system: Document) -> Iterable[tuple[str, str]]:
    yield "operating system", system["operating_system"]
    yield "processor", system["cpu"]
    yield "instructions", ", ".join(system["cpu_features"]) or "not known"
    yield "cores", f"{system['cores']} ({system['why_cores']})"
    total, available = system["memory_total_bytes"], system["memory_available_bytes"]
    yield "memory", f"{write_size(available)} free of {write_size(total)}" if total else "not known"


def _device(device: Document) -> Iterable[tuple[str, str]]:
    yield "used", device["name"]
    assumed = " (assumed: the driver does not report it)" if device["memory_is_assumed"] else ""
    yield "memory to use", f"{write_size(device['memory_bytes'])}{assumed}"
    yield "GPUs seen", ", ".join(device["gpus"]) or f"none. {device['why_no_gpu']}"


def _choices(choices: Document) -> Iterable[tuple[str, str]]:
    for name, choice in choices.items():
        title = "XLA" if name == "xla" else name
        yield title, f"{choice['value']} ({choice['why']})"


def _folders(cache: Document, outputs: Document) -> Iterable[tuple[str, str]]:
    yield "cache", cache["folder"] + _warning(cache)
    held = f"{write_size(cache['bytes'])} in {cache['files']:,} files"
    yield "", f"{held}; {write_size(cache['free_bytes'])} free on that disk"
    yield "runs", outputs["folder"] + (_warning(outputs) or ", writable")


def _warning(folder: Document) -> str:
    return "" if folder["writable"] else ": CANNOT BE WRITTEN, check its permissions"


def _measured(measured: Document) -> Iterable[RenderableType]:
    yield table_heading(f"Training, measured here ({measured['network']})")
    table = new_table(["precision", "XLA", ">images/s", ">first step", ""], ruled=False)
    for row in measured["training"]:
        add_row(table, *_training_cells(row), style="bold" if row["chosen"] else "")
    yield Padding(table, (0, 0, 0, 2))
    rates = [
        (f"product {precision}", f"{rate:,.0f} GFLOP/s (1024 x 1024 matrices)")
        for precision, rate in measured["matrix_product_gflops"].items()
    ]
    rates.append(("memory copy", f"{measured['copy_gb_per_second']:.1f} GB/s (one thread)"))
    yield from _section("Other rates, measured here", rates)
    yield Padding(Text(_verdict(measured["advice"])), (1, 0, 0, 0))


def _training_cells(row: Document) -> tuple[str, ...]:
    if row["images_per_second"] is None:
        return row["precision"], row["xla"], MISSING, MISSING, row["note"]
    first = f"{row['first_step_seconds']:.1f} s"
    chosen = "what auto chooses" if row["chosen"] else ""
    return row["precision"], row["xla"], f"{row['images_per_second']:,.0f}", first, chosen


def _verdict(advice: Document | None) -> str:
    if advice is None:
        return "The choice of auto is the fastest here, or within 10 % of it."
    settings = " ".join(f"--set {setting}" for setting in advice["set"])
    return (
        f"For this network other settings are {advice['times']:.1f} times as fast as those that "
        f"auto chooses:\n  {settings}"
    )
