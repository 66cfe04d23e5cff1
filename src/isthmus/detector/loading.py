"""Load a detector's folder back as a fitted OutlierDetector."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as deserialized
from sklearn.base import clone
from torch import Tensor

from isthmus import artifact
from isthmus.detector.detector import OutlierDetector
from isthmus.detector.fit import Learned
from isthmus.detector.member import Member
from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import LearnedWindows
from isthmus.detector.saving import (
    DETECTOR,
    ESTIMATOR,
    EXTENTS,
    FORMAT,
    HASHES,
    HELD_OUT,
    LEARNED,
    MEMORY,
    REMEMBERED,
    ROWS,
    SCORES,
    TYPICAL,
    USUAL,
    WHERE,
)
from isthmus.errors import ArtifactError
from isthmus.estimator import Autoencoder
from isthmus.estimator import load as load_autoencoder


def load(folder: str | Path, *, device: str = "auto", **options: Any) -> OutlierDetector:
    """The fitted OutlierDetector saved in `folder`, on `device`.

    `specs` are classes of your own that the model uses. Raises ArtifactError when the folder is
    missing, damaged, foreign, or from a newer isthmus.
    """
    path = Path(folder)
    written = _read(path / DETECTOR)
    try:
        tensors = deserialized((path / REMEMBERED).read_bytes())
        fits = [
            load_autoencoder(path / ESTIMATOR.format(number), device=device, **options)
            for number in range(len(written["memories"]))
        ]
        return _made(written, tensors, fits)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        if isinstance(error, ArtifactError):
            raise
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{path}: the parts of the detector do not fit together ({reason}); save it again"
        ) from error


def _made(
    written: dict[str, Any], tensors: dict[str, Tensor], fits: list[Autoencoder]
) -> OutlierDetector:
    detector = OutlierDetector(
        None if written["own_autoencoder"] else clone(fits[0]), **written["settings"]
    )
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    windows = None
    if HASHES in arrays:
        windows = LearnedWindows(arrays[HASHES].view(np.uint64), arrays[EXTENTS])
    most_shared = 0 if windows is None else windows.most_shared
    members = [
        Member(
            fit,
            [
                Memory(
                    arrays[MEMORY.format(number, place)],
                    detector.n_neighbors,
                    arrays.get(WHERE.format(number, place)),
                    most_shared,
                )
                for place in range(size)
            ],
            arrays[USUAL.format(number)],
            windows,
        )
        for number, (fit, size) in enumerate(zip(fits, written["memories"], strict=True))
    ]
    detector.n_features_in_ = int(written["n_features_in"])
    if hasattr(fits[0], "feature_names_in_"):
        detector.feature_names_in_ = fits[0].feature_names_in_
    detector.keep(
        Learned(
            members=members,
            held_out=arrays[ROWS],
            held_out_scores=arrays[HELD_OUT],
            typical=arrays[TYPICAL],
            rows=arrays.get(LEARNED, np.arange(len(arrays[SCORES]))),
        ),
        arrays[SCORES],
    )
    return detector


def _read(path: Path) -> dict[str, Any]:
    try:
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); save the detector again") from error
    artifact.check_format(path, written, FORMAT)
    return written
