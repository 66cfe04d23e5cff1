"""Named NumPy arrays, or one SciPy sparse matrix, in a .npz file."""

import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from scipy import sparse

from isthmus.data.arrays import array_source, is_sparse, sparse_source
from isthmus.data.formats.base import (
    Append,
    Format,
    NewFile,
    Options,
    RowNames,
    choose_member,
    damage_reported,
)
from isthmus.data.formats.values import append_array, as_array, collect_blocks
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array

BROKEN = (zipfile.BadZipFile, ValueError, OSError, RuntimeError, TokenError)
"""The errors of zipfile and NumPy for a damaged, encrypted or unsupported file."""

SPARSE = {"format", "shape", "data"}

MEMBER = "rows"
"""The name of the array in a file that is written here."""


def read(path: Path, options: Options) -> Source:
    """A source of the named (or only) member, or of the matrix of scipy.sparse.save_npz."""
    with damage_reported(path, "a .npz file", *BROKEN):
        members = shapes(path)
        if members.keys() >= SPARSE:
            return _sparse(path, options)
        member = choose_member(path, options.member, members)
        values = read_member(path, member)
    return array_source(values, layout=options.layout, origin=str(path))


def member_names(path: Path) -> list[str] | None:
    """The names of the arrays in a .npz file, in their order; None for another file."""
    if not NPZ.matches(path) or not path.is_file():
        return None
    with damage_reported(path, "a .npz file", *BROKEN):
        return list(shapes(path))


def read_member(path: Path, member: str) -> Array:
    """The array of this name; np.load would read "a.npy" for "a" if the file has both."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array in the file, by name."""
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): _shape(path, archive, name)
            for name in archive.namelist()
            if name.endswith(".npy")
        }


def _sparse(path: Path, options: Options) -> Source:
    if options.layout not in (None, "table"):
        raise RequestError(f"{path}: a sparse matrix is a table; leave layout out")
    return sparse_source(sparse.load_npz(path), origin=str(path))


def _shape(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    if dtype.hasobject:
        raise SourceError(
            f"{path}: {name.removesuffix('.npy')!r} holds Python objects, which are never loaded "
            "because that can run code; save it again as numbers with .astype(float)"
        )
    return shape


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows as one member named "rows"; a sparse matrix as scipy.sparse.save_npz does."""
    with path.open("wb") as file:
        if is_sparse(values):
            sparse.save_npz(file, values)
        else:
            np.savez_compressed(file, rows=as_array(path, values, schema))


@contextmanager
def append(file: NewFile) -> Generator[Append]:
    """Writes blocks of rows as one member; SciPy writes a sparse matrix only as a whole."""
    if file.schema.container == "sparse":
        with collect_blocks(file, write) as append_block:
            yield append_block
        return
    with (
        zipfile.ZipFile(file.path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{MEMBER}.npy", "w", force_zip64=True) as stream,
    ):
        yield append_array(stream, file)


def write_members(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes a file as np.savez_compressed does, which rejects some names of arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def read_array(path: Path, member: str | None) -> Array:
    """The member of this name, or the only one, of any dtype but objects."""
    with damage_reported(path, "a .npz file", zipfile.BadZipFile, ValueError, OSError):
        return read_member(path, choose_member(path, member, shapes(path)))


NPZ = Format(
    suffixes=(".npz",),
    read=read,
    write=write,
    append=append,
    understands=frozenset({"member", "layout", "roles"}),
    read_array=read_array,
)
