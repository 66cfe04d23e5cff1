"""Rows written block by block are those written at once; what goes wrong leaves nothing."""

import tracemalloc

import numpy as np
import pytest
import torch

from isthmus.data import open_source
from isthmus.data.output.append import appending_rows
from isthmus.data.output.write import table_schema, write_rows
from isthmus.errors import RequestError, SourceError

FORMATS = ["parquet", "csv", "tsv", "npy", "npz", "safetensors"]


@pytest.fixture
def values(rng):
    return rng.normal(size=(50, 3)).astype(np.float32)


SCHEMA = table_schema("abc")


def append_all(path, values, schema=SCHEMA, **options):
    with appending_rows(path, schema, len(values), **options) as append:
        for start in range(0, len(values), 20):
            append(values[start : start + 20])


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_give_the_file_that_one_write_gives(tmp_path, values, suffix):
    append_all(tmp_path / f"blocks.{suffix}", values)
    write_rows(tmp_path / f"once.{suffix}", values, SCHEMA)
    found, expected = (open_source(tmp_path / f"{name}.{suffix}") for name in ("blocks", "once"))
    assert found.schema == expected.schema
    np.testing.assert_array_equal(found.read(np.arange(50)), expected.read(np.arange(50)))
    np.testing.assert_array_equal(found.read(np.arange(50)).astype(np.float32), values)


def test_images_go_to_their_names(tmp_path, digits):
    schema = open_source(digits[:50]).schema
    names = [f"{at % 3}/{at}.jpg" for at in range(50)]
    append_all(tmp_path / "pictures", digits[:50], schema, row_names=names)
    source = open_source(tmp_path / "pictures")
    assert sorted(source.row_names) == sorted(name.replace(".jpg", ".png") for name in names)
    order = [names.index(name.replace(".png", ".jpg")) for name in source.row_names]
    np.testing.assert_array_equal(source.read(np.arange(50)), digits[order])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SourceError("a later row is at fault")])
def test_what_goes_wrong_on_the_way_leaves_what_was_there(tmp_path, values, suffix, error):
    path = tmp_path / f"rows.{suffix}"
    path.write_text("old")

    def broken():
        with appending_rows(path, SCHEMA, 50, force=True) as append:
            append(values[:20])
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
def test_a_full_disk_is_one_line_about_the_file(tmp_path, values, suffix, monkeypatch):
    path = tmp_path / f"rows.{suffix}"

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isthmus.data.formats.values.as_table", full)
    monkeypatch.setattr("isthmus.data.formats.values.as_array", full)
    with pytest.raises(SourceError, match=rf"rows.{suffix}: cannot be written \(No space left"):
        append_all(path, values)
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_other_types_than_the_first_are_refused(tmp_path):
    def two():
        with appending_rows(tmp_path / "rows.parquet", SCHEMA, 18) as append:
            append(np.ones((9, 3), np.int64))
            append(np.full((9, 3), 0.5))

    with pytest.raises(SourceError, match=r"rows.parquet: later rows have other types"):
        two()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_without_force(tmp_path, values):
    (tmp_path / "rows.npy").write_text("old")
    with pytest.raises(RequestError, match="already exists"):
        append_all(tmp_path / "rows.npy", values)
    assert (tmp_path / "rows.npy").read_text() == "old"


TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int16, torch.bool]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(50, 3), (41, 2, 5)])
def test_tensors_in_blocks_are_the_very_bytes_of_one_write(tmp_path, rng, dtype, shape):
    values = torch.as_tensor(rng.normal(size=shape) * 3).to(dtype)
    schema = open_source(values).schema
    append_all(tmp_path / "blocks.safetensors", values, schema)
    write_rows(tmp_path / "once.safetensors", values, schema)
    blocks, once = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("blocks", "once"))
    assert blocks == once


def test_an_archive_in_blocks_holds_one_array(tmp_path, values):
    append_all(tmp_path / "a.npz", values)
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["rows"]
        assert archive["rows"].dtype == np.float32
        np.testing.assert_array_equal(archive["rows"], values)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "npy"])
def test_memory_does_not_grow_with_the_rows(tmp_path, suffix):
    block = np.arange(1000 * 50, dtype=np.float32).reshape(1000, 50)

    def peak(blocks):
        tracemalloc.start()
        schema = table_schema([f"c{at}" for at in range(50)])
        with appending_rows(tmp_path / f"{blocks}.{suffix}", schema, 1000 * blocks) as append:
            for _ in range(blocks):
                append(block.copy())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(60) < peak(6) + 5 * block.nbytes
