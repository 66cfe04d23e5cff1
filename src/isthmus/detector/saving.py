"""A detector's folder: its autoencoders' model folders, and what is remembered beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as serialized
from torch import Tensor

from isthmus import artifact
from isthmus.errors import RequestError
from isthmus.estimator import to_artifact
from isthmus.files import replacing
from isthmus.spec import to_plain

FORMAT = 2
DETECTOR, REMEMBERED = artifact.DETECTOR, "memory.safetensors"
ESTIMATOR, MEMORY, USUAL = "estimator-{}", "memory-{}-{}", "usual-{}"
SCORES, HELD_OUT = "scores", "held_out"
ROWS, TYPICAL, LEARNED = "held_out_rows", "typical", "learned_rows"
HASHES, EXTENTS, WHERE = "window_hashes", "window_extents", "where-{}-{}"


def save(detector: Any, folder: str | Path, *, force: bool = True) -> None:
    """Write the folder of a fitted detector beside its place and rename it there; no pickle.

    Raises RequestError when `folder` exists and `force` is False, or is no detector's folder.
    """
    target = Path(folder)
    check_place(target, force=force)
    given = detector.get_params(deep=False)
    del given["autoencoder"]
    written = {
        "format": FORMAT,
        "versions": artifact.versions(),
        "settings": {name: _setting(value) for name, value in given.items()},
        "own_autoencoder": detector.autoencoder is None,
        "memories": [len(member.memories) for member in detector.members_],
        "n_features_in": detector.n_features_in_,
    }
    remembered = serialized(_tensors(detector))
    with replacing(target, folder=True, force=force) as fresh:
        for number, fit in enumerate(detector.estimators_):
            artifact.save(to_artifact(fit), fresh / ESTIMATOR.format(number))
        (fresh / REMEMBERED).write_bytes(remembered)
        (fresh / DETECTOR).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def check_place(target: Path, *, force: bool) -> None:
    """Raise RequestError unless a detector may be written to `target`; see `save`."""
    if target.exists() and not is_detector(target) and artifact.any_content(target):
        raise RequestError(f"{target}: exists and is no detector's folder; choose another name")
    if target.exists() and not force and artifact.any_content(target):
        raise RequestError(
            f"{target}: exists; choose another name, or replace it with force=True (command line: "
            "--force)"
        )


def is_detector(folder: str | Path) -> bool:
    """Whether `folder` is one that `save` wrote."""
    return (Path(folder) / DETECTOR).is_file()


def _setting(value: Any) -> Any:
    value = to_plain(value)
    # A RandomState is a stream that has moved on; there is nothing of it to keep.
    return value if isinstance(value, (str, int, float, bool)) else None


def _tensors(detector: Any) -> dict[str, Tensor]:
    kept = {
        SCORES: detector.decision_scores_,
        HELD_OUT: detector.held_out_scores_,
        ROWS: detector.held_out_rows_,
        TYPICAL: detector.typical_rows_,
        LEARNED: detector.learned_rows_,
    }
    windows = detector.members_[0].windows
    if windows is not None:
        kept |= {HASHES: windows.hashes.view(np.int64), EXTENTS: windows.extents}
    for number, member in enumerate(detector.members_):
        kept[USUAL.format(number)] = member.usual
        for place, memory in enumerate(member.memories):
            kept[MEMORY.format(number, place)] = memory.rebuilt
            if memory.where is not None:
                kept[WHERE.format(number, place)] = memory.where
    return {name: torch.from_numpy(values).contiguous() for name, values in kept.items()}
