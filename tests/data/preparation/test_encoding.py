"""Columns to features and back."""

import numpy as np
import pytest

from isthmus.data.columns import MAX_ONE_HOT, Column
from isthmus.data.preparation.encoding import ColumnEncoder

FEW = Column(role="categorical", categories=("a", "b", "c"))
MANY = Column(role="categorical", categories=tuple(f"l{i}" for i in range(1000)))
HUGE = Column(role="categorical", categories=tuple(range(100_000)))
RANKS = Column(role="ordinal", categories=tuple(range(200)))


def test_a_level_is_one_feature_of_its_column():
    encoder = ColumnEncoder([Column(), FEW, RANKS])
    assert encoder.sizes == (1, 3, 1)
    features = encoder.encode(np.array([[2.5, 1, 7], [np.nan, np.nan, 0]]))
    np.testing.assert_array_equal(
        features, [[2.5, 0, 1, 0, 7], [np.nan, np.nan, np.nan, np.nan, 0]]
    )


@pytest.mark.parametrize("column", [FEW, MANY, HUGE])
def test_every_level_comes_back_even_from_blurred_features(column):
    n = len(column.categories)
    places = np.unique(np.linspace(0, n - 1, 300).astype(int)).astype(float)
    encoder = ColumnEncoder([column, Column()])
    values = np.stack([places, places / 7], axis=1)
    values[0, 0] = np.nan
    features = encoder.encode(values)
    blur = np.random.default_rng(0).normal(scale=0.1, size=features.shape)
    blurred = encoder.decode(features + blur * encoder.sizes[0] ** -0.5)
    np.testing.assert_array_equal(blurred[:, 0], values[:, 0])


def test_many_levels_take_few_numbers_that_keep_them_apart():
    assert [column.n_features for column in (FEW, MANY, HUGE)] == [3, 80, 136]
    assert not Column(role="categorical", categories=tuple(range(MAX_ONE_HOT))).uses_sign_codes
    features = ColumnEncoder([MANY]).encode(np.arange(1000.0)[:, None])
    np.testing.assert_allclose(np.square(features).sum(axis=1), 1)
    products = features @ features.T - np.eye(1000)
    assert np.abs(products).max() < 0.85
    assert np.square(products).mean() < 1.5 / 40  # as independent signs have


def test_codes_do_not_hang_on_when_or_where_they_are_made():
    first, again = (ColumnEncoder([MANY]).encode(np.array([[3.0]])) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_sums_are_over_the_features_of_a_column():
    encoder = ColumnEncoder([FEW, Column(), FEW])
    np.testing.assert_array_equal(encoder.column_sums(np.arange(7.0)), [3, 3, 15])
    np.testing.assert_array_equal(encoder.column_sums(np.ones((2, 7))), [[3, 1, 3]] * 2)


def test_a_column_of_no_level_is_one_feature():
    encoder = ColumnEncoder([Column(role="categorical")])
    assert np.isnan(encoder.encode(np.array([[np.nan]]))).all()
