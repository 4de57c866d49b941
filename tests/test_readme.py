"""The README: what it tells a reader to type exists, and its links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fer_bench.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMANDS: Any = typer.main.get_command(app)
# A command line may stand behind a prompt, variables and a runner, and before a redirection.
TYPED = re.compile(r"^(?:\$ |[A-Z_]+=\S+ |uv run |\.venv/bin/|time )*fer(?: ([^<>]*))?(?:[<>].*)?$")


def commands(lines: str) -> list[list[str]]:
    """The arguments of every `fer` command in `lines` of shell."""
    parts = re.split(r"\n|&&|;|\|", lines.replace("\\\n", " "))
    matches = [TYPED.match(part.strip()) for part in parts]
    return [shlex.split(match[1] or "", comments=True) for match in matches if match]


def typed(text: str) -> list[list[str]]:
    """The commands in fenced blocks, and those in running text that have arguments."""
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [
        *(arguments for block in FENCE.findall(text) for arguments in commands(block)),
        *(arguments for span in inline for arguments in commands(span) if is_complete(arguments)),
    ]


def is_complete(arguments: list[str]) -> bool:
    """Whether this is to be typed; `fer train` in a sentence only names the command."""
    named = [list(words) for words, command in leaves(COMMANDS) if needs_arguments(command)]
    return bool(arguments) and arguments not in named and arguments != ["data"]


def needs_arguments(command: Any) -> bool:
    return any(parameter.required for parameter in command.params)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the app that is no group, by the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from leaves(child, (*path, name))


def check(arguments: list[str]) -> tuple[str, ...]:
    """The words of the command; parses its arguments without running it. Raises on a mistake."""
    command, words, rest = COMMANDS, [], list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        words.append(rest.pop(0))
        assert words[-1] in command.commands, f"no command {' '.join(words)!r}"
        command = command.commands[words[-1]]
    if rest not in (["--help"], ["--install-completion"]):
        command.make_context("fer", rest)
    return tuple(words)


WRITTEN = typed(README)


def test_commands_are_found_wherever_they_stand() -> None:
    text = (
        "`fer train` names, `fer train x.yaml` is typed\n"
        "```sh\n$ fer train x \\\n  --fresh  # again\n"
        "A=1 fer compare | less\nuv run fer schema > x\nother\n```\n"
    )
    assert typed(text) == [["train", "x", "--fresh"], ["compare"], ["schema"], ["train", "x.yaml"]]


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "x", "--bogus", "1"]])
def test_a_wrong_command_would_be_noticed(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"no command|[Mm]issing|[Nn]o such option"):
        check(arguments)


@pytest.mark.parametrize("arguments", WRITTEN, ids=" ".join)
def test_what_is_written_can_be_typed(arguments: list[str]) -> None:
    check(arguments)


def test_every_command_is_shown() -> None:
    shown = [check(arguments) for arguments in WRITTEN]
    assert [" ".join(words) for words, _ in leaves(COMMANDS) if words not in shown] == []


def test_every_experiment_that_is_named_exists() -> None:
    named = set(re.findall(r"\bconfigs/[\w./-]+\.ya?ml\b", README))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def links() -> list[str]:
    """The targets of links and images, but those on the web."""
    text = FENCE.sub("", README)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    found += re.findall(r"^ *\[[^\]]+\]: *(\S+)", text, re.MULTILINE)
    found += re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def headings(text: str) -> set[str]:
    """The anchors of the headings of a page."""
    titles = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for link in links():
        name, _, anchor = link.partition("#")
        target = ROOT / name if name else ROOT / "README.md"
        is_page = target.suffix == ".md" and target.is_file()
        if not target.exists() or (
            anchor and is_page and anchor not in headings(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    assert broken == []
