"""Held-out rows of streamed data: those that the rule for rows in memory takes, by one pass."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus.data import open_source
from isthmus.data.splitting import streamed
from isthmus.data.splitting.holdout import digest, validation_split
from isthmus.data.splitting.streamed import streamed_split

VALUES = {
    "all different": lambda rng, n: rng.normal(size=n),
    "some equal": lambda rng, n: rng.integers(0, n // 3, n).astype(float),
    "few different": lambda rng, n: rng.integers(0, 7, n).astype(float),
    "one often": lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.normal(size=n)),
    "pairs": lambda rng, n: np.repeat(rng.normal(size=n // 2), 2),
    "powers": lambda rng, n: rng.geometric(0.4, n).astype(float),
    "rare ones": lambda rng, n: (rng.random((n, 9)) < 0.05) @ 2.0 ** np.arange(9),
    "all equal": lambda rng, n: np.ones(n),
}


@pytest.fixture
def file_of(tmp_path):
    def make(values):
        path = tmp_path / "values.parquet"
        pq.write_table(pa.table({"x": values, "y": -values}), path, row_group_size=100)
        return path

    return make


@pytest.mark.parametrize("max_hashes", [1 << 21, 10])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.4])
@pytest.mark.parametrize("name", VALUES)
def test_the_same_rows_are_held_out_as_in_memory(
    file_of, rng, monkeypatch, name, fraction, max_hashes
):
    monkeypatch.setattr(streamed, "MAX_KEPT_HASHES", max_hashes)
    monkeypatch.setattr("isthmus.data.splitting.holdout.CHUNK_BYTES", 16 * 37)
    values = VALUES[name](rng, 1000)
    path = file_of(values)
    memory = open_source(path, stream=False)
    for seed in range(4):
        expected = validation_split(memory, np.arange(1000), np.ones(1000), fraction, seed)
        split = streamed_split(open_source(path, stream=True), fraction, seed)
        np.testing.assert_array_equal(split.validation, expected.validation)
        np.testing.assert_array_equal(np.asarray(split.train), expected.train)


def test_the_smallest_hashes_are_kept_and_no_more(rng):
    hashes = rng.integers(0, 5000, 20_000).astype(np.uint64)
    smallest = streamed._SmallestHashes(50)
    for start in range(0, 20_000, 400):
        smallest.add(hashes[start : start + 400], np.arange(start, start + 400))
        assert len(smallest.hashes) <= 4 * 50 + 400
    expected = np.unique(hashes)[:10]
    taken = smallest.select(max_size=9e9, wanted=float((hashes <= expected[-1]).sum()))
    np.testing.assert_array_equal(taken, expected)
    rows = np.sort(smallest.rows_of(taken))
    np.testing.assert_array_equal(rows, np.flatnonzero(hashes <= expected[-1]))


def test_no_more_are_held_out_than_fit_in_memory(file_of, rng, monkeypatch):
    monkeypatch.setattr(streamed, "VALIDATION_BYTES", 16 * 30)
    source = open_source(file_of(rng.normal(size=1000)), stream=True)
    assert len(streamed_split(source, 0.4, 0).validation) == 30


def test_the_digest_changes_with_values_and_order(file_of, rng):
    values = rng.normal(size=300)

    def digest_of(changed):
        return streamed_split(open_source(file_of(changed), stream=True), 0.1, 0).digest

    first = digest_of(values)
    assert first == digest_of(values)
    assert first == digest(open_source(file_of(values), stream=False))
    assert first != digest_of(values[::-1])
    assert first != digest_of(np.where(np.arange(300) == 77, 0.5, values))


def test_what_comes_often_is_among_the_largest_and_no_count_is_far_off(rng):
    hashes = np.minimum(rng.geometric(0.2, 20_000), 9).astype(np.uint64)
    hashes[::2] = rng.integers(100, 2**60, 10_000)
    largest = streamed._FrequentHashes(20_000, slack=100)
    for start in range(0, 20_000, 333):
        largest.add(hashes[start : start + 333])
        assert len(largest.hashes) <= 201
    often, counts = np.unique(hashes, return_counts=True)
    assert largest.shortfall <= 100
    split = dict(zip(largest.hashes, largest.counts, strict=True))
    for value, count in zip(often[:9], counts[:9], strict=True):
        assert count - largest.shortfall <= split.get(value, 0) <= count
    assert set(often[counts > 300]) <= set(largest.above(300))
    assert set(largest.above(300)) <= set(often[counts > 200])
