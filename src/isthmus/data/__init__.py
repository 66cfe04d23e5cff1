"""Where rows come from, how they become numbers and come back."""

from isthmus.data.arrays import array_source, sparse_source, tensor_source
from isthmus.data.formats import FORMATS
from isthmus.data.loading.rows import (
    Rows,
    epoch_batches,
    plain_batches,
    read_ahead,
    rows_at_once,
    sampled,
    shuffled,
    spread,
    weight_sum,
)
from isthmus.data.loading.streamed_rows import StreamedRows
from isthmus.data.on_disk import is_on_disk, is_streamed
from isthmus.data.open import open_source
from isthmus.data.output.append import appending_rows
from isthmus.data.output.fill_missing import count_missing, fill
from isthmus.data.output.write import table_schema, write_rows
from isthmus.data.prefetch import ahead
from isthmus.data.preparation.fit import SCALINGS, SIZE_FACTORS, fit_preparation
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.recording_files import open_recordings, write_recordings
from isthmus.data.row_numbers import AllBut
from isthmus.data.schema import Schema, schema_from_json
from isthmus.data.signals.recordings import RecordingSource, is_series, rejoin
from isthmus.data.splitting.holdout import (
    Split,
    blocks,
    count_distinct,
    digest,
    hash_rows,
    read_blocks,
    validation_split,
)
from isthmus.data.splitting.segments import extents_of, most_shared
from isthmus.data.splitting.streamed import pin_sample, pin_spread, streamed_split
from isthmus.data.subset import Subset
from isthmus.data.tables.frames import frame_source
from isthmus.data.tables.restore import cast, restore
from isthmus.data.validate import Fitness, align, check_any, check_rows, has_missing
from isthmus.data.windows import cut_like, series, windows

__all__ = [
    "FORMATS",
    "SCALINGS",
    "SIZE_FACTORS",
    "AllBut",
    "Fitness",
    "Preparation",
    "RecordingSource",
    "Rows",
    "Schema",
    "Split",
    "StreamedRows",
    "Subset",
    "ahead",
    "align",
    "appending_rows",
    "array_source",
    "blocks",
    "cast",
    "check_any",
    "check_rows",
    "count_distinct",
    "count_missing",
    "cut_like",
    "digest",
    "epoch_batches",
    "extents_of",
    "fill",
    "fit_preparation",
    "frame_source",
    "has_missing",
    "hash_rows",
    "is_on_disk",
    "is_series",
    "is_streamed",
    "most_shared",
    "open_recordings",
    "open_source",
    "pin_sample",
    "pin_spread",
    "plain_batches",
    "read_ahead",
    "read_blocks",
    "rejoin",
    "restore",
    "rows_at_once",
    "sampled",
    "schema_from_json",
    "series",
    "shuffled",
    "sparse_source",
    "spread",
    "streamed_split",
    "table_schema",
    "tensor_source",
    "validation_split",
    "weight_sum",
    "windows",
    "write_recordings",
    "write_rows",
]
