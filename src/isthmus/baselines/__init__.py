"""Methods without a network that autoencoders are compared with, such as PCA and JPEG."""

from isthmus.baselines.base import (
    Baseline,
    CodeBaseline,
    CodecPoint,
    CodecRate,
    ImageCodec,
    measured_blocks,
    quantised,
    rate_at,
)
from isthmus.baselines.jpeg import JPEGBaseline
from isthmus.baselines.pca import PCABaseline
from isthmus.data.source import Source
from isthmus.errors import require

BASELINES: dict[str, type[Baseline]] = {"pca": PCABaseline, "jpeg": JPEGBaseline}
"""The baselines by name; `compare` and the report use each one that applies to the data."""


RESERVED = ("autoencoder", "ae")
"""Names that the network itself has in reports and comparisons."""


def code_baselines(source: Source) -> dict[str, type[CodeBaseline]]:
    """The baselines with codes of K numbers that apply to these rows, by name."""
    for name in RESERVED:
        require(name not in BASELINES, f"BASELINES[{name!r}]: is the network's name; use another")
    return {
        name: baseline
        for name, baseline in BASELINES.items()
        if issubclass(baseline, CodeBaseline) and baseline.applies_to(source)
    }


def image_codecs(source: Source) -> dict[str, type[ImageCodec]]:
    """The image codecs that apply to these rows, by name."""
    return {
        name: baseline
        for name, baseline in BASELINES.items()
        if issubclass(baseline, ImageCodec) and baseline.applies_to(source)
    }


__all__ = [
    "BASELINES",
    "Baseline",
    "CodeBaseline",
    "CodecPoint",
    "CodecRate",
    "ImageCodec",
    "JPEGBaseline",
    "PCABaseline",
    "code_baselines",
    "image_codecs",
    "measured_blocks",
    "quantised",
    "rate_at",
]
