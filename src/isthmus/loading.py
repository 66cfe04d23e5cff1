"""Load a saved model: a fitted Autoencoder or OutlierDetector."""

from pathlib import Path
from typing import Any

from isthmus.detector import is_detector
from isthmus.detector.loading import load as load_detector
from isthmus.estimator.loading import load as load_autoencoder


def load(folder: str | Path, *, device: str = "auto", **options: Any) -> Any:
    """The fitted Autoencoder or OutlierDetector saved in `folder`, on `device`.

    `specs` are classes of your own that the model uses. Raises ArtifactError when the folder is
    missing, damaged, foreign, or from a newer isthmus.
    """
    loader = load_detector if is_detector(folder) else load_autoencoder
    return loader(folder, device=device, **options)
