"""``from rl.report import write_report``: a run folder -> one page."""

from rl.report.page import write_report

__all__ = ["write_report"]
