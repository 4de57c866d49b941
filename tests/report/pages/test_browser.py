"""Both pages in a real browser: an empty console, nothing loaded, tables that sort."""

from collections.abc import Iterator
from pathlib import Path

import filled
import pytest
from browser import Browser, chromium, open_browser

from fer_bench.report.pages import write_comparison, write_run_report

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="needs Chromium; on Debian: apt install chromium"
)

SORT = """(() => {
  const table = document.querySelector("table.sortable");
  const column = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith(NAME));
  const head = table.tHead.rows[0].cells[column];
  head.querySelector("button").click();
  const cells = [...table.tBodies[0].rows].map((row) => row.cells[column].innerText.trim());
  return [head.getAttribute("aria-sort"), cells, table.querySelectorAll("[aria-sort]").length];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run, with its sheets of images, and the page of a comparison."""
    folder = tmp_path_factory.mktemp("outputs")
    run = filled.write_run(folder / "filled-s1-unhashed", images=140)
    write_comparison(filled.comparison(), folder / "comparison.html")
    return {
        "run": write_run_report(run, with_images=True),
        "comparison": folder / "comparison.html",
    }


@pytest.mark.parametrize("name", ["run", "comparison"])
@pytest.mark.parametrize("width", [390, 1400])
def test_a_page_is_complete_and_loads_nothing(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.show(width)
    browser.open(pages[name])
    assert browser.reported("Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    assert [entry["entry"]["text"] for entry in browser.reported("Log.entryAdded")] == []
    requested = [event["request"]["url"] for event in browser.reported("Network.requestWillBeSent")]
    assert {address.split(":")[0] for address in requested} <= {"file", "data"}
    assert [address for address in requested if address.startswith("file")] == [
        pages[name].resolve().as_uri()
    ]
    # Wide content scrolls within its own box.
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.title") != ""


def test_every_picture_loads_and_has_a_text_alternative(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.show(1400)
    browser.open(pages["run"])
    pictures = "[...document.images]"
    assert browser.run(f"{pictures}.length") == 2
    assert browser.run(f"{pictures}.every((i) => i.complete && i.naturalWidth > 0)")
    assert browser.run(f"{pictures}.every((i) => i.alt.length > 20)")
    drawn = "[...document.querySelectorAll('svg[role=img]')]"
    assert browser.run(f"{drawn}.length") > 20
    assert browser.run(f"{drawn}.every((i) => i.getAttribute('aria-label').length > 20)")


def test_no_script_of_a_run_is_executed(browser: Browser, pages: dict[str, Path]) -> None:
    """Even if escaping failed: the policy of the page blocks every other script."""
    damaged = pages["run"].with_name("damaged.html")
    smuggled = "<body><script>window.executed = true</script>"
    damaged.write_text(pages["run"].read_text().replace("<body>", smuggled))
    browser.open(pages["run"])
    assert browser.run("document.scripts.length") == 1
    browser.open(damaged)
    assert browser.run("window.executed === undefined")
    assert browser.reported("Log.entryAdded")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("#", list("123456"), list("654321")),
        ("accuracy", "66.00 64.70 63.40 62.10 60.80 58.00", "58.00 60.80 62.10 63.40 64.70 66.00"),
        ("parameters", "118.0 23.9 20.1 1.6 66.0 -", "66.0 1.6 20.1 23.9 118.0 -"),
    ],
)
def test_numbers_sort_as_numbers_with_unknown_ones_last(
    browser: Browser, pages: dict[str, Path], name: str, first: str, second: str
) -> None:
    browser.open(pages["comparison"])
    script = SORT.replace("NAME", f'"{name}"')
    ascending = name == "#"
    for expected, order in ((first, ascending), (second, not ascending)):
        order_shown, cells, marked = browser.run(script)
        assert order_shown == ("ascending" if order else "descending")
        assert marked == 1
        wanted = expected.split() if isinstance(expected, str) else expected
        assert [cell.split()[0] for cell in cells] == wanted


def test_text_sorts_alphabetically(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["comparison"])
    order, cells, _ = browser.run(SORT.replace("NAME", '"backbone"'))
    assert order == "ascending"
    assert cells == sorted(cells)
    assert len(set(cells)) == 5


def test_a_dark_page_is_dark_and_paper_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    browser.show(1400, dark=True)
    browser.open(pages["comparison"])
    assert browser.run(background) == "rgb(20, 24, 28)"
    browser.show(1400, dark=True, paper=True)
    assert browser.run(background) == "rgb(255, 255, 255)"
    browser.show(1400)
    assert browser.run(background) == "rgb(255, 255, 255)"


def test_printing_unfolds_everything(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    browser.show(1000)
    browser.open(pages["run"])
    closed = "document.querySelectorAll('details:not([open])').length"
    assert browser.run(closed) > 0
    browser.paper(tmp_path / "run.pdf")
    assert (tmp_path / "run.pdf").read_bytes().startswith(b"%PDF")
    assert browser.run(closed) == 0
