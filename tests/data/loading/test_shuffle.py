"""Streamed rows: read as they are, shuffled by seed and epoch alone, the same however far ahead."""

import threading

import numpy as np
import pytest
import torch

from isthmus.data import open_source
from isthmus.data.loading.shuffle import WindowBatches
from isthmus.data.loading.streamed_rows import StreamedRows
from isthmus.data.prefetch import prefetch
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.row_numbers import AllRowsExcept
from isthmus.types import shuffled_batches

SIZE_FACTORS = [(1000, 1000), (70, 200), (30, 100), (7, 20), (1, 1), (64, 10)]
"""Rows of a chunk and of a window."""


@pytest.fixture(params=SIZE_FACTORS)
def source(parquet, small_chunks, request):
    small_chunks(*request.param)
    return open_source(parquet, stream=True)


def rows_of(source, left_out=(), **settings):
    chosen = AllRowsExcept(len(source), np.asarray(left_out, np.intp))
    preparation = fit_preparation(source, chosen, np.ones(len(chosen)))
    return StreamedRows(source, preparation, chosen, **settings)


@pytest.mark.parametrize("left_out", [[], [0], [3, 4, 9], [9, 8, 7], list(range(10))])
def test_all_but_a_few_are_those_that_numpy_leaves(left_out):
    rows = AllRowsExcept(10, np.asarray(left_out, np.intp))
    expected = np.setdiff1d(np.arange(10), left_out)
    assert len(rows) == len(expected)
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(rows[1:7:2], expected[1:7:2])
    np.testing.assert_array_equal(rows.positions(expected), np.arange(len(expected)))
    if len(expected):
        index = np.array([0, len(expected) - 1, -1])
        np.testing.assert_array_equal(rows[index], expected[index])
    with pytest.raises(IndexError, match="beyond"):
        rows[np.array([len(expected)])]


def test_rows_are_read_as_they_were_written(source, numbers, rng):
    for wanted in (
        np.arange(500),
        np.arange(100, 300),
        rng.integers(0, 500, 200),
        np.array([499, 0, 0, 250]),
        np.array([3, 3, 4]),
        np.arange(0),
    ):
        np.testing.assert_array_equal(source.read(wanted), numbers[wanted])


def test_cached_rows_are_read_from_memory(source, numbers, monkeypatch):
    source.cache_rows(np.array([9, 3, 400, 3]))
    monkeypatch.setattr(source, "_chunk", None)
    wanted = np.array([400, 3, 9, 9])
    np.testing.assert_array_equal(source.read(wanted), numbers[wanted])
    with pytest.raises(TypeError):
        source.read(np.array([4]))


@pytest.mark.parametrize("batch_size", [1, 16, 97, 1000])
def test_every_row_comes_once_an_epoch(source, batch_size):
    left_out = np.array([0, 5, 6, 499])
    rows = AllRowsExcept(500, left_out)
    batches = WindowBatches(source, rows, batch_size, seed=3, epoch=1)
    everything = np.concatenate(list(batches))
    np.testing.assert_array_equal(np.sort(everything), np.arange(496))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches) == -(-496 // batch_size)


def test_any_batch_is_computed_without_those_before_it(source):
    def fresh():
        return WindowBatches(source, AllRowsExcept(500), 16, seed=3, epoch=1)

    in_order = list(fresh())
    for index in (31, 0, 17):
        np.testing.assert_array_equal(fresh()[index], in_order[index])
    np.testing.assert_array_equal(fresh()[-1], in_order[-1])


def test_seed_and_epoch_decide_the_order(source):
    def order(seed, epoch):
        return np.concatenate(
            list(WindowBatches(source, AllRowsExcept(500), 16, seed=seed, epoch=epoch))
        )

    drawn = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(drawn) == 9
    np.testing.assert_array_equal(order(1, 2), order(1, 2))


def test_what_fits_one_window_comes_as_if_it_were_in_memory(parquet):
    source = open_source(parquet, stream=True)
    ours = WindowBatches(source, AllRowsExcept(500), 16, seed=3, epoch=1)
    theirs = shuffled_batches(500, 16, seed=3, epoch=1)
    np.testing.assert_array_equal(np.concatenate(list(ours)), np.concatenate(theirs))


def test_windows_mix_rows_of_different_groups(parquet, small_chunks):
    small_chunks(30, 120)
    source = open_source(parquet, stream=True)
    batches = WindowBatches(source, AllRowsExcept(500), 100, seed=0, epoch=0)
    groups = [len(np.unique(batch // 70)) for batch in batches]
    assert min(groups) >= 3
    assert source.chunk_rows < 70


@pytest.mark.parametrize("first", [0, 7, 31, 32])
@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_batches_are_the_same_however_far_ahead_they_are_read(source, numbers, depth, first):
    left_out = np.array([0, 5, 6, 499])
    rows = rows_of(source, left_out, depth=depth, dtype=torch.float64)
    remaining = np.delete(numbers, left_out, axis=0)
    batches = rows.batches(16, seed=1, epoch=2)
    with rows.prefetch(batches, first):
        for index in range(first, len(batches)):
            positions = batches[index]
            expected = rows.preparation.encode(remaining[positions], torch.float64)
            assert torch.equal(rows.take(positions), expected)
    assert _threads() == 0


def test_other_rows_may_be_taken_in_between(source, numbers):
    rows = rows_of(source, dtype=torch.float64)
    batches = rows.batches(16, seed=1, epoch=2)
    with rows.prefetch(batches, 0):
        for positions in batches:
            other = np.array([499, 2])
            expected = rows.preparation.encode(numbers[other], torch.float64)
            assert torch.equal(rows.take(other), expected)
            expected = rows.preparation.encode(numbers[positions], torch.float64)
            assert torch.equal(rows.take(positions), expected)


def test_all_rows_come_in_order(source, numbers):
    rows = rows_of(source, dtype=torch.float64)
    result = list(rows.in_order())
    np.testing.assert_array_equal(np.concatenate([index for index, _ in result]), np.arange(500))
    expected = rows.preparation.encode(numbers, torch.float64)
    assert torch.equal(torch.cat([x for _, x in result]), expected)
    assert _threads() == 0


def test_rows_count_alike_and_their_weights_take_no_memory(source):
    rows = rows_of(source)
    assert torch.equal(rows.weight, torch.ones(500))
    assert rows.weight.untyped_storage().nbytes() == 4


@pytest.mark.parametrize("depth", [1, 3])
def test_an_interrupt_ends_the_threads(source, depth):
    rows = rows_of(source, depth=depth)
    batches = rows.batches(16, seed=1, epoch=2)

    def interrupted():
        with rows.prefetch(batches, 0):
            rows.take(batches[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _threads() == 0


def test_what_fails_in_a_thread_is_raised_where_it_is_waited_for(source, monkeypatch):
    rows = rows_of(source, depth=2)
    batches = rows.batches(16, seed=1, epoch=2)

    def broken(rows):
        raise OSError("the disk is gone")

    monkeypatch.setattr(source, "read", broken)
    with pytest.raises(OSError, match="the disk is gone"), rows.prefetch(batches, 0):
        rows.take(batches[0])
    assert _threads() == 0


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_work_done_ahead_comes_in_order_and_no_further(depth, threads):
    begun = []

    def work(item):
        begun.append(item)
        return item * item

    result = prefetch(work, range(20), depth=depth, threads=threads)
    for index, square in enumerate(result):
        assert square == index * index
        assert max(begun) <= index + depth
    assert _threads() == 0


def _threads():
    return sum(thread.name.startswith("isthmus-prefetch") for thread in threading.enumerate())
