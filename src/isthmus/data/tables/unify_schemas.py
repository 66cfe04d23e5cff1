"""Do the files of a folder hold the same columns, and of which types are they together?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.columns import listed
from isthmus.data.tables.to_numbers import is_text
from isthmus.errors import SourceError


def common_schema(found: Sequence[tuple[Path, Any]]) -> Any:
    """The Arrow schema that the rows of all files fit, in the order of the first one's columns.

    Whole numbers of different widths become the wider ones, whole numbers beside floating-point
    ones become double precision, as gaps make them; a column without any value takes the type of
    the others, and text or the lists of categories may be stored in several ways. Everything else
    that differs raises SourceError, naming file, column and both types.
    """
    import pyarrow as pa

    first_path, first = found[0]
    types, told = {one.name: one.type for one in first}, dict.fromkeys(first.names, first_path)
    for path, schema in found[1:]:
        _check_names(first_path, first.names, path, schema.names)
        for one in schema:
            together = _common(types[one.name], one.type)
            if together is None:
                raise SourceError(
                    f"{path}: column {one.name!r} is {one.type}, and in {told[one.name].name} it "
                    f"is {types[one.name]}; write all files of a folder with the same types"
                )
            if pa.types.is_null(types[one.name]):
                told[one.name] = path
            types[one.name] = together
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


def _common(one: Any, other: Any) -> Any:
    """The type that values of both fit, None where there is none that means the same."""
    import pyarrow as pa

    kinds = pa.types
    if one == other or kinds.is_null(other):
        return one
    if kinds.is_null(one):
        return other
    if is_text(one) and is_text(other):
        return one
    if kinds.is_dictionary(one) and kinds.is_dictionary(other):
        value = _common(one.value_type, other.value_type)
        same = value == one.value_type and one.ordered == other.ordered
        index = max(one.index_type, other.index_type, key=lambda index: index.bit_width)
        return pa.dictionary(index, value, one.ordered) if same else None
    return _common_number(one, other)


def _common_number(one: Any, other: Any) -> Any:
    import pyarrow as pa

    kinds = pa.types
    numbers = [kinds.is_integer(kind) or kinds.is_floating(kind) for kind in (one, other)]
    if not all(numbers):
        return None
    if kinds.is_integer(one) != kinds.is_integer(other):
        return pa.float64()
    if kinds.is_signed_integer(one) != kinds.is_signed_integer(other):
        unsigned = one if kinds.is_unsigned_integer(one) else other
        return pa.int64() if unsigned.bit_width < 64 else None
    return max(one, other, key=lambda kind: kind.bit_width)
