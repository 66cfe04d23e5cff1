"""Odd rows: which rows do not belong, how sure that is, and which columns say so."""

from isthmus.detector.detector import OutlierDetector
from isthmus.detector.loading import load
from isthmus.detector.reasons import Reason

__all__ = ["OutlierDetector", "Reason", "load"]
