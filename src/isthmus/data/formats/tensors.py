"""Named tensors in a .safetensors file."""

import json
import math
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from isthmus.data.arrays import tensor_source
from isthmus.data.formats.base import (
    Append,
    Format,
    NewFile,
    Options,
    RowNames,
    choose_member,
    damage_reported,
)
from isthmus.data.formats.values import as_array
from isthmus.data.schema import Schema
from isthmus.data.source import Source

LENGTH, ALIGNED = 8, 8
"""The size of the field with the header's length, and the alignment of values, in bytes."""

MEMBER = "rows"
"""The name of the tensor in a file that is written here."""


def read(path: Path, options: Options) -> Source:
    """A source of the named (or only) tensor."""
    with (
        damage_reported(path, "a .safetensors file", SafetensorError),
        safe_open(path, "pt") as file,
    ):
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        tensor = file.get_tensor(choose_member(path, options.member, shapes))
    return tensor_source(tensor, layout=options.layout, origin=str(path))


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows as one tensor named "rows", in their own dtype."""
    # Not save_file: its own error would hide that the disk is full.
    path.write_bytes(save({MEMBER: as_tensor(path, values, schema)}))


@contextmanager
def append(file: NewFile) -> Generator[Append]:
    """Writes blocks of rows as one tensor."""
    with file.path.open("wb") as stream:
        dtypes: list[torch.dtype] = []

        def append_block(values: Any) -> None:
            tensor = as_tensor(file.target, values, file.schema)
            if not dtypes:
                dtypes.append(tensor.dtype)
                stream.write(_header(tensor, file.n_rows))
            stream.write(_parts(tensor.to(dtypes[0]))[1])

        yield append_block


def as_tensor(path: Path, values: Any, schema: Schema) -> torch.Tensor:
    """The values as a tensor (n, *schema.shape), in their own dtype."""
    tensor: torch.Tensor = values
    if not isinstance(values, torch.Tensor):
        tensor = torch.from_numpy(np.ascontiguousarray(as_array(path, values, schema)))
    return tensor.detach().cpu().contiguous()


def _header(tensor: torch.Tensor, n_rows: int) -> bytes:
    """The start of a file of `n_rows` rows like those of `tensor`: see safetensors' format."""
    header = json.loads(_parts(tensor)[0])
    entry = header[MEMBER]
    size = tensor.element_size() * math.prod(tensor.shape[1:]) * n_rows
    header[MEMBER] = entry | {"shape": [n_rows, *entry["shape"][1:]], "data_offsets": [0, size]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(LENGTH, "little") + text


def _parts(tensor: torch.Tensor) -> tuple[bytes, bytes]:
    """The header and the values of a file, as safetensors writes them."""
    content = save({MEMBER: tensor})
    start = LENGTH + int.from_bytes(content[:LENGTH], "little")
    return content[LENGTH:start], content[start:]


SAFETENSORS = Format(
    suffixes=(".safetensors",),
    read=read,
    write=write,
    append=append,
    understands=frozenset({"member", "layout", "roles"}),
)
