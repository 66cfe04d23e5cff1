"""Read and write recordings: one per file, several in a folder or in one .npz."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.data.arrays import ArraySource
from isthmus.data.formats import format_of, recording_suffixes
from isthmus.data.formats.npy import NPY
from isthmus.data.formats.npz import NPZ, member_names, write_members
from isthmus.data.formats.values import as_array
from isthmus.data.open import open_source, split_member
from isthmus.data.output.write import check_replaceable, write_rows
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import (
    Recordings,
    recordings_from_data,
    recordings_from_sources,
)
from isthmus.data.source import Source
from isthmus.errors import RequestError, SourceError
from isthmus.files import replacing

(ARCHIVE,), (DEFAULT_SUFFIX,) = NPZ.suffixes, NPY.suffixes
"""The suffix of a file that holds several recordings, and that of one whose name has none."""


def open_recordings(data: object, **options: Any) -> Recordings:
    """Recordings from memory, a file, or a folder of files; `options` are `open_source`'s."""
    if not isinstance(data, (str, os.PathLike)):
        return recordings_from_data(data)
    path, member = split_member(str(os.fspath(data)))
    if path.is_dir():
        texts = [str(file) for file in _files(path)]
        return recordings_from_sources(
            [_open(text, options) for text in texts], single=False, origin=str(path)
        )
    members = None if member or options.get("member") else member_names(path)
    if members is not None and len(members) > 1:
        texts = [f"{path}:{name}" for name in members]
        return recordings_from_sources(
            [_open(text, options) for text in texts], single=False, origin=str(path)
        )
    return recordings_from_sources([_open(str(data), options)], single=True, origin=str(path))


def names_of(given: Recordings) -> list[str]:
    """The name of each recording: its archive member or its file, or else its number."""
    names = []
    for number, part in enumerate(given.parts):
        path, member = split_member(part.origin)
        names.append(member or (path.name if path.exists() else str(number)))
    return names


def check_output(path: Path, *, several: bool) -> None:
    """Raise RequestError if `path` cannot hold one recording, or several.

    A folder that holds anything except recordings is not replaced.
    """
    suffix = path.suffix.lower()
    if several and not suffix:
        check_replaceable(path, recording_suffixes(), "recording")
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
    """Write one recording to a file, or a list of them to a folder or a .npz, all or nothing.

    `schemas` describe the samples of each recording. In a folder each becomes a file with its name,
    .npy if that has no suffix.
    """
    check_output(path, several=isinstance(recordings, list))
    if not isinstance(recordings, list):
        _write(path, recordings, schemas[0], force=force)
    elif path.suffix.lower() == ARCHIVE:
        keys = _keys(names)
        _check_names(path, keys)
        arrays = [
            as_array(path, recording, _as_stored(recording, schema))
            for recording, schema in zip(recordings, schemas, strict=True)
        ]
        with replacing(path, force=force) as fresh:
            write_members(fresh, dict(zip(keys, arrays, strict=True)))
    else:
        files = [_file_name(name) for name in names]
        _check_names(path, files)
        with replacing(path, folder=True, force=force) as fresh:
            for name, recording, schema in zip(files, recordings, schemas, strict=True):
                _write(fresh / name, recording, schema)


def _write(path: Path, recording: Any, schema: Schema, *, force: bool = False) -> None:
    chosen = format_of(path)
    if getattr(recording, "ndim", 2) == 1 and chosen is not None and chosen.holds_text:
        recording = recording[:, None]
    write_rows(path, recording, _as_stored(recording, schema), force=force)


def _as_stored(recording: Any, schema: Schema) -> Schema:
    """The schema of the samples of a recording, which may have no axis of channels."""
    return replace(schema, shape=()) if getattr(recording, "ndim", 2) == 1 else schema


def _keys(names: Sequence[str]) -> list[str]:
    """File names without their suffix, unless two of them would then be equal."""
    plain = [_without_suffix(name) for name in names]
    return plain if len(set(plain)) == len(plain) else list(names)


def _without_suffix(name: str) -> str:
    """The name without the suffix of a recording file, if it has one."""
    suffix = next((s for s in recording_suffixes() if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)] or name


def _file_name(name: str) -> str:
    plain = Path(name).name
    return plain if plain.lower().endswith(recording_suffixes()) else plain + DEFAULT_SUFFIX


def _check_names(path: Path, names: Sequence[str]) -> None:
    duplicates = [name for name in names if list(names).count(name) > 1]
    if duplicates:
        raise RequestError(
            f"{path}: two recordings are called {duplicates[0]!r}; rename one of them"
        )


def _open(text: str, options: Mapping[str, Any]) -> Source:
    source = open_source(text, **{**options, "layout": "table"})
    if isinstance(source, ArraySource) and split_member(text)[1] is not None:
        source.origin = text
    return source


def _files(folder: Path) -> list[Path]:
    """The recording files in a folder, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    suffixes = recording_suffixes()
    recordings = [path for path in files if path.name.lower().endswith(suffixes)]
    if not recordings:
        raise SourceError(
            f"{folder}: there is no recording in this folder; give one that holds "
            f"{', '.join(suffixes)} files with time down and channels across"
        )
    others = [path.name for path in files if path not in recordings]
    if others:
        raise SourceError(
            f"{folder}: holds {others[0]}, which is not a recording; move it elsewhere, or give a "
            f"folder of {', '.join(suffixes)} files alone"
        )
    return recordings
