"""How often a fit reads the rows it is given: checks, split, statistics and preparation."""

import pytest

from isthmus import Autoencoder, data
from isthmus.data.source import SourceView


class CountingSource(SourceView):
    """A source that counts the rows that are read from another one."""

    rows_read = 0

    def read(self, rows):
        self.rows_read += len(rows)
        return self.source.read(rows)


@pytest.fixture
def source(rng):
    return CountingSource(data.open_source(rng.normal(size=(400, 6))))


def model(**settings):
    settings = {"kind": "multilayer", "pretraining": "random", "max_epochs": 1} | settings
    return Autoencoder(2, random_state=0, **settings)


def test_a_fit_reads_each_row_three_times(source):
    # Once to check and hash the values, once for the statistics, once to prepare them.
    fitted = model(validation_fraction=0.2).fit(source)
    assert len(fitted.validation_rows_) == 80
    assert source.rows_read == 3 * len(source)


def test_a_fit_without_validation_rows_reads_each_row_three_times(source):
    model(validation_fraction=0).fit(source)
    assert source.rows_read == 3 * len(source)


def test_given_validation_rows_are_checked_and_prepared(source, rng):
    validation = CountingSource(data.open_source(rng.normal(size=(50, 6))))
    model().fit(source, validation=validation)
    assert source.rows_read == 3 * len(source)
    # Finite values, any value at all, distinct rows, and the preparation.
    assert validation.rows_read == 4 * len(validation)


def test_integers_are_not_checked(rng):
    source = CountingSource(data.open_source(rng.integers(0, 9, (400, 6))))
    model(validation_fraction=0).fit(source)
    assert source.rows_read == 2 * len(source)
