"""A schema survives JSON and names every number of a row, and an edited one is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from isthmus.data import Schema, open_source
from isthmus.data.schema import schema_from_json
from isthmus.data.tables.restore import restore
from isthmus.errors import ArtifactError


def through_json(schema):
    return schema_from_json(json.loads(json.dumps(schema.to_json())))


def test_json_round_trip():
    schema = Schema(
        layout="table",
        shape=(2,),
        dtypes=("Int64", "Float32"),
        container="pandas",
        names=("400.5", "401"),
        natives=("Int64", "float32"),
        labels=(400.5, 401),
    )
    assert through_json(schema) == schema


ARROW = ("int8", "uint64", "float", "double", "halffloat", "bool")
PANDAS = {
    "numpy": pd.DataFrame(
        {"i": np.ones(2, "int8"), "f": np.ones(2, "float16"), "b": [True, False]}
    ),
    "big-endian": pd.DataFrame({"a": np.ones(2, ">f8"), "b": np.ones(2, ">i4")}),
    "nullable": pd.DataFrame(
        {name: pd.array([1, 0], dtype=name) for name in ("Int64", "UInt8", "Float32", "boolean")}
    ),
    "object": pd.DataFrame({"a": np.array([1, 2.5], dtype=object), "b": [1, 2]}),
    "arrow": pd.DataFrame({name: pd.array([1, 0], dtype=f"{name}[pyarrow]") for name in ARROW}),
    "decimal": pd.DataFrame({"a": pd.array([1, 2], dtype=pd.ArrowDtype(pa.decimal128(20, 1)))}),
    "sparse": pd.DataFrame(
        {"i": pd.arrays.SparseArray([0, 7]), "b": pd.arrays.SparseArray([True, False])}
    ),
    "labels": pd.DataFrame(np.eye(3), columns=["b", 0, 401.5]),
}
SEPARATOR_NAMES = {
    "polars": pl.DataFrame(
        {
            "m": pl.Series(["1.50", "2.25"]).cast(pl.Decimal(10, 2)),
            "h": pl.Series([1, 2], dtype=pl.Int128),
            "f": pl.Series([1, 2], dtype=pl.Float32),
        }
    ),
    "pyarrow": pa.table({"a": [1, 2], "b": [True, False]}),
    "images": np.zeros((2, 3, 8, 9), "uint8"),
    "signals": np.zeros((2, 30, 2)),
    "bool": np.eye(2, dtype=bool),
    "longdouble": np.eye(2, dtype=np.longdouble),
    "matrix": sparse.csr_matrix(np.eye(2)),
    "sparse array": sparse.csr_array(np.eye(2)),
    "tensor": torch.ones(2, 3, dtype=torch.int16),
    "bfloat16": torch.ones(2, 3, dtype=torch.bfloat16),
    "float8": torch.ones(2, 3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", [*PANDAS, *SEPARATOR_NAMES])
def test_what_rows_come_in_is_read_back(name):
    source = open_source((PANDAS | SEPARATOR_NAMES)[name])
    schema = through_json(source.schema)
    assert schema == source.schema
    rows = source.read(np.arange(len(source))).astype(np.float64)
    assert type(restore(rows, schema)) is type(restore(rows, source.schema))


def test_feature_names():
    assert Schema(layout="image", shape=(1, 2), dtypes=("uint8",)).feature_names() == ("0,0", "0,1")
    assert Schema(layout="table", shape=(2,), dtypes=("uint8",)).feature_names() == ("0", "1")


def test_a_foreign_schema_is_an_artifact_error():
    with pytest.raises(ArtifactError, match="colour"):
        schema_from_json({"colour": 1})


ARRAY = Schema(layout="table", shape=(2,), dtypes=("float32",), names=("a", "b"))
TENSOR = Schema(layout="table", shape=(2,), dtypes=("float32",), container="tensor")
THIN = Schema(layout="table", shape=(2,), dtypes=("int8",), container="sparse", natives=("matrix",))
FRAME = Schema(
    layout="table",
    shape=(2,),
    dtypes=("Int64", "Float32"),
    container="pandas",
    names=("7", "b"),
    natives=("Int64", "float32"),
    labels=(7, "b"),
)
ARROW_TABLE = Schema(
    layout="table",
    shape=(2,),
    dtypes=("Int64", "Float32"),
    container="pyarrow",
    names=("a", "b"),
    numpy_types=("Int64", ""),
)
POLARS = Schema(layout="table", shape=(2,), dtypes=("Int64",), container="polars")
PIXELS = Schema(layout="image", shape=(8, 9), dtypes=("uint8",), container="images", mode="L")

EDITED = [
    *[(ARRAY, "dtypes", bad) for bad in (None, 3, [None], [3], [["i4"]], "zz", ["zz"], ["Int64"])],
    *[(ARRAY, "dtypes", bad) for bad in ([""], ["O"], ["complex64"], ["f4,f4"], ["M8[s]"], [","])],
    *[(ARRAY, "names", bad) for bad in (3, "a", ["a"], ["a", None], ["a", 3], [["a"], ["b"]])],
    *[(ARRAY, "natives", bad) for bad in (3, ["matrix"], ["Int64", "Int64"])],
    *[(ARRAY, "labels", bad) for bad in (3, [1, 2])],
    *[(ARRAY, "shape", bad) for bad in (None, 2, "2", [0], [2.0], [True], [None], [2, 2])],
    *[(ARRAY, "layout", bad) for bad in (None, "zz", ["table"], 3, "image")],
    *[(ARRAY, "container", bad) for bad in (None, "zz", ["array"], "polars")],
    *[(TENSOR, "dtypes", bad) for bad in (["zz"], ["Int64"], ["complex64"], ["qint8"], ["nn"])],
    *[(THIN, "dtypes", bad) for bad in (["zz"], [None], ["bfloat16"])],
    *[(THIN, "natives", bad) for bad in (["zz"], [None], [3], [], ["matrix", "matrix"])],
    (THIN, "shape", [2, 2]),
    *[(FRAME, "dtypes", bad) for bad in (["zz"], ["Int64", None], ["Int64"] * 3, ["Decimal"])],
    *[(FRAME, "names", bad) for bad in (["a", "a"], ["a", None], ["a", 3])],
    *[(FRAME, "natives", bad) for bad in (["Int64"], ["matrix"], ["Int64", "zz"], ["Int64", None])],
    *[(FRAME, "natives", ["Int64", bad]) for bad in ("zz[pyarrow]", "Sparse[zz]", "category", "")],
    *[(FRAME, "labels", bad) for bad in ([7], [7, None], [7, ["b"]], [7, {"b": 1}], "7b8")],
    (POLARS, "labels", [7, 8]),
    (POLARS, "natives", ["Int64", "Int64"]),
    *[(ARROW_TABLE, "numpy_types", bad) for bad in (3, [], ["Int64"], ["Int64"] * 3, "Int64")],
    *[(ARROW_TABLE, "numpy_types", ["", bad]) for bad in (None, 3, ["Int64"], "zz", "zz[pyarrow]")],
    *[(schema, "numpy_types", ["Int64", "Int64"]) for schema in (ARRAY, FRAME, POLARS)],
    *[(PIXELS, "mode", bad) for bad in (3, ["L"])],
    *[(PIXELS, "channels_first", bad) for bad in (None, 0, "no", True)],
]


@pytest.mark.parametrize("schema", [ARRAY, TENSOR, THIN, FRAME, ARROW_TABLE, POLARS, PIXELS])
def test_what_is_edited_below_is_sound_before(schema):
    assert through_json(schema) == schema


def test_a_schema_of_before_pandas_dtypes_were_kept():
    written = ARROW_TABLE.to_json()
    del written["numpy_types"]
    assert schema_from_json(written) == replace(ARROW_TABLE, numpy_types=None)


@pytest.mark.parametrize(("schema", "field", "bad"), EDITED, ids=str)
def test_an_edited_schema_is_an_artifact_error(schema, field, bad):
    with pytest.raises(ArtifactError, match="the model's schema cannot be read") as caught:
        schema_from_json(json.loads(json.dumps(schema.to_json() | {field: bad})))
    assert "\n" not in str(caught.value)
