"""Schema: what one row is, and what it must become again after a round trip."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from isthmus.errors import ArtifactError

Layout = Literal["table", "signal", "image"]
Container = Literal["array", "tensor", "sparse", "pandas", "polars", "pyarrow", "images"]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What one row is: its shape, what its axes mean, its dtypes, and what held it."""

    layout: Layout
    """What the axes of a row mean."""

    shape: tuple[int, ...]
    """A row as given: (D,), (T, C), (H, W), (H, W, C), or (C, H, W) when channels are first."""

    dtypes: tuple[str, ...]
    """NumPy's names (for frames, narwhals'): one for all columns, or one a column."""

    container: Container = "array"
    """What to give back: a NumPy array, a torch tensor, a frame, a folder of images, ..."""

    names: tuple[str, ...] | None = None
    """Column names, one a column, or None where columns have none (a CSV without header)."""

    channels_first: bool = False
    """Whether an image row is (C, H, W) rather than (H, W) or (H, W, C)."""

    mode: str | None = None
    """Pillow's mode of the image files ("L", "RGB", ...), or None."""

    natives: tuple[str, ...] | None = None
    """What `dtypes` cannot say: pandas' own names ("Int64"), or "matrix" for SciPy's spmatrix."""

    labels: tuple[Any, ...] | None = None
    """pandas' own column labels where they are not all text (400.5, 401.0, ...), or None."""

    def __post_init__(self) -> None:
        """Make lists read from JSON into the tuples they were."""
        for name in ("shape", "dtypes", "names", "natives", "labels"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))

    @property
    def n_features(self) -> int:
        """Numbers in one row."""
        return int(np.prod(self.shape))

    @property
    def network_shape(self) -> tuple[int, ...]:
        """A row as a network sees it: (D,), (C, T) or (C, H, W)."""
        if self.layout == "signal" and len(self.shape) == 2:
            return (self.shape[1], self.shape[0])
        if self.layout == "signal":
            return (1, *self.shape)
        if self.layout == "table" or self.channels_first:
            return self.shape
        if len(self.shape) == 2:
            return (1, *self.shape)
        height, width, channels = self.shape
        return (channels, height, width)

    def feature_names(self) -> tuple[str, ...]:
        """A name for each number of a row: the column's, or its position ("3", "3,7")."""
        if self.names is not None:
            return self.names
        return tuple(",".join(map(str, index)) for index in np.ndindex(self.shape))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def schema_from_json(written: dict[str, Any]) -> Schema:
    """The schema `Schema.to_json` wrote; ArtifactError where it is not one."""
    try:
        schema = Schema(**written)
        _check(schema)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the model's schema cannot be read: {error}") from error
    return schema


def _check(schema: Schema) -> None:
    axes = {"table": (1,), "signal": (1, 2), "image": (2, 3)}
    if len(schema.shape) not in axes.get(schema.layout, ()):
        raise ValueError(f"layout {schema.layout!r} with shape {schema.shape}")
    if not all(isinstance(side, int) and side > 0 for side in schema.shape):
        raise ValueError(f"shape {schema.shape}")
    if len(schema.dtypes) not in (1, schema.shape[0]):
        raise ValueError(f"{len(schema.dtypes)} dtypes for shape {schema.shape}")
    if schema.names is not None and len(schema.names) != schema.n_features:
        raise ValueError(f"{len(schema.names)} names for shape {schema.shape}")
    if schema.container not in get_args(Container):
        raise ValueError(f"container {schema.container!r}")
    if schema.container in ("array", "sparse", "images"):
        np.dtype(schema.dtypes[0])
