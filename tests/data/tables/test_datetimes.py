"""Dates and moments of any unit and library, as new rows of a model fitted on another."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus import Autoencoder, OutlierDetector
from isthmus.data import frame_source, open_source
from isthmus.data.columns import Column
from isthmus.data.output.fill_missing import fill
from isthmus.data.schema import Schema, schema_from_json
from isthmus.data.validate import align
from isthmus.errors import DataError, SourceError

DATES = [dt.date(2020, 1, 1), dt.date(1931, 5, 6), None, dt.date(2262, 1, 3)]
MIDNIGHTS = [day and dt.datetime(day.year, day.month, day.day) for day in DATES]
DAYS = [day and (day - dt.date(1970, 1, 1)).days for day in DATES]
MICROSECONDS = np.array([np.nan if day is None else day * 86_400e6 for day in DAYS])

HOLDERS = {
    "date32": lambda: pa.table({"d": pa.array(DATES, pa.date32())}),
    "date64": lambda: pa.table({"d": pa.array(DATES, pa.date64())}),
    **{u: lambda u=u: pa.table({"d": pa.array(MIDNIGHTS, pa.timestamp(u))}) for u in ("s", "ms")},
    **{u: lambda u=u: pa.table({"d": pa.array(MIDNIGHTS, pa.timestamp(u))}) for u in ("us", "ns")},
    "pandas objects": lambda: pd.DataFrame({"d": DATES}),
    "pandas moments as objects": lambda: pd.DataFrame({"d": pd.Series(MIDNIGHTS, dtype=object)}),
    "pandas": lambda: pd.DataFrame({"d": pd.to_datetime(pd.Series(MIDNIGHTS))}),
    "polars dates": lambda: pl.DataFrame({"d": DATES}),
    "polars": lambda: pl.DataFrame({"d": MIDNIGHTS}),
}


def everything(source):
    return source.read(np.arange(len(source)))


@pytest.mark.parametrize("found", HOLDERS)
@pytest.mark.parametrize("fitted", HOLDERS)
def test_the_same_dates_are_the_same_numbers(fitted, found):
    learned = frame_source(HOLDERS[fitted]())
    source = align(frame_source(HOLDERS[found]()), learned.schema)
    np.testing.assert_array_equal(everything(source), everything(learned))
    days = learned.schema.columns[0].time_type == "date"
    expected = np.array(DAYS, float) if days else MICROSECONDS
    np.testing.assert_array_equal(everything(source)[:, 0], expected)


@pytest.mark.parametrize("found", HOLDERS)
@pytest.mark.parametrize("fitted", HOLDERS)
def test_gaps_of_dates_are_filled_with_dates_of_the_rows_own_kind(fitted, found):
    learned = frame_source(HOLDERS[fitted]())
    source = align(frame_source(HOLDERS[found]()), learned.schema)
    made = fill(source, np.broadcast_to(everything(learned)[1], (len(source), 1)))
    column = pd.Series(made["d"].to_pylist() if isinstance(made, pa.Table) else list(made["d"]))
    expected = [dt.datetime(1931, 5, 6) if day is None else day for day in MIDNIGHTS]
    assert pd.to_datetime(column).tolist() == pd.to_datetime(pd.Series(expected)).tolist()
    kind = made.schema if isinstance(made, (pa.Table, pl.DataFrame)) else made.dtypes
    assert str(kind) == str(getattr(source.table.to_native(), "schema", kind))


def test_a_time_of_day_is_a_part_of_a_day():
    learned = frame_source(pa.table({"d": pa.array([18000, 18001], pa.date32())})).schema
    noon = pd.DataFrame({"d": pd.to_datetime(["1970-01-02 12:00", "1970-01-03 18:00"])})
    assert everything(align(frame_source(noon), learned))[:, 0].tolist() == [1.5, 2.75]


ZONED = pa.array(MIDNIGHTS, pa.timestamp("us", "Europe/Berlin"))


def test_moments_in_time_zones_are_the_same_in_all_of_them():
    learned = frame_source(pa.table({"d": ZONED})).schema
    utc = pa.table({"d": ZONED.cast(pa.timestamp("ms", "UTC"))})
    np.testing.assert_array_equal(everything(align(frame_source(utc), learned))[:, 0], MICROSECONDS)


@pytest.mark.parametrize(
    ("fitted", "found", "words"),
    [
        (
            "us",
            ZONED,
            "with a time zone, and the model was fitted on timestamps without .* leave the",
        ),
        (
            "date32",
            ZONED,
            "with a time zone, and the model was fitted on dates; leave the zone out",
        ),
        (
            ZONED,
            "us",
            "timestamps without a time zone, .* fitted on timestamps with .* say in which zone",
        ),
        (ZONED, "date32", "dates, and the model was fitted on timestamps with a time zone; say in"),
        ("us", pa.array([1, 2, 3, 4], pa.duration("s")), "durations, .* give the same as"),
        (pa.array([1, 2, 3, 4], pa.duration("s")), "date32", "dates, .*on durations; give"),
    ],
)
@pytest.mark.parametrize("stream", [None, True])
def test_moments_of_which_it_is_not_known_when_they_are(tmp_path, fitted, found, words, stream):
    tables = [HOLDERS[x]() if isinstance(x, str) else pa.table({"d": x}) for x in (fitted, found)]
    learned = frame_source(tables[0]).schema
    if stream is None:
        with pytest.raises(DataError, match=f"^X: column 'd' holds .*{words}"):
            align(frame_source(tables[1]), learned)
        return
    pq.write_table(tables[1], tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match=f"rows.parquet: column 'd' .*{words}"):
        everything(align(open_source(tmp_path / "rows.parquet", stream=True), learned))


def test_no_moment_at_all_is_missing_in_any_zone():
    learned = frame_source(pa.table({"d": ZONED})).schema
    empty = pd.DataFrame({"d": pd.to_datetime(pd.Series([None, None]))})
    assert np.isnan(everything(align(frame_source(empty), learned))).all()


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    when = np.datetime64("2001-01-01") + np.round(x * 300).astype("m8[D]")
    return pd.DataFrame({"x": x, "y": x + rng.normal(size=200), "when": when.astype("M8[us]")})


def write(path, frame, kind):
    """The rows as a file whose dates are of this Arrow type."""
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    if path.suffix == ".csv":
        frame.assign(when=frame["when"].dt.strftime("%Y-%m-%d")).to_csv(path, index=False)
    else:
        pq.write_table(rows.set_column(2, "when", rows.column("when").cast(kind)), path)
    return path


@pytest.mark.parametrize("fitted", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_says_the_same_of_the_same_dates_in_any_file(tmp_path, table, fitted, stream):
    learned = open_source(write(tmp_path / fitted, table, pa.timestamp("ns")))
    with_missing = table.copy()
    with_missing.loc[:4, "when"] = pd.NaT
    settings = {"n_components": 2, "max_epochs": 3, "random_state": 0, "corruption": "missing"}
    ae = Autoencoder(**settings).fit(learned)
    detector = OutlierDetector(Autoencoder(**settings)).fit(learned)
    codes, errors = ae.transform(learned), ae.reconstruction_error(learned)
    odd, filled = detector.score_samples(learned), None
    kinds = {"b.csv": None, "c.parquet": pa.date32(), "d.parquet": pa.timestamp("ms")}
    for name, kind in kinds.items():
        rows = open_source(write(tmp_path / name, table, kind), stream=stream)
        np.testing.assert_allclose(ae.transform(rows), codes, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ae.reconstruction_error(rows), errors, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(detector.score_samples(rows), odd, rtol=1e-4, atol=1e-6)
        some = open_source(write(tmp_path / f"gaps-{name}", with_missing, kind), stream=stream)
        found = pd.to_datetime(ae.impute(some)["when"].to_pandas()).dt.round("D")
        assert (found[5:] == table["when"][5:]).all()
        assert (found.dt.year.between(1998, 2004)).all()
        filled = found if filled is None else filled
        assert (found - filled).abs().max() <= pd.Timedelta(days=1)


def test_the_time_type_is_saved():
    for dtype, time_type in {
        "Date": "date",
        "Datetime(time_unit='us', time_zone=None)": "naive",
        "Datetime(time_unit='us', time_zone='UTC')": "zoned",
        "Duration(time_unit='us')": "duration",
    }.items():
        column = Column(role="datetime", time_type=time_type)
        schema = Schema(
            layout="table", shape=(1,), dtypes=(dtype,), container="polars", columns=(column,)
        )
        assert schema_from_json(schema.to_json()) == schema
