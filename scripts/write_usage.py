"""Write the table of `docs/usage.md` again, from the rows of `tests/cli/test_typed_table.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cli.test_typed_table import USAGE, written

USAGE.write_text(written(USAGE.read_text(encoding="utf-8")), encoding="utf-8")
print(f"written: {USAGE}")
