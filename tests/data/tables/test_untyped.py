"""New rows in which a column has no value at all, which tells no type."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from isthmus import Autoencoder, OutlierDetector
from isthmus.data import frame_source, open_source
from isthmus.data.validate import align, check_rows
from isthmus.errors import DataError

N = 120
GROUPS = ["b", "a", "c"] * (N // 3)
COLUMNS = {
    "x": np.linspace(-1, 1, N).tolist(),
    "whole": [i * i % 17 for i in range(N)],
    "group": GROUPS,
    "day": [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(N)],
    "when": [dt.datetime(2020, 1, 1, 6) + dt.timedelta(hours=i) for i in range(N)],
    "flag": [i % 3 == 0 for i in range(N)],
}
HOLES = list(COLUMNS)[1:]


def arrow(n=N, **changed):
    return pa.table({**{name: values[:n] for name, values in COLUMNS.items()}, **changed})


def of_pandas(values):
    def make(hole, n):
        frame = pd.DataFrame({name: column[:n] for name, column in COLUMNS.items()})
        return frame.assign(**{hole: pd.Series([values] * n, dtype=type_of(values))})

    return make


def type_of(values):
    return object if values is None else float


def of_polars(dtype):
    def make(hole, n):
        frame = pl.DataFrame({name: column[:n] for name, column in COLUMNS.items()})
        return frame.with_columns(pl.Series(hole, [None] * n, dtype=dtype))

    return make


def text(hole, n):
    return arrow(n, **{hole: pa.nulls(n)})


MAKERS = {
    "pandas None": of_pandas(None),
    "pandas NaN": of_pandas(np.nan),
    "polars Null": of_polars(pl.Null),
    "polars String": of_polars(pl.String),
    "polars Float64": of_polars(pl.Float64),
    "arrow null": lambda hole, n: arrow(n, **{hole: pa.nulls(n)}),
    "arrow text": lambda hole, n: arrow(n, **{hole: pa.nulls(n, pa.string())}),
    "arrow double": lambda hole, n: arrow(n, **{hole: pa.nulls(n, pa.float64())}),
}
FITTED = {
    "arrow": arrow,
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "polars": lambda: pl.DataFrame(COLUMNS),
}


@pytest.fixture(scope="module", params=FITTED)
def model(request):
    settings = {"max_epochs": 2, "random_state": 0, "corruption": "missing"}
    return Autoencoder(n_components=2, **settings).fit(frame_source(FITTED[request.param]()))


def check_filled(rows, hole, n):
    """Every row has a value of the column's own kind."""
    found = rows[hole].to_pylist() if isinstance(rows, pa.Table) else list(rows[hole])
    kinds = {"group": str, "day": dt.date, "when": dt.datetime}
    assert len(found) == n
    if hole in kinds:
        assert all(isinstance(value, kinds[hole]) and value == value for value in found)
    elif hole == "flag":
        assert set(found) <= {True, False}
        assert all(isinstance(value, (bool, np.bool_)) for value in found)
    else:
        assert np.isfinite(np.asarray(found, float)).all()


@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("make", MAKERS)
def test_a_column_of_nothing_is_missing(model, make, hole, n):
    rows = open_source(MAKERS[make](hole, n))
    reference = align(frame_source(arrow(n)), model.preparation_.schema)
    expected = reference.read(np.arange(n)).astype(float)
    expected[:, HOLES.index(hole) + 1] = np.nan
    found = align(rows, model.preparation_.schema)
    np.testing.assert_array_equal(found.read(np.arange(n)), expected)
    assert found.unknown_values == ()
    assert np.isfinite(model.transform(rows)).all()
    assert np.isfinite(model.reconstruction_error(rows)).all()
    check_filled(model.impute(rows), hole, n)


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("kind", [pa.null(), pa.float64(), pa.string()])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_so_it_is_in_files_be_they_streamed_or_not(tmp_path, model, name, kind, hole):
    table = arrow(30, **{hole: pa.nulls(30, kind)})
    write = pc.write_csv if name.endswith(".csv") else pq.write_table
    write(table, tmp_path / name)
    found = []
    for stream in (False, True):
        rows = open_source(tmp_path / name, stream=stream)
        found.append(model.transform(rows))
        check_filled(model.impute(rows), hole, 30)
    np.testing.assert_array_equal(*found)


@pytest.fixture(scope="module")
def of_complete_rows():
    """A model without categories, which would have taught it gaps."""
    rows = frame_source(arrow(), drop=["group"])
    return Autoencoder(n_components=2, max_epochs=1, random_state=0).fit(rows)


@pytest.mark.parametrize("hole", ["whole", "day", "when", "flag"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_model_that_knows_no_gaps_says_so(of_complete_rows, make, hole):
    rows = open_source(MAKERS[make](hole, 3), drop=["group"])
    with pytest.raises(DataError, match=rf"3 values in 3 rows are NaN .* column '{hole}'; fill"):
        of_complete_rows.transform(rows)


def test_a_detector_takes_them(tmp_path):
    ae = Autoencoder(n_components=2, max_epochs=2, random_state=0, corruption="missing")
    detector = OutlierDetector(ae).fit(frame_source(arrow()))
    for hole in HOLES:
        assert np.isfinite(detector.score_samples(open_source(text(hole, 1)))).all()


@pytest.mark.parametrize("make", ["pandas None", "polars Null", "arrow null", "pandas NaN"])
def test_nothing_can_be_learned_from_such_a_column(make):
    source = frame_source(MAKERS[make]("whole", N))
    with pytest.raises(DataError, match="'whole' has no value at all in the rows that count"):
        check_rows(source, allow_missing=True)


def test_labels_of_pandas_may_be_numbers():
    frame = pd.DataFrame({0: COLUMNS["x"], 1: GROUPS})
    settings = {"max_epochs": 1, "random_state": 0, "corruption": "missing"}
    ae = Autoencoder(n_components=1, **settings).fit(frame)
    new = frame[:2].copy()
    new[1] = pd.Series([None, None], dtype=object)
    filled = ae.impute(new)
    assert list(filled.columns) == [0, 1]
    assert set(filled[1]) <= set(GROUPS)


def test_a_piece_of_nothing_has_the_type_of_the_whole(tmp_path):
    settings = {"max_epochs": 1, "random_state": 0, "corruption": "missing"}
    ae = Autoencoder(n_components=2, **settings).fit(frame_source(arrow()))
    groups = pa.array([None] * 30 + GROUPS[30:], pa.large_string())
    flags = pa.array([None] * 30 + [float(i % 3 == 0) for i in range(30, N)])
    table = arrow(group=groups, flag=flags)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=30)
    filled = ae.impute(open_source(tmp_path / "rows.parquet", stream=True))
    assert filled.schema.equals(table.schema)
    assert filled["group"].null_count == filled["flag"].null_count == 0
    assert filled.slice(30).equals(table.slice(30))


def test_one_column_of_many():
    wide = {f"x{i}": np.linspace(0, 1, 3) for i in range(500)} | {"g": ["a", None, "b"]}
    learned = frame_source(pd.DataFrame(wide)).schema
    new = pd.DataFrame(wide).assign(g=pd.Series([None] * 3, dtype=object), x7=np.nan)
    found = align(frame_source(new), learned).read(np.arange(3))
    assert np.flatnonzero(np.isnan(found).all(axis=0)).tolist() == [7, 500]
