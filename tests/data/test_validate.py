"""Rows that cannot be learned from are located, and columns are matched to a model's."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from isthmus.data import array_source, open_source
from isthmus.data.output.write import table_schema
from isthmus.data.splitting import holdout
from isthmus.data.validate import align, check_rows
from isthmus.errors import DataError, SourceError


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 48)  # two rows of three float64


def rows_with_missing():
    values = np.arange(18.0).reshape(6, 3)
    values[3, 1] = values[3, 2] = values[5, 0] = np.nan
    return values


def test_finite_rows_pass():
    check_rows(array_source(np.ones((2, 1))))
    check_rows(array_source(np.ones((2, 4, 4), "uint8")))


def test_one_row_is_enough_to_encode():
    check_rows(array_source(np.ones((1, 2))), at_least=1)
    with pytest.raises(DataError, match=r"there are 0 rows \(n_samples=0\); at least 1 are needed"):
        check_rows(array_source(np.ones((0, 2))), at_least=1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 3), r"X: there are 0 rows \(n_samples=0\); at least 2 are needed"),
        ((1, 3), r"X: there is 1 row \(n_samples=1\); at least 2 are needed"),
        ((12, 0), r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is required"),
    ],
)
def test_too_few_rows_or_columns(shape, message):
    with pytest.raises(DataError, match=message):
        check_rows(array_source(np.zeros(shape)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("make", [array_source, lambda x: open_source(sparse.csr_array(x))])
def test_nan_is_counted_and_located(make):
    with pytest.raises(DataError) as caught:
        check_rows(make(rows_with_missing()))
    assert str(caught.value).startswith(
        "X: 3 values in 2 rows are NaN (missing); the first, NaN, is at row 3, counting from 0, "
        "feature '1'; "
    )


def test_the_column_is_named():
    frame = pl.DataFrame({"age": [1.0, 2.0, None], "size": [1.0, np.inf, 2.0]})
    with pytest.raises(DataError, match=r"2 values in 2 rows are NaN or infinity; the first, inf"):
        check_rows(open_source(frame))
    with pytest.raises(DataError, match=r"1 value in 1 row is infinity.* row 1.* column 'size'"):
        check_rows(open_source(frame, drop="age"))


def test_a_pixel_is_named():
    images = np.zeros((3, 4, 4))
    images[2, 1, 3] = np.nan
    with pytest.raises(DataError, match="row 2, counting from 0, feature '1,3'"):
        check_rows(array_source(images))


def test_a_file_is_named_first(tmp_path):
    np.save(tmp_path / "a.npy", rows_with_missing())
    with pytest.raises(SourceError, match=r"a\.npy: 3 values"):
        check_rows(open_source(tmp_path / "a.npy"))


SCHEMA = table_schema(["a", "b", "c"])


def test_columns_are_matched_by_name():
    frame = pl.DataFrame({"c": [3.0, 6], "a": [1.0, 4], "b": [2.0, 5]})
    aligned = align(open_source(frame), SCHEMA)
    assert aligned.schema.names == ("a", "b", "c")
    assert aligned.read(np.array([1, 0])).tolist() == [[4, 5, 6], [1, 2, 3]]
    assert len(aligned) == 2


def test_equal_columns_are_left_as_they_are():
    source = open_source(pl.DataFrame({"a": [1], "b": [2], "c": [3]}))
    assert align(source, SCHEMA) is source


def test_extra_columns_are_dropped_on_request_only():
    source = open_source(pl.DataFrame({"x": [0], "c": [3], "b": [2], "a": [1]}))
    with pytest.raises(DataError) as caught:
        align(source, SCHEMA)
    message = str(caught.value)
    assert "expected 'a', 'b', 'c'; found 'x', 'c', 'b', 'a'; missing none; extra 'x'" in message
    assert "drop=['x']" in message
    assert align(source, SCHEMA, drop_extra=True).read(np.arange(1)).tolist() == [[1, 2, 3]]


def test_missing_columns_are_an_error_even_when_extra_ones_may_go():
    source = open_source(pl.DataFrame({"a": [1], "B": [2], "c": [3]}))
    with pytest.raises(DataError, match=r"missing 'b'; extra 'B'$"):
        align(source, SCHEMA, drop_extra=True)


def test_arrays_must_have_rows_of_the_same_shape():
    image = array_source(np.zeros((2, 8, 8), "uint8"))
    assert align(image, image.schema) is image
    with pytest.raises(DataError, match=r"shape \(8, 8\), but .* fitted on rows of shape \(9, 9\)"):
        align(image, array_source(np.zeros((2, 9, 9), "uint8")).schema)
    with pytest.raises(DataError, match=r"each row has 2 features, but .* 3 columns"):
        align(array_source(np.zeros((2, 2))), SCHEMA)


def test_without_names_on_one_side_columns_go_by_position():
    source = array_source(np.zeros((2, 3)))
    assert align(source, SCHEMA) is source
