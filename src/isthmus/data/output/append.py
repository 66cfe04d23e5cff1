"""Writes rows to a file block by block, so that they are never all in memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from isthmus.data.formats.base import Append, NewFile
from isthmus.data.formats.values import collect_blocks
from isthmus.data.output.write import check_holds, check_target, ending, output_format, unwritable
from isthmus.data.schema import Schema
from isthmus.files import replacing


@contextmanager
def appending_rows(
    path: str | Path,
    schema: Schema,
    n_rows: int,
    *,
    row_names: Sequence[str] | None = None,
    force: bool = False,
) -> Iterator[Append]:
    """Yields a function that writes the next block of restored rows; `n_rows` in all.

    The file has the format that the suffix of `path` names. It appears when the `with` block ends,
    and not at all if that raises. Sparse rows for a .npz are kept in memory until the end.

    Raises RequestError if the format cannot hold the rows, SourceError if writing fails.
    """
    target = Path(path)
    chosen = output_format(target)
    check_target(target, chosen)
    check_holds(target, schema)
    stack = ExitStack()
    with unwritable(target):
        fresh = stack.enter_context(replacing(target, folder=chosen.is_folder, force=force))
        file = NewFile(fresh, target, schema, n_rows, row_names)
        opened = (chosen.append or partial(collect_blocks, write=chosen.write))(file)
        append = stack.enter_context(opened)

    def guarded(values: Any) -> None:
        with unwritable(target):
            append(values)

    with ending(stack, target):
        yield guarded
