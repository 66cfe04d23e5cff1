"""Folders of images: order, sizes, modes, names, and back to PNG."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from isthmus.data import open_source
from isthmus.data.formats import images
from isthmus.data.output.write import write_rows
from isthmus.data.tables.restore import restore
from isthmus.errors import RequestError, SourceError, options_in_messages


def save(folder, name, values, mode=None, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def grey(value, height=4, width=6):
    return np.full((height, width), value, np.uint8)


def everything(source):
    return source.read(np.arange(len(source)))


def test_images_are_rows_in_the_order_of_their_paths(tmp_path):
    for name, value in [("b/1.png", 3), ("a/2.PNG", 2), ("a/1.png", 1), ("c.png", 4)]:
        save(tmp_path, name, grey(value))
    (tmp_path / "a" / "._1.png").write_text("left by another system")
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert source.row_names == ("a/1.png", "a/2.PNG", "b/1.png", "c.png")
    assert source.schema.shape == (4, 6)
    assert (source.schema.container, source.schema.mode) == ("images", "L")
    assert source.schema.dtypes == ("uint8",)
    assert everything(source)[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert source.read(np.array([3, 0, 3]))[:, 0, 0].tolist() == [4, 1, 4]
    assert len(source) == 4


def test_a_folder_too_large_to_keep_is_decoded_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "KEPT_BYTES", 0)
    save(tmp_path, "a.png", grey(1))
    source = open_source(tmp_path)
    assert source.read(np.array([0, 0])).tolist() == [grey(1).tolist()] * 2
    assert source.read(np.arange(0)).shape == (0, 4, 6)


def test_colour_images_keep_their_pixels(tmp_path, rng):
    pixels = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    save(tmp_path, "a.png", pixels[0])
    save(tmp_path, "b.png", pixels[1])
    np.testing.assert_array_equal(everything(open_source(tmp_path)), pixels)


def test_modes_that_differ_become_the_most_general(tmp_path):
    save(tmp_path, "a.png", grey(7))
    save(tmp_path, "b.png", np.full((4, 6, 3), 8, np.uint8))
    assert open_source(tmp_path).schema.mode == "RGB"
    save(tmp_path, "c.png", Image.new("P", (6, 4)), transparency=0)
    source = open_source(tmp_path)
    assert source.schema.mode == "RGBA"
    assert everything(source)[:, 0, 0].tolist() == [[7, 7, 7, 255], [8, 8, 8, 255], [0, 0, 0, 0]]


def test_sizes_that_differ_are_counted(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path, name, grey(0))
    save(tmp_path, "odd.png", grey(0, 5, 5))
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the images have 2 sizes (height x width): 3 of 4x6 (the first 'a.png'), "
        "1 of 5x5 (the first 'odd.png'); make them equal with resize=(4, 6)"
    )
    with options_in_messages(), pytest.raises(SourceError, match=r"equal with --resize 4x6$"):
        open_source(tmp_path)


def test_resize_makes_sizes_equal(tmp_path):
    save(tmp_path, "a.png", grey(10))
    save(tmp_path, "b.png", grey(20, 9, 9))
    source = open_source(tmp_path, resize=(3, 2))
    assert source.schema.shape == (3, 2)
    assert [np.unique(row).tolist() for row in everything(source)] == [[10], [20]]
    assert open_source(tmp_path, resize=5).schema.shape == (5, 5)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SourceError, match=f"^{tmp_path}: there is no PNG or JPEG image in this"):
        open_source(tmp_path)


def test_images_have_their_own_layout(tmp_path):
    with pytest.raises(RequestError, match="has layout='image'; leave layout out"):
        open_source(tmp_path, layout="table")


def test_an_image_that_changes_under_our_feet(tmp_path):
    save(tmp_path, "a.png", grey(0))
    source = open_source(tmp_path)
    save(tmp_path, "a.png", grey(0, 9, 9))
    with pytest.raises(SourceError, match=r"a\.png: has changed since the folder was opened"):
        everything(source)


def test_decoded_images_take_the_names_of_their_files(tmp_path, rng):
    pixels = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    save(tmp_path, "in/x/a.png", pixels[0])
    save(tmp_path, "in/b.png", pixels[1])
    source = open_source(tmp_path / "in")
    back = restore(everything(source).astype(np.float32) + 0.3, source.schema)
    assert back.dtype == np.uint8
    write_rows(tmp_path / "out", back, source.schema, row_names=source.row_names)
    again = open_source(tmp_path / "out")
    assert again.row_names == ("b.png", "x/a.png")
    np.testing.assert_array_equal(everything(again), pixels[::-1])


@pytest.mark.parametrize(
    ("shape", "mode"),
    [((2, 4, 6), "L"), ((2, 4, 6, 1), "L"), ((2, 4, 6, 2), "LA"), ((2, 3, 7, 6), "RGB")],
)
def test_arrays_of_images_become_png(tmp_path, shape, mode):
    rows = (np.arange(np.prod(shape)) % 256).astype(np.uint8).reshape(shape)
    write_rows(tmp_path / "out", rows, open_source(rows).schema)
    with Image.open(tmp_path / "out" / "000001.png") as image:
        assert image.mode == mode
        channels_last = np.moveaxis(rows[1], 0, -1) if shape == (2, 3, 7, 6) else rows[1]
        np.testing.assert_array_equal(np.asarray(image), channels_last.squeeze())


def test_booleans_become_black_and_white(tmp_path):
    rows = np.eye(4, dtype=bool)[None].repeat(2, axis=0)
    write_rows(tmp_path / "out", rows, open_source(rows).schema)
    with Image.open(tmp_path / "out" / "000000.png") as image:
        assert np.asarray(image).tolist() == (np.eye(4) * 255).tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), r"PNG images hold 0 to 255 \(uint8\), .* float32;.*npy"),
        (np.zeros((2, 4)), "can hold images only, and the rows are a table; .* a suffix"),
    ],
)
def test_rows_that_are_no_pixels(tmp_path, rows, message):
    with pytest.raises(RequestError, match=f"{re.escape('out')}: .*{message}"):
        write_rows(tmp_path / "out", rows, open_source(rows).schema)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_text_is_refused_before_any_work(tmp_path):
    save(tmp_path, "a.png", grey(1))
    save(tmp_path, "b.png", grey(2))
    os.replace(tmp_path / "b.png", os.fsencode(tmp_path) + b"/\xff.png")  # noqa: PTH105
    with pytest.raises(SourceError, match="not valid UTF-8; rename the file"):
        open_source(tmp_path)
