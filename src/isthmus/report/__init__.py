"""Reports for people: the report page of a fit, the page of outliers, and the comparison."""

from isthmus.report.compare import Comparison, compare
from isthmus.report.data.records import ReportData
from isthmus.report.gather import gather
from isthmus.report.outlier_page import OutlierReport, OutlierRow, outlier_report, render_outliers
from isthmus.report.page import render
from isthmus.report.sections import SECTIONS, Section
from isthmus.report.sections.history import with_curve
from isthmus.report.summary import summary_lines

__all__ = [
    "SECTIONS",
    "Comparison",
    "OutlierReport",
    "OutlierRow",
    "ReportData",
    "Section",
    "compare",
    "gather",
    "outlier_report",
    "render",
    "render_outliers",
    "summary_lines",
    "with_curve",
]
