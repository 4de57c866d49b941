"""`fer cache`: show or clear the cache."""

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fer_bench.api.choices import one_of
from fer_bench.cli.console import results, say
from fer_bench.cli.options import Json
from fer_bench.cli.shell import Commands, Typer, notify
from fer_bench.report.wording import write_size
from fer_bench.storage import cache
from fer_bench.storage.cache import Entry

app = Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Show or clear the cache: intermediate results that later runs reuse.",
)


@app.command()
def stats(as_json: Json = False) -> None:
    """Show the contents of the cache by kind, its folder, and the free space on that disk."""
    document = _describe(cache.cache_root(), cache.entries())
    if as_json:
        say(json.dumps(document, indent=2))
        return
    if document["kinds"]:
        results().print(_table(document["kinds"]))
    total = sum(kind["bytes"] for kind in document["kinds"])
    say(f"cache: {document['root']}")
    say(f"total: {write_size(total)}")
    say(f"free:  {write_size(document['free_bytes'])} on that disk")


@app.command()
def clear(
    kind: Annotated[
        str | None, typer.Argument(help="Remove only this kind; `fer cache stats` lists the kinds.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Clear the cache; its contents are computed again when they are needed.

    Do this only while no run is training: a run that loses its images ends with an error.
    """
    if kind is not None:
        one_of("kind", kind, cache.known_kinds())
    kinds = None if kind is None else (kind,)
    removed = cache.clear(kinds)
    left_alone = cache.unfinished(kinds)
    freed = sum(entry.bytes for entry in removed)
    if as_json:
        document = {
            "root": str(cache.cache_root()),
            "removed": [_entry(entry) for entry in removed],
            "freed_bytes": freed,
            "left_alone": [str(path) for path in left_alone],
        }
        say(json.dumps(document, indent=2))
    else:
        say(f"removed {_count(len(removed))}, {write_size(freed)} freed")
    if left_alone:
        being_made = f"{_count(len(left_alone))} being written by another process"
        notify(f"left alone: {being_made}")


def _describe(root: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """The document of `fer cache stats --json`; sizes in bytes, times in ISO 8601."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    kinds = sorted({entry.kind for entry in entries})
    return {
        "root": str(root),
        "free_bytes": shutil.disk_usage(there).free,
        "kinds": [_kind(kind, [of for of in entries if of.kind == kind]) for kind in kinds],
        "entries": [_entry(entry) for entry in entries],
    }


def _kind(kind: str, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "kind": kind,
        "entries": len(entries),
        "bytes": sum(entry.bytes for entry in entries),
        "last_used": _write_time(max(entry.used for entry in entries)),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.path.name,
        "bytes": entry.bytes,
        "used": _write_time(entry.used),
        "note": entry.note,
    }


def _table(kinds: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("kind")
    table.add_column("entries", justify="right")
    table.add_column("size", justify="right")
    table.add_column("last used")
    for kind in kinds:
        used = datetime.fromisoformat(kind["last_used"]).astimezone()
        cells = (kind["kind"], f"{kind['entries']:,}", write_size(kind["bytes"]))
        # As Text: a name with brackets must not be read as markup.
        table.add_row(*map(Text, (*cells, f"{used:%Y-%m-%d %H:%M}")))
    return table


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number:,} entries"


def _write_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
