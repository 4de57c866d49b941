"""Which tests are fast, which of them share a process, and how long one may take.

CONTRIBUTING.md says which tests belong to which tier.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Left out by `make test`. A test without one of these markers is fast.
SLOWER_TIERS = ("slow", "scale", "large")

# Fixtures that take seconds. Their users run in one process, so that each is made only once.
EXPENSIVE = ("trained_run", "subject", "server", "browser", "votes", "heavy_after")


def is_fast(item: pytest.Item) -> bool:
    """Whether a test is in the tier that `make test` runs."""
    return not any(map(item.get_closest_marker, SLOWER_TIERS))


def some_fast(values: Iterable[Any], *fast: Any) -> list[Any]:
    """The values of a parameter: tests of others than `fast` are in the tier `slow`."""
    every = list(values)
    assert all(value in every for value in fast), f"not all of {fast} are in {every}"
    return [
        value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in every
    ]


def group(item: pytest.Item) -> str | None:
    """The name shared by all tests that use the same expensive fixture; None for other tests."""
    for fixture in EXPENSIVE:
        if fixture in getattr(item, "fixturenames", ()):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            return f"{fixture} {parameters.get(fixture, '')}".strip()
    return None


def show_groups(items: list[pytest.Item]) -> None:
    """End the id of each test of a group with `@` and the group, which pytest-xdist goes by.

    It does so itself, but up to 3.8 in an attribute that pytest 9.2 no longer reads: without an
    error, every process would then make every expensive fixture.
    """
    for item in items:
        names = {str(marker.args[0]) for marker in item.iter_markers("xdist_group")}
        end = "@" + "_".join(sorted(names))
        if names and not item.nodeid.endswith(end) and hasattr(item, "_id"):
            item._id = type(item._id).parse(item.nodeid + end)


def over_budget(item: pytest.Item, call: pytest.CallInfo[None], budget: float) -> str | None:
    """What is wrong with a fast test that takes more than `budget` seconds, without its fixtures.

    None for tests of slower tiers and within the budget. The marker `budget(seconds)` raises it.
    """
    if marker := item.get_closest_marker("budget"):
        budget = max(budget, marker.args[0])
    if call.when != "call" or not is_fast(item) or call.duration <= budget:
        return None
    return (
        f"The test took {call.duration:.1f} s, more than FER_BENCH_TEST_BUDGET={budget:g}.\n"
        "Make it faster or mark it `slow`: see CONTRIBUTING.md."
    )


def imports_when_collected(path: Path) -> Iterator[str]:
    """The full names of what importing a test file imports: everything outside of functions."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.If):  # an `if` is for type checkers
            pending += ast.iter_child_nodes(node)
