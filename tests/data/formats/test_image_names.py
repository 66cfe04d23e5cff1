"""Decoded images take names that are safe and differ."""

import pytest

from isthmus.data.formats.image_files import file_names
from isthmus.errors import RequestError


def test_numbers_where_there_are_no_names():
    assert file_names(None, 2) == ["000000.png", "000001.png"]


def test_names_keep_their_folders_and_become_png():
    assert file_names(["x/a.JPG", "b.png", "v1.2.jpeg"], 3) == ["x/a.png", "b.png", "v1.2.png"]


def test_names_that_would_meet_keep_their_suffix():
    assert file_names(["a.jpg", "a.png", "b.png"], 3) == ["a.jpg.png", "a.png.png", "b.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png"], "there are 2 images and 1 names"),
        (["../a.png", "b.png"], "'../a.png' leads out of the folder"),
        (["/a.png", "b.png"], "'/a.png' leads out"),
        (["", "b.png"], "'' leads out"),
        (["a.png", "a.png"], "several images have the same name"),
    ],
)
def test_names_that_cannot_be_used(names, message):
    with pytest.raises(RequestError, match=message):
        file_names(names, 2)
