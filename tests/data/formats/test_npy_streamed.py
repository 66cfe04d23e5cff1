"""Streamed .npy files: the rows of the array, from anywhere in it."""

import numpy as np
import pytest
from PIL import Image

from isthmus import Autoencoder
from isthmus.data import open_source
from isthmus.data.formats.images import StreamedImages
from isthmus.data.formats.npy import NpyBlocks
from isthmus.errors import SourceError


@pytest.fixture(autouse=True)
def _in_pieces(monkeypatch):
    monkeypatch.setattr("isthmus.data.formats.npy.PIECE_BYTES", 500)
    monkeypatch.setattr("isthmus.data.on_disk.CHUNK_BYTES", 400)


@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1", "i8", "?"])
@pytest.mark.parametrize("shape", [(6,), (4, 5), (4, 4, 3)])
def test_rows_are_those_of_the_array(tmp_path, rng, dtype, shape):
    values = rng.integers(0, 2, (101, *shape)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    source = open_source(tmp_path / "a.npy", stream=True)
    memory = open_source(tmp_path / "a.npy", stream=False)
    assert isinstance(source, NpyBlocks)
    assert source.schema == memory.schema
    for wanted in (np.arange(101), rng.integers(0, 101, 50)):
        found = source.read(wanted)
        assert found.dtype == memory.read(wanted).dtype
        np.testing.assert_array_equal(found, values[wanted])


def test_columns_that_lie_together_are_no_rows_to_stream(tmp_path, rng):
    values = np.asfortranarray(rng.normal(size=(50, 4)))
    np.save(tmp_path / "a.npy", values)
    source = open_source(tmp_path / "a.npy", stream=True)
    assert not isinstance(source, NpyBlocks)
    np.testing.assert_array_equal(source.read(np.arange(50)), values)


def test_a_file_that_changes_is_noticed(tmp_path, rng):
    path = tmp_path / "a.npy"
    np.save(path, rng.normal(size=(50, 4)))
    source = open_source(path, stream=True)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(SourceError, match=r"a.npy: has changed since it was opened"):
        source.read(np.array([49]))


def test_what_stands_for_large_is_a_size_in_bytes(tmp_path, rng, monkeypatch):
    np.save(tmp_path / "a.npy", rng.normal(size=(50, 4)))
    assert not isinstance(open_source(tmp_path / "a.npy"), NpyBlocks)
    monkeypatch.setattr("isthmus.data.formats.npy.SMALL_BYTES", 50 * 4 * 8 - 1)
    assert isinstance(open_source(tmp_path / "a.npy"), NpyBlocks)


def test_images_are_read_from_their_files_as_they_are_wanted(tmp_path, rng):
    pixels = rng.integers(0, 256, (70, 5, 4, 3), np.uint8)
    for at, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{at:03}.png")
    source = open_source(tmp_path, stream=True)
    memory = open_source(tmp_path)
    assert isinstance(source, StreamedImages)
    assert not isinstance(memory, StreamedImages)
    assert (source.schema, source.row_names) == (memory.schema, memory.row_names)
    for wanted in (np.arange(70), rng.integers(0, 70, 30)):
        np.testing.assert_array_equal(source.read(wanted), pixels[wanted])
    fresh = open_source(tmp_path, stream=True)
    Image.fromarray(pixels[0][:3]).save(tmp_path / "050.png")
    with pytest.raises(SourceError, match=r"050.png: has changed since the folder was opened"):
        fresh.read(np.arange(70))


def test_a_fit_of_streamed_images_is_that_of_images_in_memory(tmp_path, digits):
    for at, image in enumerate(digits[:60]):
        Image.fromarray(image).save(tmp_path / f"{at:03}.png")
    errors = [
        Autoencoder(2, max_epochs=1, random_state=0)
        .fit(open_source(tmp_path, stream=stream))
        .score(digits[:60])
        for stream in (True, False)
    ]
    assert errors[0] == errors[1]
