"""Outlier detection: scores of rows, a threshold with a guarantee, and reasons by column."""

from isthmus.detector.detector import OutlierDetector
from isthmus.detector.persistence import is_detector
from isthmus.detector.reasons import Reason

__all__ = ["OutlierDetector", "Reason", "is_detector"]
