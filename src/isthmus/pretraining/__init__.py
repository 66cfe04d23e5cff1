"""Where the weights start."""

from isthmus.pretraining.pca import PCASolution, principal_components

PRETRAININGS = ("pca", "random")

__all__ = ["PRETRAININGS", "PCASolution", "principal_components"]
