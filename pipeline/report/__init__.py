"""The review page of a run, `report.html`: self-contained, for engineers and radiologists."""

from pipeline.report.figures import Panel, save_overview
from pipeline.report.html import write_report

__all__ = ["Panel", "save_overview", "write_report"]
