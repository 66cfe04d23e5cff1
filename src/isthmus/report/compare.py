"""Autoencoder beside PCA, and beside JPEG for images, at equal code size on the same rows."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isthmus.baselines import PCABaseline
from isthmus.data import (
    Preparation,
    Subset,
    check_rows,
    has_missing,
    open_source,
    spread,
    validation_split,
)
from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.settings import reporter_of
from isthmus.report import formatting
from isthmus.report.data.facts import unit_of
from isthmus.report.data.jpeg import Domain, code_range, domains, jpeg_cells, jpeg_notes, scale_note
from isthmus.report.data.row_access import codes_of, in_memory
from isthmus.types import Index, Source

TEST_SHARE = 0.2
RANGE_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well one method did on the test rows."""

    error: float
    """Mean squared error, in the units of `Autoencoder.evaluate`."""

    explained_variance: float
    seconds: float
    """To learn from the training rows."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Autoencoder and PCA with codes of the same size."""

    components: int
    autoencoder: Measured
    pca: Measured
    weights: int
    images: list[dict[str, Any]]
    """Beside JPEG, one a domain; empty where rows are no images."""

    events: list[str]
    """What happened in the fit, such as a return to PCA."""

    @property
    def ratio(self) -> float | None:
        """PCA's error divided by the autoencoder's: above 1 the autoencoder is better."""
        ours = self.autoencoder.error
        return self.pca.error / ours if ours > 0 else None

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return asdict(self) | {"ratio": self.ratio}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` measured."""

    origin: str
    rows: int
    train_rows: int
    test_rows: int
    unit: str
    entries: list[Entry]
    domains: list[dict[str, Any]]
    scale_note: str | None

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return asdict(self) | {"entries": [entry.to_json() for entry in self.entries]}

    def table(self) -> list[dict[str, Any]]:
        """One flat row a code size: autoencoder beside PCA."""
        return [
            {
                "components": entry.components,
                "autoencoder_error": entry.autoencoder.error,
                "pca_error": entry.pca.error,
                "ratio": entry.ratio,
                "autoencoder_explained_variance": entry.autoencoder.explained_variance,
                "pca_explained_variance": entry.pca.explained_variance,
                "autoencoder_seconds": entry.autoencoder.seconds,
                "pca_seconds": entry.pca.seconds,
            }
            for entry in self.entries
        ]

    def lines(self) -> list[str]:
        """The figures as lines of text for a terminal."""
        head = [
            f"{self.origin}: {formatting.count(self.test_rows, 'row')} that neither has seen, "
            f"{self.train_rows:,} to learn from; errors are mean squared, {self.unit}",
            "",
        ]
        return head + formatting.aligned(self._cells()) + self._event_lines() + self._jpeg_lines()

    def _cells(self) -> list[list[str]]:
        head = ["numbers a row", "autoencoder", "explained", "seconds"]
        cells = [[*head, "PCA", "explained", "seconds", "error ratio"]]
        for entry in self.entries:
            both = [
                text
                for one in (entry.autoencoder, entry.pca)
                for text in (
                    formatting.number(one.error),
                    formatting.percent(one.explained_variance),
                    formatting.seconds(one.seconds),
                )
            ]
            cells.append([f"{entry.components:,}", *both, f"{formatting.number(entry.ratio)} x"])
        return cells

    def _event_lines(self) -> list[str]:
        at: dict[str, list[str]] = {}
        for entry in self.entries:
            for text in entry.events:
                at.setdefault(text, []).append(f"{entry.components:,}")
        return [f"at {', '.join(sizes)}: {text}" for text, sizes in at.items()]

    def _jpeg_lines(self) -> list[str]:
        lines: list[str] = []
        for i, domain in enumerate(self.domains):
            lines += [
                "",
                f"Beside JPEG at the same distortion: {domain['images']} {domain['name']}",
            ]
            lines += formatting.aligned(jpeg_cells([entry.images[i] for entry in self.entries]))
        if self.domains:
            lines += ["", *jpeg_notes(self.entries[-1].weights, self.scale_note)]
        return lines


def compare(
    source: Any, components: Sequence[int], *, other: Any = None, **settings: Any
) -> Comparison:
    """Fit an autoencoder and PCA at each code size and measure both on rows neither has seen.

    A fifth of the rows of `source` (anything `open_source` takes) is kept from both, chosen by
    content and seed; `settings` are `Autoencoder`'s. Images are also stored as JPEG at the same
    distortion: test images, and images of another kind, `other` or else pieces of photographs.
    Of rows that stay on disk, as many as fit in 256 MiB are compared, evenly spaced.

    Raises DataError or RequestError (both ValueError) where data or settings make no sense.
    """
    sizes = sorted(set(components))
    require(bool(sizes), "components is empty; give at least one code size, such as 2, 8, 32")
    require(sizes[0] >= 1, f"components={sizes[0]} must be at least 1")
    rows = in_memory(open_source(source))
    check_rows(rows, allow_missing=True)
    train, test = _split(rows, settings.get("random_state"))
    images = rows.schema.layout == "image" and not has_missing(rows)
    strange = None if other is None else open_source(other)
    require(images or strange is None, f"other is for images; {rows.origin} holds none")
    found = domains(rows, train, test, strange) if images else []
    race = _Race(rows, train, test, found, settings, sizes[-1])
    entries = [race.run(size) for size in sizes]
    return Comparison(
        origin=rows.origin,
        rows=len(rows),
        train_rows=len(train),
        test_rows=len(test),
        unit=unit_of(race.preparation),
        entries=entries,
        domains=[domain.to_json() for domain in found],
        scale_note=scale_note(found[0].levels) if found else None,
    )


@dataclass
class _Race:
    """The same rows for both, size after size."""

    source: Source
    train: Index
    test: Index
    domains: list[Domain]
    settings: dict[str, Any]
    largest: int

    def run(self, size: int) -> Entry:
        learned, tested = Subset(self.source, self.train), Subset(self.source, self.test)
        reporter_of(self.settings.get("verbose", 0)).message(
            f"{formatting.count(size, 'number')} a row"
        )
        began = time.perf_counter()
        ae = Autoencoder(size, **self.settings).fit(learned)
        ours = time.perf_counter() - began
        self._fit_pca(ae.preparation_)
        reference = ae.preparation_.measured(ae.mean_)[0]
        errors = ae.evaluate(tested)
        theirs = self.pca.evaluate(self.source, self.test, n_components=size, reference=reference)
        return Entry(
            components=size,
            autoencoder=Measured(
                error=errors.total, explained_variance=errors.explained_variance, seconds=ours
            ),
            pca=Measured(
                error=theirs.total,
                explained_variance=theirs.explained_variance,
                seconds=self.pca_seconds,
            ),
            weights=int(ae.facts_["weights"]),
            images=self._beside_jpeg(ae),
            events=[record["message"] for record in ae.history_ if "event" in record],
        )

    def _fit_pca(self, preparation: Preparation) -> None:
        """One decomposition for all sizes, as long as rows are prepared the same way."""
        if getattr(self, "preparation", None) == preparation:
            return
        began = time.perf_counter()
        self.pca = PCABaseline(self.largest).fit(self.source, preparation, self.train)
        self.pca_seconds, self.preparation = time.perf_counter() - began, preparation

    def _beside_jpeg(self, ae: Autoencoder) -> list[dict[str, Any]]:
        if not self.domains:
            return []
        low, high = code_range(codes_of(ae, Subset(self.source, spread(self.train, RANGE_ROWS))))
        return [domain.beside_jpeg(ae, low, high) for domain in self.domains]


def _split(source: Source, seed: Any) -> tuple[Index, Index]:
    number = int(seed) if isinstance(seed, (int, np.integer)) else 0
    everything = np.arange(len(source))
    split = validation_split(source, everything, np.ones(len(source)), TEST_SHARE, number)
    if not len(split.validation) or len(split.train) < 2:
        raise RequestError(
            f"{source.origin}: {len(source)} rows are too few to keep a fifth of them apart"
        )
    return np.asarray(split.train), split.validation
