"""Nothing that a fit of streamed rows keeps grows with how many they are."""

import tracemalloc

import numpy as np
import pytest

from isthmus import Autoencoder
from isthmus.data import Schema
from isthmus.data.on_disk import ChunkedSource
from isthmus.estimator import split

WIDTH, GROUP = 4, 2000
FEW, MANY = 50_000, 200_000
ALLOWED = 0.5 * 8 * (MANY - FEW)
"""Bytes: half a number of eight bytes for each row more."""


class Made(ChunkedSource):
    """Rows that are made as they are read."""

    def __init__(self, rows):
        names = tuple(f"c{i}" for i in range(WIDTH))
        schema = Schema(layout="table", shape=(WIDTH,), dtypes=("float64",), names=names)
        bounds = np.append(np.arange(0, rows, GROUP), rows)
        super().__init__(schema, "made", bounds, np.dtype(np.float64))

    def _chunks(self, group):
        generator = np.random.default_rng(group)
        rows = self.bounds[group + 1] - self.bounds[group]
        hidden = generator.normal(size=(rows, 2))
        values = hidden @ np.arange(8).reshape(2, 4) + generator.normal(size=(rows, WIDTH))
        for start in range(0, len(values), self.chunk_rows):
            yield values[start : start + self.chunk_rows]


def peak(rows, work):
    source = Made(rows)
    tracemalloc.start()
    try:
        work(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fit(source):
    return Autoencoder(
        2, kind="vanilla", max_epochs=1, batch_size=5000, random_state=0, loss="huber"
    ).fit(source)


@pytest.fixture(autouse=True)
def _in_pieces(monkeypatch):
    for module in ("on_disk", "splitting.holdout"):
        monkeypatch.setattr(f"isthmus.data.{module}.CHUNK_BYTES", 32 * GROUP)
    monkeypatch.setattr("isthmus.data.on_disk.CACHE_BYTES", 2 * 32 * GROUP)
    monkeypatch.setattr("isthmus.data.loading.shuffle.WINDOW_BYTES", 32 * 5 * GROUP)
    monkeypatch.setattr("isthmus.data.loading.streamed_rows.RESIDENT_BYTES", 0)


def test_a_fit_takes_no_more_memory_for_more_rows():
    fit(Made(FEW))  # what is imported or kept once is there
    assert peak(MANY, fit) - peak(FEW, fit) < ALLOWED


def test_row_numbers_in_memory_would_be_noticed(monkeypatch):
    real = split.AllRowsExcept.__init__

    def planted(self, n, left_out=np.arange(0)):  # noqa: B008
        real(self, n, left_out)
        self.numbers = np.arange(n)

    fit(Made(FEW))
    monkeypatch.setattr(split.AllRowsExcept, "__init__", planted)
    assert peak(MANY, fit) - peak(FEW, fit) > ALLOWED


def test_a_score_keeps_one_number_a_row():
    ae = fit(Made(FEW))

    def score(source):
        ae.score(source)

    few, many = peak(FEW, score), peak(MANY, score)
    assert many - few < 6 * ALLOWED
