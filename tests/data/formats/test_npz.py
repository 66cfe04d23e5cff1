"""NumPy's .npz files: members, sparse matrices, and damage."""

import numpy as np
import pytest
from scipy import sparse

from isthmus.data import open_source
from isthmus.errors import RequestError, SourceError


def test_the_only_member_needs_no_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(3, dtype="float32"))
    source = open_source(tmp_path / "a.npz")
    assert source.read(np.array([1])).tolist() == [[0, 1, 0]]
    assert source.schema.dtypes == ("float32",)


def test_several_members_are_listed_with_their_shapes(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.zeros(7))
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "a.npz")
    assert "a.npz: holds 2 arrays: 'x' (2, 3), 'y' (7,); choose one with" in str(caught.value)
    assert "member='x' or a.npz:x" in str(caught.value)


def test_an_unknown_member_lists_the_known(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)))
    with pytest.raises(SourceError, match=r"no array named 'q'; it holds 'x' \(2, 3\)"):
        open_source(tmp_path / "a.npz", member="q")


def test_a_scipy_sparse_matrix(tmp_path):
    sparse.save_npz(tmp_path / "a.npz", sparse.csc_array(np.eye(3)))
    source = open_source(tmp_path / "a.npz")
    assert source.schema.container == "sparse"
    assert source.read(np.array([2])).tolist() == [[0, 0, 1]]
    with pytest.raises(RequestError, match=r"a\.npz: a sparse matrix is a table"):
        open_source(tmp_path / "a.npz", layout="image")


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), o=np.array([{}], dtype=object))
    with pytest.raises(SourceError, match=r"a\.npz: 'o' holds Python objects, which are never"):
        open_source(tmp_path / "a.npz", member="x")


def test_no_members(tmp_path):
    np.savez(tmp_path / "a.npz")
    with pytest.raises(SourceError, match=r"a\.npz: holds no arrays"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("cut", [10, 200, 600])
def test_truncated(tmp_path, cut):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(20, 5)))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SourceError, match=r"a\.npz: this is not a \.npz file, or it is truncated"):
        open_source(path)


def test_a_flipped_byte(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(20, 5)))
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.npz: this is not a \.npz file, or"):
        open_source(path)


def test_another_file_under_this_name(tmp_path):
    (tmp_path / "a.npz").write_text("hello")
    with pytest.raises(SourceError, match="not a zip file"):
        open_source(tmp_path / "a.npz")
