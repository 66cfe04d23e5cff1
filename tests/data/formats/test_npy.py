"""NumPy's .npy files: mapped, and refused where they are damaged."""

import re

import numpy as np
import pytest

from isthmus.data import open_source
from isthmus.errors import SourceError


def test_rows_are_mapped_not_loaded(tmp_path):
    rows = np.arange(24, dtype=">i2").reshape(6, 4)
    np.save(tmp_path / "a.npy", rows)
    source = open_source(tmp_path / "a.npy")
    assert isinstance(source.values, np.memmap)
    assert source.origin == str(tmp_path / "a.npy")
    assert source.read(np.array([5, 0])).tolist() == [[20, 21, 22, 23], [0, 1, 2, 3]]
    assert type(source.read(np.arange(2))) is np.ndarray


def test_the_layout_can_be_given(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8)))
    assert open_source(tmp_path / "a.npy", layout="signal").schema.network_shape == (8, 8)


def test_python_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, "x"], dtype=object))
    with pytest.raises(SourceError, match=r"a\.npy: holds Python objects, which are never loaded"):
        open_source(tmp_path / "a.npy")


@pytest.mark.parametrize("keep", [3, 20, 100, 150])
def test_truncated(tmp_path, keep):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10, 4)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=f"^{re.escape(str(path))}: this is not a .npy file, or"):
        open_source(path)


def test_another_file_under_this_name(tmp_path):
    (tmp_path / "a.npy").write_text("a,b\n1,2\n" * 20)
    with pytest.raises(SourceError, match=r"a\.npy: this is not a \.npy file") as caught:
        open_source(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_a_single_number_is_not_rows(tmp_path):
    np.save(tmp_path / "a.npy", 3.0)
    with pytest.raises(SourceError, match=r"a\.npy: an array of shape \(\)"):
        open_source(tmp_path / "a.npy")
