"""Recordings in files: one a file, several in a folder or in one .npz; read, named and written."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.arrays import ArraySource
from isthmus.data.formats.npz import member_names
from isthmus.data.formats.values import as_array
from isthmus.data.open import open_source, split_member
from isthmus.data.output.write import check_replaceable, write_rows
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import Recordings, opened_as, recordings_of
from isthmus.errors import RequestError, SourceError
from isthmus.files import replacing
from isthmus.types import Array, Source

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet", ".pq", ".safetensors")
TABLES = (".csv", ".tsv", ".parquet", ".pq")
ARCHIVE, UNLESS_NAMED = ".npz", ".npy"
"""The suffix of a file that holds several, and that of one whose name has none."""


def open_recordings(data: Any, **options: Any) -> Recordings:
    """Recordings from memory, a file, or a folder of files; `options` are `open_source`'s."""
    if not isinstance(data, (str, os.PathLike)):
        return recordings_of(data)
    path, member = split_member(str(os.fspath(data)))
    if path.is_dir():
        places = [str(file) for file in _files(path)]
        return opened_as([_open(one, options) for one in places], single=False, origin=str(path))
    members = None if member or options.get("member") else member_names(path)
    if members is not None and len(members) > 1:
        places = [f"{path}:{name}" for name in members]
        return opened_as([_open(one, options) for one in places], single=False, origin=str(path))
    return opened_as([_open(str(data), options)], single=True, origin=str(path))


def names_of(given: Recordings) -> list[str]:
    """What each recording is called: its file's name or its member's, or else its number."""
    names = []
    for place, part in enumerate(given.parts):
        path, member = split_member(part.origin)
        names.append(member or (path.name if path.exists() else str(place)))
    return names


def check_output(path: Path, *, several: bool) -> None:
    """Raise RequestError where `path` cannot hold one recording, or several.

    A folder that holds anything but recordings is not replaced.
    """
    suffix = path.suffix.lower()
    if several and not suffix:
        check_replaceable(path, SUFFIXES, "recording")
    if several and suffix not in ("", ARCHIVE):
        raise RequestError(
            f"{path}: holds one recording, and there are several; give a name without a suffix, "
            f"for a folder of them, or one that ends in {ARCHIVE}"
        )
    if not several and not suffix:
        raise RequestError(f"{path}: has no suffix; give one, such as .npy, .csv or .parquet")


def write_recordings(
    path: Path,
    recordings: Any,
    schemas: Sequence[Schema],
    *,
    names: Sequence[str],
    force: bool = False,
) -> None:
    """Writes one recording to a file, or a list of them to a folder or a .npz, whole or not at all.

    `schemas` are those of their samples; in a folder each is a file of the name it has, or .npy.
    """
    check_output(path, several=isinstance(recordings, list))
    if not isinstance(recordings, list):
        _write(path, recordings, schemas[0], force=force)
    elif path.suffix.lower() == ARCHIVE:
        keys = _keys(names)
        _check_names(path, keys)
        arrays = [
            as_array(path, one, _as_stored(one, schema))
            for one, schema in zip(recordings, schemas, strict=True)
        ]
        with replacing(path, force=force) as fresh:
            _write_archive(fresh, dict(zip(keys, arrays, strict=True)))
    else:
        files = [_file_name(name) for name in names]
        _check_names(path, files)
        with replacing(path, folder=True, force=force) as fresh:
            for name, one, schema in zip(files, recordings, schemas, strict=True):
                _write(fresh / name, one, schema)


def _write(path: Path, recording: Any, schema: Schema, *, force: bool = False) -> None:
    if getattr(recording, "ndim", 2) == 1 and path.suffix.lower() in TABLES:
        recording = recording[:, None]
    write_rows(path, recording, _as_stored(recording, schema), force=force)


def _write_archive(path: Path, arrays: Mapping[str, Array]) -> None:
    """What np.savez_compressed writes, which takes some names for arguments of its own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _as_stored(recording: Any, schema: Schema) -> Schema:
    """The schema of the samples of a recording that may have no axis of channels."""
    return replace(schema, shape=()) if getattr(recording, "ndim", 2) == 1 else schema


def _keys(names: Sequence[str]) -> list[str]:
    """Names of files without their suffix, unless two of them would be the same then."""
    plain = [_without_suffix(name) for name in names]
    return plain if len(set(plain)) == len(plain) else list(names)


def _without_suffix(name: str) -> str:
    """The name without the suffix of a file of recordings; a dot alone does not make one."""
    suffix = next((one for one in SUFFIXES if name.lower().endswith(one)), "")
    return name[: len(name) - len(suffix)] or name


def _file_name(name: str) -> str:
    plain = Path(name).name
    return plain if plain.lower().endswith(SUFFIXES) else plain + UNLESS_NAMED


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise RequestError(f"{path}: two recordings are called {twice[0]!r}; rename one of them")


def _open(text: str, options: Mapping[str, Any]) -> Source:
    source = open_source(text, **{**options, "layout": "table"})
    if isinstance(source, ArraySource) and split_member(text)[1] is not None:
        source.origin = text
    return source


def _files(folder: Path) -> list[Path]:
    """The recordings in a folder, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    known = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    if not known:
        raise SourceError(
            f"{folder}: there is no recording in this folder; give one that holds "
            f"{', '.join(SUFFIXES)} files with time down and channels across"
        )
    odd = [path.name for path in files if path not in known]
    if odd:
        raise SourceError(
            f"{folder}: holds {odd[0]}, which is no recording; move it elsewhere, or give a folder "
            f"of {', '.join(SUFFIXES)} files alone"
        )
    return known
