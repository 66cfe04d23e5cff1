"""IDX files built by hand with struct and gzip, and damaged ones."""

import gzip
import struct

import numpy as np
import pytest

from isthmus.data import open_source
from isthmus.errors import SourceError


def idx(code, shape, content):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + content


# struct's letters, not NumPy's, so that the byte order is judged independently
DTYPES = {
    "uint8": (0x08, "B"),
    "int8": (0x09, "b"),
    "int16": (0x0B, "h"),
    "int32": (0x0C, "i"),
    "float32": (0x0D, "f"),
    "float64": (0x0E, "d"),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, dtype, suffix):
    code, letter = DTYPES[dtype]
    content = idx(code, (2, 3), struct.pack(f">6{letter}", 1, 2, 3, 4, 5, 100))
    path = tmp_path / f"a.idx{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    source = open_source(path)
    read = source.read(np.arange(2))
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert source.schema.dtypes == (dtype,)
    assert read.tolist() == [[1, 2, 3], [4, 5, 100]]


@pytest.mark.parametrize(
    "name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "a.idx3", "T10K-IDX3-UBYTE.gz"]
)
def test_names_of_mnist(tmp_path, name):
    content = idx(8, (2, 2, 2), bytes(range(8)))
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = open_source(tmp_path / name)
    assert source.schema.layout == "image"
    assert source.read(np.array([1])).tolist() == [[[4, 5], [6, 7]]]


def test_the_digits_shipped_with_isthmus(digits):
    source = open_source("examples/digits/images-idx3-ubyte.gz")
    np.testing.assert_array_equal(source.read(np.arange(len(source))), digits)


def test_labels_are_not_rows(tmp_path):
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(8, (3,), b"abc"))
    with pytest.raises(SourceError, match=r"idx1-ubyte: an array of shape \(3,\)"):
        open_source(tmp_path / "labels-idx1-ubyte")


def test_no_rows(tmp_path):
    (tmp_path / "a.idx").write_bytes(idx(8, (0, 2, 2), b""))
    assert len(open_source(tmp_path / "a.idx")) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            idx(8, (2, 3), b"12345"),
            r"is truncated: its header \(2, 3\) calls for 18 bytes and .* 17",
        ),
        (idx(8, (2, 3), b"1234567"), "is longer than it says"),
        (idx(8, (2, 3), b"")[:9], "this is not an IDX file"),
        (idx(0x0A, (2,), b"ab"), "this is not an IDX file"),
        (b"a,b\n1,2\n", "this is not an IDX file .it starts with 61 2c 62 0a,"),
        (b"\0", "this is not an IDX file"),
    ],
)
def test_damaged(tmp_path, content, message):
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.idx: " + message):
        open_source(tmp_path / "a.idx")


@pytest.mark.parametrize("content", [b"hello", gzip.compress(idx(8, (1, 1), b"1"), mtime=0)[:-9]])
def test_damaged_gzip(tmp_path, content):
    (tmp_path / "a.idx.gz").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.idx\.gz: this is not an IDX file in gzip, or"):
        open_source(tmp_path / "a.idx.gz")
