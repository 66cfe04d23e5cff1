"""isthmus: any data in, a compact code out, the same data back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus import corruptions, data, kinds, losses, optim, pretraining
    from isthmus.detector import OutlierDetector
    from isthmus.estimator import Autoencoder
    from isthmus.loading import load
    from isthmus.search import SearchCV, fit_together

__version__ = "0.1.0"
__all__ = [
    "Autoencoder",
    "OutlierDetector",
    "SearchCV",
    "corruptions",
    "data",
    "fit_together",
    "kinds",
    "load",
    "losses",
    "optim",
    "pretraining",
]

_HOMES = {
    "Autoencoder": "isthmus.estimator",
    "OutlierDetector": "isthmus.detector",
    "SearchCV": "isthmus.search",
    "fit_together": "isthmus.search",
    "load": "isthmus.loading",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing isthmus is instant."""
    if name not in __all__:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    return import_module(f"isthmus.{name}")


def __dir__() -> list[str]:
    return __all__
