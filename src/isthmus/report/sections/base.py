"""A section of the report: how its values are collected and how they are drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData
from isthmus.report.html import Charts

T = TypeVar("T")


@dataclass(frozen=True)
class Section(Generic[T]):
    """A section of the report.

    Its name in `SECTIONS` is the key of its values in the report data.
    """

    collect: Callable[[Measurements], T | None]
    """The values of the section as the json module writes them; None leaves the section out."""

    draw: Callable[[T, ReportData, Charts], str]
    """HTML of these values; an empty text if there is nothing to show."""
