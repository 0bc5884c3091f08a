"""The review pages of runs and evaluations: self-contained, for engineers and radiologists."""

from pipeline.report.pages import write_evaluation, write_report
from pipeline.report.slice_images import Panel, save_overview

__all__ = ["Panel", "save_overview", "write_evaluation", "write_report"]
