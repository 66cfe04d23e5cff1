"""Named tensors in a .safetensors file."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from isthmus.data.arrays import tensor_source
from isthmus.data.formats.base import Format, Options, RowNames, choose_member, damaged, ends_with
from isthmus.data.formats.values import as_array
from isthmus.data.schema import Schema
from isthmus.types import Source

MEMBER = "rows"
"""What the tensor is called in a file written here."""


def read(path: Path, options: Options) -> Source:
    """The tensor named (or the only one)."""
    with damaged(path, "a .safetensors file", SafetensorError), safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        tensor = file.get_tensor(choose_member(path, options.member, shapes))
    return tensor_source(tensor, layout=options.layout, origin=str(path))


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows as one tensor named "rows", in their own dtype."""
    tensor = values
    if not isinstance(values, torch.Tensor):
        tensor = torch.from_numpy(np.ascontiguousarray(as_array(path, values, schema)))
    # Not save_file: it hides a full disk behind an error of its own.
    path.write_bytes(save({MEMBER: tensor.detach().cpu().contiguous()}))


SAFETENSORS = Format(
    ends_with(".safetensors"), read, write, frozenset({"member", "layout", "roles"})
)
