"""What a fit is worth, for people: the evidence, the page it is shown on, and the comparison."""

from isthmus.report.compare import Comparison, compare
from isthmus.report.data.fit_history import with_curve
from isthmus.report.data.gather import gather
from isthmus.report.outlier_page import OddRow, findings, render_odd
from isthmus.report.page import render
from isthmus.report.summary import summary_lines

__all__ = [
    "Comparison",
    "OddRow",
    "compare",
    "findings",
    "gather",
    "render",
    "render_odd",
    "summary_lines",
    "with_curve",
]
