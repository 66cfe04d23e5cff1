"""Images beside JPEG: bytes at the same distortion, on images of the same kind and on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from isthmus.baselines import JPEGAnswer, JPEGPoint, jpeg_at, jpeg_curve, quantised
from isthmus.data import Schema, spread
from isthmus.errors import RequestError
from isthmus.metrics import psnr
from isthmus.report import formatting
from isthmus.report.data.pictures import (
    Levels,
    as_rows,
    channels_last,
    fitted,
    levels_of,
    plain,
    sample_photographs,
    size_of,
)
from isthmus.report.data.row_access import Held, codes_of, numbers
from isthmus.types import Array, Index, Source

MOST_IMAGES, MOST_PIXELS, FEWEST_IMAGES = 100, 1_000_000, 2
PHOTOGRAPHS = "pieces of the two sample photographs of scikit-learn (a temple, a flower)"


@dataclass
class Domain:
    """Some images of one origin, and what JPEG makes of them."""

    name: str
    same: bool
    """Whether they are of the kind that the autoencoder learned from."""

    rows: Held
    levels: Levels
    curve: tuple[JPEGPoint, ...]

    @classmethod
    def of(cls, name: str, values: Array, schema: Schema, levels: Levels, *, same: bool) -> Self:
        """The domain of these rows (n, *schema.shape)."""
        pixels = plain(levels.to_bytes(channels_last(values, schema)))
        return cls(name, same, Held(values, schema, name), levels, jpeg_curve(pixels))

    def beside_jpeg(self, ae: Any, low: Array, high: Array) -> dict[str, Any]:
        """The distortion of these images from codes of 8 bits a unit, and JPEG's bytes at it."""
        codes = quantised(codes_of(ae, self.rows), low, high)
        back = self.levels.to_bytes(numbers(ae.inverse_transform(codes), ae.preparation_.schema))
        pixels = self.levels.to_bytes(self.rows.values)
        error = float(((back.astype(np.float64) - pixels) ** 2).mean())
        answer = jpeg_at(self.curve, error)
        return {
            "error": error,
            "psnr": _finite(psnr(error)),
            "bytes": int(codes.shape[1]),
            "jpeg": answer._asdict(),
            "better": _verdict(codes.shape[1], answer),
        }

    def to_json(self) -> dict[str, Any]:
        """What it is and JPEG's curve, the best setting of each size first."""
        points = [
            point._asdict() | {"psnr": _finite(point.psnr)} for point in _frontier(self.curve)
        ]
        return {"name": self.name, "same": self.same, "images": len(self.rows), "jpeg": points}


def domains(source: Source, train: Index, test: Index, other: Source | None) -> list[Domain]:
    """Images of the kind `source` holds (its rows `test`), and images that are not of it.

    `other` are those; None is scikit-learn's sample photographs. They are resized and turned grey
    or coloured as the rows are. The rows `train` say which range of values counts as 0 to 255.
    """
    schema = source.schema
    levels = levels_of(source, train)
    height, width, channels = size_of(schema)
    most = max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_PIXELS // (height * width)))
    if other is None:
        name, foreign = PHOTOGRAPHS, sample_photographs(height, width, channels)
    else:
        name, foreign = _foreign(other, height, width, channels, most)
    foreign = foreign[spread(np.arange(len(foreign)), most)]
    strange = as_rows(levels.to_values(foreign), schema)
    return [
        Domain.of(
            "images of the same set", source.read(spread(test, most)), schema, levels, same=True
        ),
        Domain.of(name, strange, schema, levels, same=False),
    ]


def code_range(codes: Array) -> tuple[Array, Array]:
    """The lowest and the highest value of each unit."""
    return codes.min(axis=0), codes.max(axis=0)


def scale_note(levels: Levels) -> str | None:
    """How values became grey levels, where they were none."""
    if not levels.stretched:
        return None
    return f"values from {levels.low:.4g} to {levels.high:.4g} count as grey levels from 0 to 255"


def jpeg_cells(measured: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A table of what `Domain.beside_jpeg` measured, head first."""
    cells = [["code, bytes", "at", "JPEG, bytes", "picture data", "at", "better"]]
    for one in measured:
        jpeg = one["jpeg"]
        cells.append(
            [
                f"{one['bytes']:,}",
                f"{formatting.number(one['psnr'])} dB",
                f"{jpeg['bound']} {jpeg['bytes']:,.0f}".strip(),
                f"{jpeg['scan_bytes']:,.0f}",
                f"{formatting.number(jpeg['psnr'])} dB",
                one["better"],
            ]
        )
    return cells


def jpeg_notes(weights: int, scale: str | None) -> list[str]:
    """What a reader must know to judge the table."""
    notes = [
        "The code is stored at 8 bits a number; the network, needed once, has "
        f"{formatting.count(weights, 'weight')}. Picture data is JPEG's file without header "
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
    values = other.read(spread(np.arange(len(other)), most))
    pixels = Levels.of(values).to_bytes(channels_last(values, schema))
    usable = pixels[..., :1] if pixels.shape[-1] == 2 else pixels[..., :3]
    images = [fitted(image, height, width, channels) for image in plain(usable)]
    return f"images of {other.origin}", np.stack(images)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _frontier(curve: tuple[JPEGPoint, ...]) -> list[JPEGPoint]:
    """The points that no other beats in both size and distortion, smallest first."""
    kept: list[JPEGPoint] = []
    for point in sorted(curve, key=lambda p: (p.bytes, p.error)):
        if not kept or point.error < kept[-1].error:
            kept.append(point)
    return kept


def _verdict(code_bytes: int, jpeg: JPEGAnswer) -> str:
    """Which of the two needs fewer bytes at the same distortion, as far as it can be said."""
    if jpeg.bound == "at most" and code_bytes < jpeg.bytes:
        return "autoencoder is smaller, JPEG is closer"
    if jpeg.bound == "more than" and code_bytes > jpeg.bytes:
        return "JPEG is smaller, autoencoder is closer"
    if jpeg.scan_bytes < code_bytes < jpeg.bytes:
        return "autoencoder, by JPEG's header"
    return "autoencoder" if code_bytes < jpeg.bytes else "JPEG"
