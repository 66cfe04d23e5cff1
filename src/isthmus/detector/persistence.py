"""The folder of a saved detector: model folders of its autoencoders, and the memories' tensors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize

from isthmus import artifact
from isthmus.detector.fit import FittedDetector
from isthmus.detector.member import EnsembleMember
from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import TrainingWindows
from isthmus.errors import ArtifactError, RequestError, either
from isthmus.estimator import Autoencoder
from isthmus.estimator import load as load_autoencoder
from isthmus.files import replacing
from isthmus.spec import Spec, to_plain
from isthmus.types import Array

FORMAT = 2
DETECTOR, TENSORS, ESTIMATOR = artifact.DETECTOR, "memory.safetensors", "estimator-{}"

# Names of tensors; the numbers are those of a member and of its memories.
TRAIN_ROWS, TRAIN_SCORES, INLIER_MASK = "train_rows", "train_scores", "inlier_mask"
HELD_OUT_ROWS, HELD_OUT_SCORES = "held_out_rows", "held_out_scores"
MEMORY, MEMORY_EXTENTS, COLUMN_SCALE = "memory-{}-{}", "memory_extents-{}-{}", "column_scale-{}"
WINDOW_HASHES, WINDOW_EXTENTS = "window_hashes", "window_extents"


@dataclass(frozen=True, kw_only=True)
class SavedDetector:
    """The contents of a detector's folder."""

    settings: dict[str, Any]
    """The constructor's arguments except `autoencoder`."""

    default_autoencoder: bool
    """Whether no `autoencoder` was given."""

    n_features_in: int
    fitted: FittedDetector


def save(detector: SavedDetector, folder: str | Path, *, force: bool = True) -> None:
    """Write the folder of a detector under a temporary name and rename it; no pickle.

    Raises RequestError if `folder` exists and `force` is False, or if it holds something else.
    """
    target, members = Path(folder), detector.fitted.members
    check_target(target, force=force)
    header = {
        "format": FORMAT,
        "versions": artifact.versions(),
        "settings": {name: _setting(value) for name, value in detector.settings.items()},
        "default_autoencoder": detector.default_autoencoder,
        "memories": [len(member.memories) for member in members],
        "n_features_in": detector.n_features_in,
    }
    tensors = {
        name: torch.from_numpy(values).contiguous()
        for name, values in _arrays(detector.fitted).items()
    }
    with replacing(target, folder=True, force=force) as fresh:
        for number, member in enumerate(members):
            member.autoencoder.save(fresh / ESTIMATOR.format(number))
        (fresh / TENSORS).write_bytes(serialize(tensors))
        (fresh / DETECTOR).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def read(folder: str | Path, *, device: str, specs: Sequence[type[Spec]]) -> SavedDetector:
    """The contents of the folder that `save` wrote; call it within `artifact_errors`."""
    path = Path(folder)
    header = _read_header(path / DETECTOR)
    tensors = deserialize((path / TENSORS).read_bytes())
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    windows = None
    if WINDOW_HASHES in arrays:
        windows = TrainingWindows(arrays[WINDOW_HASHES].view(np.uint64), arrays[WINDOW_EXTENTS])
    autoencoders = [
        load_autoencoder(path / ESTIMATOR.format(number), device=device, specs=specs)
        for number in range(len(header["memories"]))
    ]
    members = [
        _read_member(number, autoencoder, n_memories, header["settings"], arrays, windows)
        for number, (autoencoder, n_memories) in enumerate(
            zip(autoencoders, header["memories"], strict=True)
        )
    ]
    return SavedDetector(
        settings=header["settings"],
        default_autoencoder=header["default_autoencoder"],
        n_features_in=int(header["n_features_in"]),
        fitted=FittedDetector(
            members=members,
            held_out_rows=arrays[HELD_OUT_ROWS],
            held_out_scores=arrays[HELD_OUT_SCORES],
            inlier_mask=arrays[INLIER_MASK],
            train_rows=arrays[TRAIN_ROWS],
            train_scores=arrays[TRAIN_SCORES],
        ),
    )


@contextmanager
def artifact_errors(folder: str | Path) -> Iterator[None]:
    """A context that turns the errors of a damaged folder into ArtifactError."""
    try:
        yield
    except ArtifactError:
        raise
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{folder}: the parts of the detector do not fit together ({reason}); save it again"
        ) from error


def check_target(target: Path, *, force: bool) -> None:
    """Raise RequestError unless a detector may be written to `target`; see `save`."""
    if target.exists() and not is_detector(target) and artifact.any_content(target):
        raise RequestError(
            f"{target}: exists and is not the folder of a detector; choose another name"
        )
    if target.exists() and not force and artifact.any_content(target):
        raise RequestError(
            f"{target}: exists; choose another name, or replace it with "
            f"{either('force=True', '--force')}"
        )


def is_detector(folder: str | Path) -> bool:
    """Whether `folder` is the folder of a saved detector."""
    return (Path(folder) / DETECTOR).is_file()


def _setting(value: object) -> object:
    value = to_plain(value)
    # A RandomState has moved on, and cannot be restored.
    return value if isinstance(value, (str, int, float, bool)) else None


def _arrays(fitted: FittedDetector) -> dict[str, Array]:
    arrays = {
        TRAIN_ROWS: fitted.train_rows,
        TRAIN_SCORES: fitted.train_scores,
        INLIER_MASK: fitted.inlier_mask,
        HELD_OUT_ROWS: fitted.held_out_rows,
        HELD_OUT_SCORES: fitted.held_out_scores,
    }
    windows = fitted.members[0].windows
    if windows is not None:
        arrays[WINDOW_HASHES] = windows.hashes.view(np.int64)
        arrays[WINDOW_EXTENTS] = windows.extents
    for number, member in enumerate(fitted.members):
        arrays[COLUMN_SCALE.format(number)] = member.column_scale
        for index, memory in enumerate(member.memories):
            arrays[MEMORY.format(number, index)] = memory.reconstructions
            if memory.extents is not None:
                arrays[MEMORY_EXTENTS.format(number, index)] = memory.extents
    return arrays


def _read_member(
    number: int,
    autoencoder: Autoencoder,
    n_memories: int,
    settings: Mapping[str, Any],
    arrays: Mapping[str, Array],
    windows: TrainingWindows | None,
) -> EnsembleMember:
    memories = [
        Memory(
            arrays[MEMORY.format(number, index)],
            settings["n_neighbors"],
            arrays.get(MEMORY_EXTENTS.format(number, index)),
            0 if windows is None else windows.max_overlap_count,
        )
        for index in range(n_memories)
    ]
    return EnsembleMember(autoencoder, memories, arrays[COLUMN_SCALE.format(number)], windows)


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); save the detector again") from error
    artifact.check_format(path, header, FORMAT)
    return header
