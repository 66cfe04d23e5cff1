"""Autoencoder and image codecs: bytes per image at the same distortion."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np

from isthmus.baselines import CodecPoint, CodecRate, ImageCodec, image_codecs, quantised, rate_at
from isthmus.data.loading.rows import evenly_spaced
from isthmus.data.source import Source
from isthmus.errors import RequestError
from isthmus.estimator import Autoencoder
from isthmus.metrics import psnr
from isthmus.report import formatting
from isthmus.report.data.pictures import (
    GreyLevels,
    as_rows,
    channels_last,
    levels_of,
    resized,
    sample_photographs,
    size_of,
    without_single_channel,
)
from isthmus.report.data.row_access import RowsInMemory, as_array, codes_of, finite
from isthmus.types import Array, Index

MOST_IMAGES, MOST_PIXELS, FEWEST_IMAGES = 100, 1_000_000, 2
PHOTOGRAPHS = "pieces of the two sample photographs of scikit-learn (a temple, a flower)"


class DomainFigures(TypedDict):
    """Images of one origin, and the sizes and distortions that each codec can reach."""

    name: str
    same: bool
    images: int
    codecs: dict[str, list[dict[str, Any]]]
    """For each codec, the fields of `CodecPoint`."""


class DistortionFigures(TypedDict):
    """The autoencoder's distortion on images of one origin, and each codec's bytes at it."""

    error: float
    psnr: float | None
    bytes: int
    codecs: dict[str, dict[str, Any]]
    """For each codec, the fields of `CodecRate`, and in "better" which needs fewer bytes."""


@dataclass
class Domain:
    """Images of one origin, stored with each codec."""

    rows: RowsInMemory
    same: bool
    """Whether the autoencoder was trained on images of this kind."""

    levels: GreyLevels
    codecs: Mapping[str, ImageCodec]

    @cached_property
    def curves(self) -> dict[str, list[CodecPoint]]:
        """Size and distortion of the images at each quality of each codec."""
        images = channels_last(self.rows.values, self.rows.schema)
        pixels = without_single_channel(self.levels.to_bytes(images))
        return {name: codec.curve(pixels) for name, codec in self.codecs.items()}

    def distortion(self, ae: Autoencoder, low: Array, high: Array) -> DistortionFigures:
        """The distortion of codes of 8 bits per unit, and the codecs' bytes at that distortion."""
        codes = quantised(codes_of(ae, self.rows), low, high)
        back = self.levels.to_bytes(as_array(ae.inverse_transform(codes), ae.preparation_.schema))
        pixels = self.levels.to_bytes(self.rows.values)
        error = float(((back.astype(np.float64) - pixels) ** 2).mean())
        size = int(codes.shape[1])
        return {
            "error": error,
            "psnr": finite(psnr(error)),
            "bytes": size,
            "codecs": {
                name: self._rate(name, curve, size, error) for name, curve in self.curves.items()
            },
        }

    def _rate(
        self, name: str, curve: list[CodecPoint], size: int, error: float
    ) -> dict[str, object]:
        rate = rate_at(curve, error)
        better = _better(size, rate, self.codecs[name].label)
        return rate._asdict() | {"psnr": finite(rate.psnr), "better": better}

    def to_json(self) -> DomainFigures:
        """The images and, for each codec, its best setting at each size."""
        return {
            "name": self.rows.origin,
            "same": self.same,
            "images": len(self.rows),
            "codecs": {
                name: [p._asdict() | {"psnr": finite(p.psnr)} for p in _frontier(curve)]
                for name, curve in self.curves.items()
            },
        }


