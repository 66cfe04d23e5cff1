"""Tables on disk in many small pieces, so that a few hundred rows are as good as a few million."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 500


@pytest.fixture
def small_chunks(monkeypatch: Any) -> Callable[[int, int], None]:
    """small_chunks(rows, windows) makes chunks hold so many rows of 8 numbers, windows so many."""

    def make(rows: int, window: int) -> None:
        monkeypatch.setattr("isthmus.data.on_disk.CHUNK_BYTES", 64 * rows)
        monkeypatch.setattr("isthmus.data.splitting.holdout.CHUNK_BYTES", 64 * rows)
        monkeypatch.setattr("isthmus.data.loading.shuffle.WINDOW_BYTES", 64 * window)
        monkeypatch.setattr("isthmus.data.loading.streamed_rows.RESIDENT_BYTES", 0)

    return make


@pytest.fixture
def numbers() -> Any:
    """(500, 8) numbers that lie near a curved surface of two dimensions."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(ROWS, 2))
    mixed = np.tanh(hidden @ generator.normal(size=(2, 8)))
    return mixed + 0.05 * generator.normal(size=(ROWS, 8))


@pytest.fixture
def parquet(tmp_path: Any, numbers: Any) -> Any:
    """The same numbers in a Parquet file of 8 columns and row groups of 70."""
    path = tmp_path / "numbers.parquet"
    table = pa.table({f"c{i}": numbers[:, i] for i in range(8)})
    pq.write_table(table, path, row_group_size=70)
    return path
