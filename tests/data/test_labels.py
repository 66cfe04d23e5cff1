"""Column names and labels, read from real files of every format that has them."""

import gzip
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus.data.labels import column_names, read_column, read_labels
from isthmus.errors import SourceError

TEXT = "kind,size,when\nant,1.5,2020-01-01\nbee,,2021-01-01\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "data.csv").write_text(TEXT)
    (tmp_path / "data.tsv").write_text(TEXT.replace(",", "\t"))
    columns = {"kind": ["ant", "bee"], "size": [1.5, None], "when": ["2020", "2021"]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.parquet"])
def test_columns_of_tables(table, name):
    assert column_names(table / name) == ("kind", "size", "when")
    assert read_column(table / name, "kind").tolist() == ["ant", "bee"]
    sizes = read_column(table / name, "size")
    assert sizes.dtype.kind == "f"
    np.testing.assert_array_equal(sizes, [1.5, np.nan])


def test_the_index_of_pandas_is_no_column(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="who"))
    frame.to_parquet(tmp_path / "data.parquet")
    assert column_names(tmp_path / "data.parquet") == ("a",)


def test_what_has_no_column_names(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((2, 2)))
    (tmp_path / "data.csv").write_text("1,2\n3,4\n")
    (tmp_path / "empty.csv").touch()
    for name in ("data.npy", "data.csv", "empty.csv", "nowhere.csv", "file.npz:member"):
        assert column_names(tmp_path / name) is None
    assert column_names(tmp_path / "data.csv", header=True) == ("1", "2")


def write_npy(path):
    np.save(path / "labels.npy", np.array(["a", "b", "c"]))
    return "labels.npy"


def write_column(path):
    np.save(path / "labels.npy", np.array([["a"], ["b"], ["c"]]))
    return "labels.npy"


def write_npz(path):
    np.savez(path / "labels.npz", x=np.zeros((3, 2)), y=np.array(["a", "b", "c"]))
    return "labels.npz:y"


def write_csv(path):
    (path / "labels.csv").write_text("who\na\nb\nc\n")
    return "labels.csv"


@pytest.mark.parametrize("write", [write_npy, write_column, write_npz, write_csv])
def test_labels_of_text(tmp_path, write):
    assert read_labels(f"{tmp_path}/{write(tmp_path)}").tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("zipped", [False, True])
def test_labels_of_idx(tmp_path, zipped):
    content = struct.pack(">HBBI", 0, 8, 1, 3) + bytes([7, 8, 9])
    path = tmp_path / f"labels-idx1-ubyte{'.gz' * zipped}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert read_labels(path).tolist() == [7, 8, 9]


def test_labels_of_a_csv_without_a_header(tmp_path):
    (tmp_path / "labels.csv").write_text("3\n1\n2\n")
    assert read_labels(tmp_path / "labels.csv").tolist() == [3, 1, 2]


def test_labels_that_are_none(tmp_path):
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "text.txt").write_text("a\n")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "wide.npy", np.zeros((3, 2)))
    np.save(tmp_path / "one.npy", np.zeros(()))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name, message in {
        "two.csv": "columns 'a', 'b'",
        "text.txt": "convert",
        "cut.npy": "truncated or damaged",
        "wide.npy": r"shape \(3, 2\)",
        "one.npy": r"shape \(\)",
        "objects.npy": "damaged",
        "nowhere.npy": "no such file",
    }.items():
        with pytest.raises(SourceError, match=message):
            read_labels(tmp_path / name)
