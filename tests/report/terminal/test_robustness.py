"""The table of corruption robustness, from complete and partial documents."""

import io

from filled import robustness
from messages import says
from rich.console import Console

from fer_bench.evaluation.corruptions import CORRUPTIONS
from fer_bench.report.terminal.robustness import robustness_table


def printed(text: str, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(robustness_table(robustness(text)))
    return file.getvalue()


def test_the_table_shows_every_corruption_within_80_columns() -> None:
    text = printed("all")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for name in CORRUPTIONS:
        assert name.replace("_", " ") in text
    row = next(line for line in text.splitlines() if line.strip().startswith("glass blur"))
    assert " ".join(row.split()) == "glass blur 45.12 [43.12, 47.12] 51.0 46.0 41.0 36.0 31.0"
    assert "66.00 [64.00, 68.00]" in text
    assert "31.82 [29.82, 33.82]" in text
    assert "15 × 5" not in text


def test_a_partial_selection_is_pointed_out_with_its_gaps() -> None:
    text = printed("fog:2,eyes")
    says(text, "15 × 5")
    rows = [line.split() for line in text.splitlines()]
    assert ["fog", "45.12", "[43.12,", "47.12]", "-", "41.0", "-", "-", "-"] in rows
    assert ["eyes", "25.00", "[23.00,", "27.00]"] in rows
