"""Some rows of a source."""

from isthmus.data.arrays import SparseSource
from isthmus.types import Array, Index, Source


class Subset:
    """Some rows of a source, as a source."""

    def __init__(self, source: Source, rows: Index) -> None:
        self.source, self.rows = source, rows
        self.schema, self.origin = source.schema, source.origin
        where = getattr(source, "extents", None)
        self.extents: Index | None = None if where is None else where[rows]

    def __len__(self) -> int:
        """How many rows were chosen."""
        return len(self.rows)

    def read(self, rows: Index) -> Array:
        """The chosen of the chosen rows."""
        return self.source.read(self.rows[rows])


def is_sparse(source: Source) -> bool:
    """Whether rows are those of a sparse matrix, or some of them."""
    while isinstance(source, Subset):
        source = source.source
    return isinstance(source, SparseSource)
