"""The review pages of runs and evaluations: self-contained, for engineers and radiologists."""

from pipeline.report.figures import Panel, save_overview
from pipeline.report.html import write_evaluation, write_report

__all__ = ["Panel", "save_overview", "write_evaluation", "write_report"]
