"""Files of safetensors: members, dtypes, and damage."""

import pytest
import torch
from safetensors.torch import save_file

from isthmus.data import open_source
from isthmus.errors import SourceError


def test_tensors_keep_their_dtype(tmp_path):
    save_file({"h": torch.eye(3).bfloat16()}, tmp_path / "a.safetensors")
    schema = open_source(tmp_path / "a.safetensors").schema
    assert (schema.container, schema.dtypes) == ("tensor", ("bfloat16",))


def test_members_are_chosen_by_name(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}, tmp_path / "t.safetensors")
    assert open_source(f"{tmp_path}/t.safetensors:b").schema.shape == (4,)
    with pytest.raises(SourceError, match=r"holds 2 arrays: 'a' \(2, 3\), 'b' \(2, 4\)"):
        open_source(tmp_path / "t.safetensors")


@pytest.mark.parametrize("content", [b"hello", None])
def test_damaged(tmp_path, content):
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.zeros(20, 3)}, path)
    path.write_bytes(content or path.read_bytes()[:-5])
    with pytest.raises(SourceError, match=r"t\.safetensors: this is not a \.safetensors file, or"):
        open_source(path)
