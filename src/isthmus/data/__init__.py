"""Where rows come from, how they are prepared for a network, and what they are turned back into."""

from isthmus.data.arrays import array_source, sparse_source, tensor_source
from isthmus.data.columns import Column
from isthmus.data.formats import FORMATS
from isthmus.data.open import open_source
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import RecordingSource
from isthmus.data.source import Source
from isthmus.data.tables.frames import frame_source
from isthmus.data.windows import series, windows

__all__ = [
    "FORMATS",
    "Column",
    "Preparation",
    "RecordingSource",
    "Schema",
    "Source",
    "array_source",
    "frame_source",
    "open_source",
    "series",
    "sparse_source",
    "tensor_source",
    "windows",
]
