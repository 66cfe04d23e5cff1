"""The base class of all sources: rows of numbers and what is known about them."""

from isthmus.data.row_numbers import NO_ROWS
from isthmus.data.schema import Schema
from isthmus.types import Array, Index


class Source:
    """Rows of numbers in memory, in a file or in a folder.

    A subclass sets `schema` and `origin` and defines `__len__` and `read`; the other members have
    defaults. Models take a source in place of an array.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import Schema, Source
        >>> class Ramp(Source):
        ...     schema = Schema(layout="table", shape=(2,), dtypes=("float64",))
        ...     origin = "a ramp"
        ...     def __len__(self):
        ...         return 100
        ...     def read(self, rows):
        ...         return np.stack([rows, 2.0 * rows], axis=1)
        >>> Ramp().read(np.array([3, 4])).tolist()
        [[3.0, 6.0], [4.0, 8.0]]
    """

    schema: Schema
    """Shape, names, dtypes and container of one row."""

    origin: str
    """What messages call these rows: the file's path, or "X"."""

    extents: Index | None = None
    """(n, 3): recording, first sample and end of each row, if rows are cut from recordings."""

    parts: tuple["Source", ...] = ()
    """The recordings that the rows are cut from, each a source of its samples."""

    flat: bool = False
    """Whether the data have no axis besides the rows, each of which is one number."""

    first_row: int = 0
    """What a message adds to a row's number."""

    row_names: tuple[str, ...] | None = None
    """(n,): the name of each row, such as that of its image file."""

    remarks: tuple[str, ...] = ()
    """How the rows were understood, one line each."""

    unknown_values: tuple[str, ...] = ()
    """One line for each column with values that the model does not know; they are missing."""

    extra_columns: tuple[str, ...] = ()
    """Columns of the file that the model it is read for does not have; they are left out."""

    is_sparse: bool = False
    """Whether the rows are those of a sparse matrix, made dense as they are read."""

    is_streamed: bool = False
    """Whether the rows stay on disk and are read in chunks."""

    reads_disk: bool = False
    """Whether `read` reads a streamed source, this one or the one it is a view of."""

    cached_rows: Index = NO_ROWS
    """The rows of a streamed source that `cache_rows` keeps in memory, ascending."""

    def __len__(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def read(self, rows: Index) -> Array:
        """The chosen rows as a dense (len(rows), *schema.shape) array, in their own dtype."""
        raise NotImplementedError

    def view(self, rows: Index) -> Array:
        """What `read` gives, for reading only: it may share memory with the source."""
        return self.read(rows)

    def cache_rows(self, rows: Index) -> None:
        """Keep these rows in memory if the source is streamed."""


class SourceView(Source):
    """A source that reads another one and gives its rows in another form."""

    def __init__(self, source: Source, schema: Schema | None = None) -> None:
        self.source = source
        self.schema = source.schema if schema is None else schema
        self.origin, self.reads_disk = source.origin, source.reads_disk

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.source)


class Subset(SourceView):
    """Some rows of a source."""

    def __init__(self, source: Source, rows: Index) -> None:
        super().__init__(source)
        self.rows, self.is_sparse = rows, source.is_sparse
        self.extents = None if source.extents is None else source.extents[rows]

    def __len__(self) -> int:
        """How many rows were chosen."""
        return len(self.rows)

    def read(self, rows: Index) -> Array:
        """The chosen rows of the subset."""
        return self.source.read(self.rows[rows])
