"""Batches: every row comes once, in an order decided by the seed and the epoch."""

import numpy as np
import pytest
import torch

from isthmus.data import open_source
from isthmus.data.loading import rows as batches
from isthmus.data.loading.rows import Rows, consecutive_batches
from isthmus.data.preparation.fit import fit_preparation
from isthmus.types import shuffled_batches

SIZES = [(1, 4), (7, 3), (8, 4), (100, 16), (5, 100)]


@pytest.mark.parametrize(("n", "batch"), SIZES)
def test_every_row_comes_once(n, batch):
    batches = shuffled_batches(n, batch, seed=1, epoch=2)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    assert [len(rows) for rows in batches[:-1]] == [batch] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch


def test_seed_and_epoch_decide_the_order():
    def order(seed, epoch):
        return np.concatenate(shuffled_batches(60, 8, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    drawn = [tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(drawn)) == 16


@pytest.mark.parametrize(("n", "batch"), SIZES)
def test_plain_batches_are_in_order(n, batch):
    np.testing.assert_array_equal(np.concatenate(consecutive_batches(n, batch)), np.arange(n))
    assert all(len(rows) <= batch for rows in consecutive_batches(n, batch))


@pytest.fixture
def source(rng):
    return open_source(rng.integers(0, 256, (50, 4, 3), np.uint8))


def rows_of(source, chosen, weight=None, **settings):
    preparation = fit_preparation(source, np.arange(len(source)), np.ones(len(source)))
    return Rows(source, preparation, chosen, weight=weight, **settings), preparation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_the_chosen_ones_prepared(source, dtype, monkeypatch):
    chosen = np.array([3, 8, 40, 41, 7])
    resident, preparation = rows_of(source, chosen, dtype=dtype)
    monkeypatch.setattr(batches, "RESIDENT_BYTES", 0)
    streamed, _ = rows_of(source, chosen, dtype=dtype)
    assert streamed.resident is None
    assert len(resident) == len(streamed) == 5
    positions = np.array([4, 0, 0, 2])
    expected = preparation.encode(source.read(chosen[positions]), dtype)
    for rows in (resident, streamed):
        taken = rows.take(positions)
        assert taken.dtype == dtype
        assert torch.equal(taken, expected)


def test_weights_have_mean_one_and_keep_their_ratios(source):
    rows, _ = rows_of(source, np.arange(4), np.array([1.0, 2.0, 3.0, 10.0]), dtype=torch.float64)
    torch.testing.assert_close(rows.weight, torch.tensor([0.25, 0.5, 0.75, 2.5]).double())
    plain, _ = rows_of(source, np.arange(4))
    assert torch.equal(plain.weight, torch.ones(4))


def test_taking_a_batch_gives_a_copy(source):
    rows, _ = rows_of(source, np.arange(10))
    rows.take(np.arange(3)).zero_()
    assert rows.take(np.arange(3)).abs().max() > 0


def test_small_blocks_agree_with_one(source, monkeypatch):
    whole, _ = rows_of(source, np.arange(50))
    monkeypatch.setattr("isthmus.data.splitting.holdout.BLOCK_BYTES", 1000)
    pieces, _ = rows_of(source, np.arange(50))
    assert torch.equal(whole.resident, pieces.resident)
