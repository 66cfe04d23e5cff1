"""Columns to features and back."""

import numpy as np
import pytest

from isthmus.data.columns import MOST_FEATURES, Column, coded, width
from isthmus.data.preparation.encoding import Expansion

FEW = Column(role="categorical", levels=("a", "b", "c"))
MANY = Column(role="categorical", levels=tuple(f"l{i}" for i in range(1000)))
HUGE = Column(role="categorical", levels=tuple(range(100_000)))
RANKS = Column(role="ordinal", levels=tuple(range(200)))


def test_a_level_is_one_feature_of_its_column():
    expansion = Expansion([Column(), FEW, RANKS])
    assert expansion.sizes == (1, 3, 1)
    features = expansion.expand(np.array([[2.5, 1, 7], [np.nan, np.nan, 0]]))
    np.testing.assert_array_equal(
        features, [[2.5, 0, 1, 0, 7], [np.nan, np.nan, np.nan, np.nan, 0]]
    )


@pytest.mark.parametrize("column", [FEW, MANY, HUGE])
def test_every_level_comes_back_even_from_blurred_features(column):
    n = len(column.levels)
    places = np.unique(np.linspace(0, n - 1, 300).astype(int)).astype(float)
    expansion = Expansion([column, Column()])
    values = np.stack([places, places / 7], axis=1)
    values[0, 0] = np.nan
    features = expansion.expand(values)
    blur = np.random.default_rng(0).normal(scale=0.1, size=features.shape)
    blurred = expansion.collapse(features + blur * expansion.sizes[0] ** -0.5)
    np.testing.assert_array_equal(blurred[:, 0], values[:, 0])


def test_many_levels_take_few_numbers_that_keep_them_apart():
    assert [width(column) for column in (FEW, MANY, HUGE)] == [3, 80, 136]
    assert not coded(Column(role="categorical", levels=tuple(range(MOST_FEATURES))))
    features = Expansion([MANY]).expand(np.arange(1000.0)[:, None])
    np.testing.assert_allclose(np.square(features).sum(axis=1), 1)
    products = features @ features.T - np.eye(1000)
    assert np.abs(products).max() < 0.85
    assert np.square(products).mean() < 1.5 / 40  # as independent signs have


def test_codes_do_not_hang_on_when_or_where_they_are_made():
    first, again = (Expansion([MANY]).expand(np.array([[3.0]])) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_sums_are_over_the_features_of_a_column():
    expansion = Expansion([FEW, Column(), FEW])
    np.testing.assert_array_equal(expansion.sums(np.arange(7.0)), [3, 3, 15])
    np.testing.assert_array_equal(expansion.sums(np.ones((2, 7))), [[3, 1, 3]] * 2)


def test_a_column_of_no_level_is_one_feature():
    expansion = Expansion([Column(role="categorical")])
    assert np.isnan(expansion.expand(np.array([[np.nan]]))).all()
