"""What pandas wrote to Parquet it reads back from what was decoded, with the dtypes it had."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus import Autoencoder, load
from isthmus.data import open_source, windows
from isthmus.data.output.append import appending_rows
from isthmus.data.output.write import write_rows
from isthmus.data.tables.frames import PickedSource
from isthmus.data.tables.pandas_metadata import numpy_types, with_numpy_types
from isthmus.data.tables.restore import restore
from isthmus.data.validate import align

N = 60


def pandas_frame():
    """A column of every dtype of pandas that Parquet holds and a model takes, some with gaps."""
    rng = np.random.default_rng(0)
    whole, truths, words = rng.integers(0, 9, N), rng.random(N) > 0.5, rng.choice(["x", "y"], N)
    days = pd.Series(pd.date_range("2020", periods=N, unit="us"))
    nullable = ("Int8", "Int64", "UInt16", "Float32", "Float64", "int32[pyarrow]")
    zoned = pd.ArrowDtype(pa.timestamp("ms", "Europe/Berlin"))
    arrow = pd.ArrowDtype(pa.decimal128(20, 1))
    frame = pd.DataFrame(
        {
            **{dtype: pd.array(whole, dtype=dtype) for dtype in (*nullable, "double[pyarrow]")},
            **{dtype: pd.array(truths, dtype=dtype) for dtype in ("boolean", "bool[pyarrow]")},
            **{dtype: pd.array(words, dtype=dtype) for dtype in ("string", "str", "category")},
            "text": pd.Series(words).astype(pd.ArrowDtype(pa.large_string())),
            "object": words.astype(object),
            "days": days.dt.date.astype(pd.ArrowDtype(pa.date32())),
            "dates": days.dt.date,
            "times": days.astype(pd.ArrowDtype(pa.timestamp("us"))),
            "zoned": days.dt.tz_localize("Europe/Berlin").astype(zoned),
            "own": days.dt.tz_localize("Europe/Berlin"),
            "spans": pd.to_timedelta(whole, unit="s"),
            "decimals": pd.array(whole, dtype=arrow),
            **{dtype: whole.astype(dtype) for dtype in ("uint8", "int64", "float32", "float64")},
        }
    )
    frame.loc[3, ["Int64", "boolean", "string", "Float64", "int32[pyarrow]", "times"]] = None
    return frame


def fitted(rows, **options):
    source = open_source(rows, **options) if isinstance(rows, Path) else rows
    model = Autoencoder(n_components=2, kind="vanilla", max_epochs=0)
    return model.fit(source), source


def dtypes(path):
    """What pandas reads from a Parquet file."""
    return {str(name): dtype for name, dtype in pd.read_parquet(path).dtypes.items()}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_pandas_reads_the_dtypes_it_wrote(tmp_path, stream, folder):
    data = tmp_path / "data" if folder else tmp_path / "a.parquet"
    data.mkdir() if folder else None
    pandas_frame().to_parquet(data / "a.parquet" if folder else data)
    model, source = fitted(data, stream=stream)
    model.save(tmp_path / "model")
    codes = model.transform(source)
    for one in (model, load(tmp_path / "model")):
        pq.write_table(one.inverse_transform(codes), tmp_path / "back.parquet")
        assert dtypes(tmp_path / "back.parquet") == dtypes(data)
    assert len(dtypes(data)) == pandas_frame().shape[1]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_written_block_by_block(tmp_path, stream):
    pandas_frame().to_parquet(tmp_path / "a.parquet")
    schema = open_source(tmp_path / "a.parquet", stream=stream).schema
    values = np.zeros((4, schema.n_features))
    with appending_rows(tmp_path / "back.parquet", schema, 4) as append:
        append(restore(values[:3], schema))
        append(restore(values[3:], schema))
    assert dtypes(tmp_path / "back.parquet") == dtypes(tmp_path / "a.parquet")
    assert len(pd.read_parquet(tmp_path / "back.parquet")) == 4
    both = pa.concat_tables([restore(values[:3], schema), restore(values[3:], schema)])
    assert both.to_pandas().dtypes.to_dict() == dtypes(tmp_path / "a.parquet")


def test_other_formats_and_libraries_read_what_they_did(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": [0.5, 1.5, 2.5]})
    frame.to_parquet(tmp_path / "a.parquet")
    schema = open_source(tmp_path / "a.parquet").schema
    table = restore(frame.to_numpy(float), schema)
    assert pl.from_arrow(table).equals(pl.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]}))
    write_rows(tmp_path / "back.csv", table, schema)
    assert (tmp_path / "back.csv").read_text().splitlines()[1:] == ["1,0.5", "2,1.5", "3,2.5"]
    write_rows(tmp_path / "back.npy", table, schema)
    assert np.load(tmp_path / "back.npy").tolist() == frame.to_numpy(float).tolist()
    assert pl.read_parquet(tmp_path / "a.parquet").equals(pl.from_arrow(table))


@pytest.mark.parametrize("stream", [False, True])
def test_columns_that_are_picked_keep_their_own(tmp_path, stream):
    frame = pd.DataFrame({"a": range(9), "id": [f"row {i}" for i in range(9)], "c": [True] * 9})
    frame = frame.astype({"a": "Int16", "id": "string", "c": "boolean"}).set_index("id")
    frame.to_parquet(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", columns=["c", "a"], stream=stream)
    assert source.schema.numpy_types == ("boolean", "Int16")
    picked = PickedSource(source, [1])
    back = restore(picked.read(np.arange(9)).astype(float), picked.schema).to_pandas()
    pd.testing.assert_frame_equal(back, frame[["a"]].reset_index(drop=True))
    aligned = align(source, picked.schema, drop_extra=True)
    assert aligned.schema.numpy_types == ("Int16",)


def test_recordings_that_are_joined_again(tmp_path):
    wave = np.sin(np.arange(300.0))
    frame = pd.DataFrame({"u": pd.array(wave, dtype="Float64"), "v": np.arange(300) % 9})
    frame.astype({"v": "Int16"}).to_parquet(tmp_path / "a.parquet")
    model, source = fitted(windows(tmp_path / "a.parquet", length=16))
    pq.write_table(model.inverse_transform(model.transform(source)), tmp_path / "back.parquet")
    assert dtypes(tmp_path / "back.parquet") == dtypes(tmp_path / "a.parquet")
    assert list(map(str, dtypes(tmp_path / "back.parquet").values())) == ["Float64", "Int16"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_that_pandas_did_not_write_tells_nothing(tmp_path, stream):
    pl.DataFrame({"a": [1, 2], "b": [True, False]}).write_parquet(tmp_path / "a.parquet")
    schema = open_source(tmp_path / "a.parquet", stream=stream).schema
    assert schema.numpy_types is None
    assert restore(np.zeros((2, 2)), schema).schema.metadata is None


def test_rows_of_a_csv_are_rows_for_a_model_of_parquet_and_the_other_way(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 9, N), "b": rng.random(N)}).astype({"a": "Int64"})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for first in ("a.parquet", "a.csv"):
        model, source = fitted(tmp_path / first)
        codes = model.transform(source)
        for other in ("a.parquet", "a.csv"):
            found = model.transform(open_source(tmp_path / other))
            np.testing.assert_allclose(found, codes, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("empty", ["string", "object", "Float64"])
def test_a_column_without_values_is_what_the_model_knows_it_to_be(tmp_path, stream, empty):
    rng = np.random.default_rng(0)
    names = {"a": "Float64", "b": "boolean" if empty == "Float64" else "Float32"}
    full = pd.DataFrame({"a": rng.random(N), "b": rng.random(N) > 0.5}).astype(names)
    full.loc[3, "a"] = None
    full.to_parquet(tmp_path / "a.parquet")
    model, _ = fitted(tmp_path / "a.parquet")
    full.assign(b=pd.Series([None] * N, dtype=empty)).to_parquet(tmp_path / "b.parquet")
    filled = model.impute(open_source(tmp_path / "b.parquet", stream=stream)).to_pandas()
    assert str(filled["a"].dtype) == "Float64"
    assert filled["b"].dtype.kind == ("b" if empty == "Float64" else "f")
    assert not filled.isna().any().any()


def test_dtypes_whose_names_pandas_cannot_read_are_not_told(tmp_path):
    words = pa.array(["x", "y"] * 30).dictionary_encode()
    frame = pd.DataFrame({"a": pd.Series(words, dtype=pd.ArrowDtype(words.type)), "b": 0.5})
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(TypeError, match="not understood"):
        pd.read_parquet(tmp_path / "a.parquet")
    model, source = fitted(tmp_path / "a.parquet")
    assert source.schema.numpy_types == ("", "float64")
    pq.write_table(model.inverse_transform(model.transform(source)), tmp_path / "back.parquet")
    assert [str(dtype) for dtype in dtypes(tmp_path / "back.parquet").values()] == [
        "category",
        "float64",
    ]


def test_what_is_written_is_what_pandas_itself_writes():
    frame = pandas_frame().drop(columns=["category"]).dropna()
    frame["category"] = pd.Categorical.from_codes(frame["int64"] % 3, list("wxyz"))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    types = numpy_types(table, table.column_names)
    made = with_numpy_types(table.replace_schema_metadata(None), types)
    wanted = {one["name"]: one for one in table.schema.pandas_metadata["columns"]}
    found = {one["name"]: one for one in made.schema.pandas_metadata["columns"]}
    # Of large strings and times in zones that Arrow holds, pandas says less than of others.
    wanted["zoned"]["metadata"] = {"timezone": "Europe/Berlin"}
    for name in ("string", "str", "text", "object"):
        wanted[name]["pandas_type"] = "unicode"
    assert found == wanted


UNREADABLE = [
    b"{}",
    b"[]",
    b"nonsense",
    b"\xff",
    b'{"columns": [{"field_name": "a", "numpy_type": "Int64"}]}',
    b'{"columns": [3], "index_columns": []}',
    b'{"columns": 3, "index_columns": []}',
    b'{"columns": [{"field_name": ["a"], "numpy_type": "Int64"}], "index_columns": []}',
    b'{"columns": [{"field_name": "a", "numpy_type": {}}], "index_columns": []}',
    b'{"columns": [{"field_name": "a"}], "index_columns": [{}]}',
    b'{"columns": [{"field_name": "z", "numpy_type": "Int64"}], "index_columns": []}',
]


@pytest.mark.parametrize("told", UNREADABLE)
@pytest.mark.parametrize("stream", [False, True])
def test_what_nobody_can_read_tells_nothing(tmp_path, told, stream):
    table = pa.table({"a": [1.0, 2.0], "b": [3.0, 5.0]}).replace_schema_metadata({b"pandas": told})
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", stream=stream)
    assert source.schema.names == ("a", "b")
    assert source.schema.numpy_types is None
    assert numpy_types(table, ["a", "b"]) is None
