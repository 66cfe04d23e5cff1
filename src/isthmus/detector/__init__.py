"""Odd rows: which rows do not belong, how sure that is, and which columns say so."""

from isthmus.detector.detector import OutlierDetector
from isthmus.detector.reasons import Reason
from isthmus.detector.saving import is_detector

__all__ = ["OutlierDetector", "Reason", "is_detector"]