def domains(source: Source, train: Index, test: Index, other: Source | None) -> list[Domain]:
    """The rows `test` of `source`, and images of another kind; empty if no codec applies.

    The latter are `other`, or pieces of scikit-learn's sample photographs if that is None. They
    are resized and converted to the channels of the rows. The range of the rows `train` is mapped
    to 0 to 255.
    """
    codecs = {name: codec() for name, codec in image_codecs(source).items()}
    if not codecs:
        return []
    schema = source.schema
    levels = levels_of(source, train)
    height, width, channels = size_of(schema)
    most = max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_PIXELS // (height * width)))
    if other is None:
        name, images = PHOTOGRAPHS, sample_photographs(height, width, channels)
    else:
        name, images = _foreign(other, height, width, channels, most)
    images = images[evenly_spaced(np.arange(len(images)), most)]
    own = RowsInMemory(source.read(evenly_spaced(test, most)), schema, "images of the same set")
    foreign = RowsInMemory(as_rows(levels.to_values(images), schema), schema, name)
    return [Domain(own, True, levels, codecs), Domain(foreign, False, levels, codecs)]


def code_range(codes: Array) -> tuple[Array, Array]:
    """The lowest and the highest value of each unit."""
    return codes.min(axis=0), codes.max(axis=0)


def scale_note(levels: GreyLevels) -> str | None:
    """How values were mapped to grey levels, unless they are grey levels already."""
    if not levels.is_rescaled:
        return None
    return f"values from {levels.low:.4g} to {levels.high:.4g} are mapped to grey levels 0 to 255"


def codec_cells(measured: Iterable[DistortionFigures], name: str, label: str) -> list[list[str]]:
    """A table of the autoencoder and one codec at equal distortion, its head first."""
    cells = [["code, bytes", "PSNR", f"{label}, bytes", "picture data", "PSNR", "better"]]
    for figures in measured:
        rate = figures["codecs"][name]
        cells.append(
            [
                f"{figures['bytes']:,}",
                f"{formatting.number(figures['psnr'])} dB",
                f"{rate['bound']} {rate['bytes']:,.0f}".strip(),
                f"{rate['payload_bytes']:,.0f}",
                f"{formatting.number(rate['psnr'])} dB",
                rate["better"],
            ]
        )
    return cells


def codec_notes(weights: int, scale: str | None) -> list[str]:
    """How sizes were counted, in sentences."""
    notes = [
        "The code is stored with 8 bits per number. The network is needed once and has "
        f"{formatting.count(weights, 'weight')}. Picture data is the file without header "
        "and tables."
    ]
    return notes if scale is None else [*notes, f"For this table, {scale}."]


def _foreign(other: Source, height: int, width: int, channels: int, most: int) -> tuple[str, Array]:
    schema = other.schema
    if schema.layout != "image":
        raise RequestError(
            f"{other.origin}: holds rows of kind {schema.layout!r}, not images; "
            "give images to compare with, or leave it out"
        )
    values = other.read(evenly_spaced(np.arange(len(other)), most))
    pixels = GreyLevels.of(values).to_bytes(channels_last(values, schema))
    usable = pixels[..., :1] if pixels.shape[-1] == 2 else pixels[..., :3]
    images = [resized(image, height, width, channels) for image in without_single_channel(usable)]
    return f"images of {other.origin}", np.stack(images)


def _frontier(curve: Sequence[CodecPoint]) -> list[CodecPoint]:
    """The points that no other point beats in both size and distortion, smallest first."""
    frontier: list[CodecPoint] = []
    for point in sorted(curve, key=lambda p: (p.bytes, p.error)):
        if not frontier or point.error < frontier[-1].error:
            frontier.append(point)
    return frontier


def _better(code_bytes: int, rate: CodecRate, label: str) -> str:
    """Which of the two needs fewer bytes at the same distortion, if that can be decided."""
    if rate.bound == "at most" and code_bytes < rate.bytes:
        return f"autoencoder is smaller, {label} is closer"
    if rate.bound == "more than" and code_bytes > rate.bytes:
        return f"{label} is smaller, autoencoder is closer"
    if rate.payload_bytes < code_bytes < rate.bytes:
        return f"autoencoder, because of {label}'s header"
    return "autoencoder" if code_bytes < rate.bytes else label
