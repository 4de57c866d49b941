"""Self-contained HTML pages: nothing in them is loaded from elsewhere."""

from fer_bench.report.pages.comparison import comparison_page, write_comparison
from fer_bench.report.pages.run import run_page, write_run_report

__all__ = ["comparison_page", "run_page", "write_comparison", "write_run_report"]
