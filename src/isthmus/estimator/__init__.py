"""The estimator: the one place that knows every part."""

from isthmus.estimator.autoencoder import Autoencoder
from isthmus.estimator.loading import load
from isthmus.estimator.saving import to_artifact

__all__ = ["Autoencoder", "load", "to_artifact"]
