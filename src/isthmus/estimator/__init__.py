"""The estimator: from settings and rows to a fitted model that encodes and decodes."""

from isthmus.estimator.autoencoder import Autoencoder, load
from isthmus.estimator.fitted_model import FittedModel

__all__ = ["Autoencoder", "FittedModel", "load"]
