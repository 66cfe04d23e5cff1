"""Held-out rows: chosen by content, whatever the order, the weights or the blocks."""

import numpy as np
import pytest
from scipy import sparse

from isthmus.data import open_source
from isthmus.data.splitting import holdout
from isthmus.data.splitting.holdout import count_distinct, digest, validation_split


def cut(X, fraction=0.2, seed=0, weight=None, rows=None):
    rows = np.arange(X.shape[0]) if rows is None else rows
    weight = np.ones(len(rows)) if weight is None else np.asarray(weight, float)
    return validation_split(open_source(X), rows, weight, fraction, seed)


def as_set(X):
    return {row.tobytes() for row in X}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("n", [10, 101, 1000])
def test_the_fraction_is_respected_and_every_row_is_on_one_side(rng, n, fraction):
    train, validation = cut(rng.normal(size=(n, 3)), fraction)
    assert len(validation) == int(fraction * n * (1 + 1e-9))
    np.testing.assert_array_equal(np.sort(np.r_[train, validation]), np.arange(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_no_fraction_no_held_out_rows(rng):
    train, validation = cut(rng.normal(size=(20, 3)), 0.0)
    assert len(train) == 20
    assert len(validation) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, bool, np.int16])
def test_the_order_changes_nothing(rng, dtype):
    X = (200 * rng.uniform(size=(300, 11))).astype(dtype)
    order = rng.permutation(300)
    first, turned = cut(X), cut(X[order])
    assert as_set(X[first.validation]) == as_set(X[order][turned.validation])
    np.testing.assert_array_equal(np.sort(order[turned.validation]), first.validation)


def test_the_seed_decides(rng):
    X = rng.normal(size=(300, 3))
    same, again, other = cut(X, seed=1), cut(X, seed=1), cut(X, seed=2)
    np.testing.assert_array_equal(same.validation, again.validation)
    shared = np.intersect1d(same.validation, other.validation)
    assert len(shared) < 0.5 * len(same.validation)


def test_copies_fall_on_one_side(rng):
    X = rng.integers(0, 3, (400, 3))
    train, validation = cut(X, 0.3)
    assert len(validation) > 60
    assert not as_set(X[train]) & as_set(X[validation])


def test_never_more_than_was_asked_for():
    X = np.repeat(np.arange(4.0), 25)[:, None] * np.ones((1, 3))
    assert len(cut(X, 0.2).validation) == 0
    assert len(cut(X, 0.6).validation) == 50


def test_rare_rows_are_held_out_no_more_than_any_others(rng):
    X = (rng.random((2000, 40)) < 0.005).astype(float)
    rare = X.any(axis=1)
    for seed in range(20):
        train, validation = cut(X, 0.1, seed)
        assert 0.05 * rare.sum() < len(validation) <= 0.1 * rare.sum()
        assert (~X[train].any(axis=0)).sum() <= 5  # of a tenth of all rows: 6 to 16 of them
        assert rare[validation].all()


def test_minus_zero_is_zero(rng):
    X = rng.normal(size=(200, 2)) * rng.integers(0, 2, (200, 2))
    assert (np.signbit(X) & (X == 0)).any()
    np.testing.assert_array_equal(cut(X).validation, cut(np.where(X == 0, 0.0, X)).validation)


def test_weights_are_repetitions(rng):
    X, counts = rng.normal(size=(150, 3)), rng.integers(1, 5, 150)
    weighted, repeated = cut(X, weight=counts), cut(np.repeat(X, counts, axis=0))
    number = np.repeat(np.arange(150), counts)
    np.testing.assert_array_equal(np.unique(number[repeated.validation]), weighted.validation)
    held = counts[weighted.validation].sum()
    assert held == len(repeated.validation)
    assert 0.2 * counts.sum() - 4 <= held <= 0.2 * counts.sum() + 1e-6


def test_every_row_is_held_out_as_often_as_another():
    X = np.arange(50.0)[:, None]
    held = np.bincount(
        np.concatenate([cut(X, seed=s).validation for s in range(400)]), minlength=50
    )
    assert abs(held.mean() - 80) < 1e-9
    assert held.std() < 1.5 * np.sqrt(400 * 0.2 * 0.8)


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9])
def test_every_byte_counts(width):
    X = np.zeros((2 * width, width), np.uint8)
    X[np.arange(width), np.arange(width)] = 1
    X[width + np.arange(width), np.arange(width)] = 255
    assert len(np.unique(holdout.hash_values(X, 0))) == 2 * width


def test_small_blocks_agree_with_one(rng, monkeypatch):
    X = rng.normal(size=(100, 3))
    whole = cut(X)
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 1)
    assert [len(block) for block in holdout.row_blocks(open_source(X))] == [1] * 100
    np.testing.assert_array_equal(cut(X).validation, whole.validation)


def test_some_rows_of_a_source(rng):
    X, rows = rng.normal(size=(100, 3)), np.arange(10, 90, 2)
    chosen, alone = cut(X, rows=rows), cut(X[rows])
    np.testing.assert_array_equal(chosen.validation, rows[alone.validation])
    np.testing.assert_array_equal(chosen.train, rows[alone.train])


def test_sparse_rows_are_dense_rows(rng):
    X = rng.normal(size=(100, 4)) * rng.integers(0, 2, (100, 4))
    np.testing.assert_array_equal(cut(sparse.csr_array(X)).validation, cut(X).validation)


def test_a_heavy_group_always_trains_and_the_rest_is_still_split(rng):
    rows = np.concatenate([np.zeros((600, 3)), rng.normal(size=(400, 3))])
    for seed in range(10):
        source = open_source(rows)
        split = validation_split(source, np.arange(1000), np.ones(1000), 0.1, seed)
        assert len(split.validation) == 40
        assert (split.validation >= 600).all()


def test_distinct_rows_and_digests(rng):
    rows = np.repeat(rng.normal(size=(7, 3)), 5, axis=0)
    source = open_source(rows)
    assert count_distinct(source, np.arange(35)) == 7
    changed = rows.copy()
    changed[3, 1] += 1e-12
    texts = {digest(open_source(some)) for some in (rows, changed, rows[::-1].copy(), rows[:-1])}
    assert len(texts) == 4
    assert digest(open_source(rows.copy())) == digest(source)
