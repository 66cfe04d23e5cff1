"""Checks that the files of a folder hold the same columns, and finds their common types."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.data.columns import listed
from isthmus.data.tables.to_numbers import is_text
from isthmus.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa


def common_schema(schemas: Sequence[tuple[Path, "pa.Schema"]]) -> "pa.Schema":
    """The Arrow schema that the rows of all files fit, with the first file's order of columns.

    Integers of different widths become the widest. Integers and floats together become double
    precision, because missing integers are read as such. A column without any value takes the type
    it has in the other files. Text, and the lists of categories, may be stored in several ways.
    Any other difference raises SourceError, which names the file, the column and both types.
    """
    import pyarrow as pa

    first_path, first = schemas[0]
    types = {field.name: field.type for field in first}
    origins = dict.fromkeys(first.names, first_path)
    for path, schema in schemas[1:]:
        _check_names(first_path, first.names, path, schema.names)
        for field in schema:
            common = _common_type(types[field.name], field.type)
            if common is None:
                raise SourceError(
                    f"{path}: column {field.name!r} is {field.type}, and in "
                    f"{origins[field.name].name} it is {types[field.name]}; write all files of a "
                    "folder with the same types"
                )
            if pa.types.is_null(types[field.name]):
                origins[field.name] = path
            types[field.name] = common
    return pa.schema([pa.field(name, types[name]) for name in first.names], first.metadata)


def _check_names(first: Path, expected: Sequence[str], path: Path, names: Sequence[str]) -> None:
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not those of {first.name}: missing "
            f"{listed(missing) or 'none'}; extra {listed(extra) or 'none'}; write all files of a "
            "folder with the same columns"
        )


def _common_type(left: "pa.DataType", right: "pa.DataType") -> "pa.DataType | None":
    """The type that values of both fit without changing their meaning, or None."""
    import pyarrow as pa

    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if is_text(left) and is_text(right):
        return left
    if pa.types.is_dictionary(left) and pa.types.is_dictionary(right):
        value = _common_type(left.value_type, right.value_type)
        same = value == left.value_type and left.ordered == right.ordered
        index = max(left.index_type, right.index_type, key=lambda kind: kind.bit_width)
        return pa.dictionary(index, value, left.ordered) if same else None
    return _common_number(left, right)


def _common_number(left: "pa.DataType", right: "pa.DataType") -> "pa.DataType | None":
    import pyarrow as pa

    is_integer, is_signed = pa.types.is_integer, pa.types.is_signed_integer
    if not all(is_integer(kind) or pa.types.is_floating(kind) for kind in (left, right)):
        return None
    if is_integer(left) != is_integer(right):
        return pa.float64()
    if is_signed(left) != is_signed(right):
        unsigned = right if is_signed(left) else left
        return pa.int64() if unsigned.bit_width < 64 else None
    return max(left, right, key=lambda kind: kind.bit_width)
