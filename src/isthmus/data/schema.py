"""Schema: the shape, names, dtypes and container of one row, restored after a round trip."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from isthmus.data.columns import Column
from isthmus.errors import ArtifactError

Layout = Literal["table", "signal", "image"]
Container = Literal["array", "tensor", "sparse", "pandas", "polars", "pyarrow", "images"]

FRAMES = ("pandas", "polars", "pyarrow")
FRAME_DTYPE = re.compile(
    r"U?Int(8|16|32|64|128)|Float(16|32|64)|Boolean|Object|Decimal\(precision=\d+, scale=-?\d+\)"
    r"|String|Categorical|Enum|Date|Datetime\(time_unit='(s|ms|us|ns)', time_zone=(None|'[^']+')\)"
    r"|Duration\(time_unit='(s|ms|us|ns)'\)"
)
ARROW_NUMBER = r"u?int(8|16|32|64)|halffloat|float|double|bool|decimal\d+\(\d+, -?\d+\)"
ARROW_OTHER = (
    r"null|string|large_string|string_view|date32\[day\]|date64\[ms\]|duration\[(s|ms|us|ns)\]"
    r"|timestamp\[(s|ms|us|ns)(, tz=[^\]]+)?\]"
)
DICTIONARY = (
    rf"dictionary<values=({ARROW_NUMBER}|{ARROW_OTHER}), indices=u?int(8|16|32|64), ordered=[01]>"
)
PYARROW_TYPE = re.compile(f"{ARROW_NUMBER}|{ARROW_OTHER}|{DICTIONARY}")
PANDAS_NUMBER = re.compile(
    rf"U?Int(8|16|32|64)|Float(32|64)|boolean|object|({ARROW_NUMBER})\[pyarrow\]"
)
PANDAS_OTHER = re.compile(
    r"category|str|string(\[\w+\])?|datetime64\[(s|ms|us|ns)(, [^\]]+)?\]"
    rf"|timedelta64\[(s|ms|us|ns)\]|({ARROW_OTHER}|{DICTIONARY})\[pyarrow\]"
)
"""dtypes of columns that are not numbers."""

NUMPY_TYPE = re.compile(
    rf"bool(ean)?|object|str|string(\[(python|pyarrow)\])?|(U?Int|u?int)(8|16|32|64)|Float(32|64)"
    rf"|float(16|32|64)|datetime64\[\w+(, [^\]]+)?\]|timedelta64\[\w+\]"
    rf"|(u?int(8|16|32|64)|halffloat|float|double|bool|{ARROW_OTHER})\[pyarrow\]"
)
"""Names of dtypes that pandas writes into Parquet files, and can read again."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The recordings that rows were cut from, with time down and channels across."""

    sample: "Schema"
    """One sample of a recording: a row (C,) of a table of numbers."""

    flat: bool = False
    """Whether a recording has no axis of channels: (time,) rather than (time, C)."""

    hop: int | None = None
    """Samples from the beginning of one window to that of the next; None if a row is a whole
    series, padded with missing values to the length of the longest."""

    def __post_init__(self) -> None:
        """Turn a sample read from JSON back into a schema."""
        if isinstance(self.sample, dict):
            object.__setattr__(self, "sample", Schema(**self.sample))


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The shape, axes, dtypes and container of one row, so that it can be restored.

    Every source and every fitted model has one.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import open_source
        >>> schema = open_source(np.zeros((10, 3))).schema
        >>> schema.layout, schema.shape, schema.dtypes, schema.n_features
        ('table', (3,), ('float64',), 3)
    """

    layout: Layout
    """What the axes of a row mean."""

    shape: tuple[int, ...]
    """A row as given: (D,), (T, C), (H, W), (H, W, C), or (C, H, W) if channels are first."""

    dtypes: tuple[str, ...]
    """NumPy's names (for frames, narwhals'): one for all columns, or one per column."""

    container: Container = "array"
    """What to return: a NumPy array, a torch tensor, a frame, a folder of images, ..."""

    names: tuple[str, ...] | None = None
    """The column names, or None if columns have none (a CSV without header)."""

    channels_first: bool = False
    """Whether an image row is (C, H, W) rather than (H, W) or (H, W, C)."""

    mode: str | None = None
    """Pillow's mode of the image files ("L", "RGB", ...), or None."""

    natives: tuple[str, ...] | None = None
    """Names that `dtypes` cannot hold: pandas' own ("Int64"), or "matrix" for SciPy's spmatrix."""

    numpy_types: tuple[str, ...] | None = None
    """The dtype of each column in the pandas that wrote an Arrow table ("Int64"), "" if unknown;
    None if pandas did not write it."""

    labels: tuple[Any, ...] | None = None
    """pandas' column labels if they are not all text (400.5, 401.0, ...), or None."""

    columns: tuple[Column, ...] | None = None
    """What each column means, or None if all are numbers or booleans."""

    given: tuple[str, ...] | None = None
    """The names of all columns, if some that identify rows were left out."""

    recording: Recording | None = None
    """The recordings that the rows were cut from, or None if rows were given one by one."""

    def __post_init__(self) -> None:
        """Turn lists read from JSON back into tuples."""
        for name in ("shape", "dtypes", "names", "natives", "numpy_types", "labels", "given"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.columns is not None:
            columns = (Column(**c) if isinstance(c, dict) else c for c in self.columns)
            object.__setattr__(self, "columns", tuple(columns))
        if isinstance(self.recording, dict):
            object.__setattr__(self, "recording", Recording(**self.recording))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the columns that were left out."""
        names = set(self.names or ())
        return tuple(name for name in self.given or () if name not in names)

    @property
    def n_features(self) -> int:
        """Numbers in one row."""
        return int(np.prod(self.shape))

    @property
    def network_shape(self) -> tuple[int, ...]:
        """The shape of a row for a network: (D,), (C, T) or (C, H, W)."""
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
        channels = self.recording and self.recording.sample.names
        if channels and len(self.shape) == 2:
            return tuple(f"{time},{name}" for time in range(self.shape[0]) for name in channels)
        return tuple(",".join(map(str, index)) for index in np.ndindex(self.shape))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def schema_from_json(written: dict[str, Any]) -> Schema:
    """The schema that `Schema.to_json` wrote; ArtifactError if it is not one."""
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
    if not all(type(side) is int and side > 0 for side in schema.shape):
        raise ValueError(f"shape {schema.shape}")
    if schema.container not in get_args(Container):
        raise ValueError(f"container {schema.container!r}")
    if schema.container in ("sparse", *FRAMES) and len(schema.shape) != 1:
        raise ValueError(f"container {schema.container!r} with shape {schema.shape}")
    _check_image(schema)
    _check_dtypes(schema)
    _check_names(schema)
    _check_natives(schema)
    _check_numpy_types(schema)
    _check_columns(schema)
    _check_recording(schema)


def _check_image(schema: Schema) -> None:
    first, mode = schema.channels_first, schema.mode
    axes = (schema.layout, len(schema.shape))
    if not isinstance(first, bool) or (first and axes != ("image", 3)):
        raise ValueError(f"channels_first {first!r} with shape {schema.shape}")
    if not (mode is None or isinstance(mode, str)):
        raise ValueError(f"mode {mode!r}")


def _check_dtypes(schema: Schema) -> None:
    if len(schema.dtypes) not in (1, schema.shape[0]):
        raise ValueError(f"{len(schema.dtypes)} dtypes for shape {schema.shape}")
    for dtype in schema.dtypes:
        if not (isinstance(dtype, str) and _is_dtype(dtype, schema.container)):
            raise ValueError(f"dtype {dtype!r} with container {schema.container!r}")


def _is_dtype(name: str, container: Container) -> bool:
    if container in FRAMES:
        return FRAME_DTYPE.fullmatch(name) is not None
    return (_is_tensor_dtype if container == "tensor" else _is_numeric)(name)


def _is_numeric(name: str) -> bool:
    try:
        return np.dtype(name).kind in "biuf"
    except (SyntaxError, TypeError, ValueError):
        return False


def _is_tensor_dtype(name: str) -> bool:
    import torch

    if not isinstance(getattr(torch, name, None), torch.dtype):
        return False
    return name.startswith(("bfloat", "float8")) or _is_numeric(name)


def _check_names(schema: Schema) -> None:
    for field, kinds in (("names", (str,)), ("labels", (str, int, float))):
        values = getattr(schema, field)
        if values is None:
            continue
        if len(values) != schema.n_features:
            raise ValueError(f"{len(values)} {field} for shape {schema.shape}")
        refused = [value for value in values if not isinstance(value, kinds)]
        if refused:
            raise ValueError(f"{refused[0]!r} among the {field}")
    if schema.labels is not None and schema.container != "pandas":
        raise ValueError(f"labels with container {schema.container!r}")
    if schema.container in FRAMES and len(set(schema.names or ())) < len(schema.names or ()):
        raise ValueError("several columns of one name")


def _check_natives(schema: Schema) -> None:
    natives = schema.natives
    if natives is None or (schema.container == "sparse" and natives == ("matrix",)):
        return
    if schema.container not in ("pandas", "pyarrow") or len(natives) != schema.n_features:
        raise ValueError(
            f"{len(natives)} natives for container {schema.container!r} and shape {schema.shape}"
        )
    for native in natives:
        if not (isinstance(native, str) and _is_native(native, schema)):
            raise ValueError(f"native {native!r}")


def _check_numpy_types(schema: Schema) -> None:
    types = schema.numpy_types
    if types is None:
        return
    if schema.container != "pyarrow" or len(types) != schema.n_features:
        raise ValueError(
            f"{len(types)} numpy_types for container {schema.container!r} and shape {schema.shape}"
        )
    for name in types:
        if not (isinstance(name, str) and (name == "" or NUMPY_TYPE.fullmatch(name))):
            raise ValueError(f"numpy_type {name!r}")


def _check_columns(schema: Schema) -> None:
    columns = schema.columns
    if columns is None:
        return
    numbers = all(column.role in ("numeric", "boolean", "count") for column in columns)
    fits = schema.container in FRAMES or (numbers and schema.layout == "table")
    if not fits or len(columns) != schema.n_features:
        raise ValueError(
            f"{len(columns)} columns for container {schema.container!r} and shape {schema.shape}"
        )
    for column in columns:
        column.check()


def _check_recording(schema: Schema) -> None:
    recording = schema.recording
    if recording is None:
        return
    sample, hop = recording.sample, recording.hop
    _check(sample)
    if schema.layout != "signal" or sample.layout != "table" or sample.columns is not None:
        raise ValueError(f"layout {schema.layout!r} cut from rows of kind {sample.layout!r}")
    if type(recording.flat) is not bool or schema.shape[1:] != (
        () if recording.flat else sample.shape
    ):
        raise ValueError(f"shape {schema.shape} cut from recordings of {sample.shape} channels")
    if hop is not None and not (type(hop) is int and 1 <= hop <= schema.shape[0]):
        raise ValueError(f"hop {hop!r} with windows of {schema.shape[0]} samples")


def _is_native(name: str, schema: Schema) -> bool:
    if schema.container == "pyarrow":
        return PYARROW_TYPE.fullmatch(name) is not None
    sparse = re.fullmatch(r"Sparse\[([^\[,]+)(,.*)?\]", name)
    if sparse is not None:
        return _is_numeric(sparse[1])
    if schema.columns is not None and PANDAS_OTHER.fullmatch(name):
        return True
    return PANDAS_NUMBER.fullmatch(name) is not None or _is_numeric(name)
