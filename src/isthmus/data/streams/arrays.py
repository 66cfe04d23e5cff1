"""An array on disk, read a piece at a time; memory maps would count as memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isthmus.data.schema import Schema
from isthmus.data.streams.blocks import Blocks, Stamp
from isthmus.types import Array

PIECE_BYTES = 1 << 20
"""Rows that are read together: few, so that those of a window come from many places."""


class NpyBlocks(Blocks):
    """Rows of an array in a .npy file, whose first row is at byte `offset`."""

    def __init__(self, path: Path, schema: Schema, values: np.memmap) -> None:  # type: ignore[type-arg]
        self.stamp, self.stored, self.offset = Stamp.of(path), values.dtype, values.offset
        rows = max(1, PIECE_BYTES // max(schema.n_features * self.stored.itemsize, 1))
        bounds = np.append(np.arange(0, len(values), rows), len(values))
        super().__init__(schema, str(path), bounds, self.stored.newbyteorder("="))

    def _chunks(self, group: int) -> Iterator[Array]:
        self.stamp.check()
        with self.stamp.path.open("rb") as file:
            for start in range(int(self.bounds[group]), int(self.bounds[group + 1]), self.step):
                stop = min(start + self.step, int(self.bounds[group + 1]))
                size = self.schema.n_features
                file.seek(self.offset + start * size * self.stored.itemsize)
                found = np.fromfile(file, self.stored, (stop - start) * size)
                if len(found) < (stop - start) * size:
                    self.stamp.check()
                rows = found[: len(found) // size * size].reshape(-1, *self.schema.shape)
                yield rows.astype(self.dtype, copy=False)
