"""Comparison of autoencoders with the baselines at equal code size, on test rows."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from isthmus.baselines import BASELINES, CodeBaseline, code_baselines
from isthmus.data.loading.rows import evenly_spaced
from isthmus.data.open import open_source
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.source import Source, Subset
from isthmus.data.splitting.holdout import validation_split
from isthmus.data.validate import check_rows
from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.settings import reporter_of
from isthmus.metrics import ReconstructionError
from isthmus.report import formatting
from isthmus.report.data.codecs import (
    DistortionFigures,
    Domain,
    DomainFigures,
    code_range,
    codec_cells,
    codec_notes,
    domains,
    scale_note,
)
from isthmus.report.data.facts import unit_of
from isthmus.report.data.row_access import codes_of, in_memory
from isthmus.types import Index

TEST_SHARE = 0.2
RANGE_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Score:
    """The figures of one method on the test rows."""

    error: float
    """Mean squared error, in the units of `Autoencoder.evaluate`."""

    explained_variance: float
    seconds: float
    """Time to fit the training rows."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The autoencoder and the baselines with codes of the same size."""

    components: int
    autoencoder: Score
    baselines: dict[str, Score]
    weights: int
    images: list[DistortionFigures]
    """Bytes per image compared with the codecs, one for each domain; empty without images."""

    events: list[str]
    """Messages of the fit, such as its fallback to PCA."""

    @property
    def ratios(self) -> dict[str, float | None]:
        """Each baseline's error divided by the autoencoder's; above 1 the autoencoder is better."""
        ours = self.autoencoder.error
        return {
            name: score.error / ours if ours > 0 else None for name, score in self.baselines.items()
        }

    def to_json(self) -> dict[str, object]:
        """The figures as plain values."""
        return asdict(self) | {"ratios": self.ratios}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `compare`."""

    origin: str
    rows: int
    train_rows: int
    test_rows: int
    unit: str
    labels: dict[str, str]
    """The baselines' names in texts, by their names in the figures."""

    entries: list[Entry]
    domains: list[DomainFigures]
    scale_note: str | None

    def to_json(self) -> dict[str, object]:
        """The figures as plain values."""
        return asdict(self) | {"entries": [entry.to_json() for entry in self.entries]}

    def table(self) -> list[dict[str, float | None]]:
        """One flat row per code size, with the figures of each method."""
        rows: list[dict[str, float | None]] = []
        for entry in self.entries:
            row: dict[str, float | None] = {"components": entry.components}
            for name, score in {"autoencoder": entry.autoencoder, **entry.baselines}.items():
                row |= {f"{name}_{figure}": value for figure, value in asdict(score).items()}
            rows.append(row | {f"{name}_ratio": ratio for name, ratio in entry.ratios.items()})
        return rows

    def lines(self) -> list[str]:
        """The figures as lines of text for a terminal."""
        head = [
            f"{self.origin}: {formatting.count(self.test_rows, 'test row')}, "
            f"{formatting.count(self.train_rows, 'training row')}; errors are mean squared, "
            f"{self.unit}",
            "",
        ]
        return head + formatting.aligned(self._cells()) + self._event_lines() + self._codec_lines()

    def _cells(self) -> list[list[str]]:
        head = ["numbers per row", "autoencoder", "explained", "seconds"]
        for name in self.entries[0].baselines:
            head += [self.labels[name], "explained", "seconds", "error ratio"]
        cells = [head]
        for entry in self.entries:
            line = [f"{entry.components:,}", *_score_cells(entry.autoencoder)]
            for name, score in entry.baselines.items():
                line += [*_score_cells(score), f"{formatting.number(entry.ratios[name])} x"]
            cells.append(line)
        return cells

    def _event_lines(self) -> list[str]:
        sizes: dict[str, list[str]] = {}
        for entry in self.entries:
            for text in entry.events:
                sizes.setdefault(text, []).append(f"{entry.components:,}")
        return [f"at {', '.join(listed)}: {text}" for text, listed in sizes.items()]

    def _codec_lines(self) -> list[str]:
        lines: list[str] = []
        for i, domain in enumerate(self.domains):
            measured = [entry.images[i] for entry in self.entries]
            for name in domain["codecs"]:
                label = self.labels[name]
                images = f"{domain['images']} {domain['name']}"
                lines += ["", f"Comparison with {label} at the same distortion: {images}"]
                lines += formatting.aligned(codec_cells(measured, name, label))
        if self.domains:
            lines += ["", *codec_notes(self.entries[-1].weights, self.scale_note)]
        return lines


def _score_cells(score: Score) -> list[str]:
    return [
        formatting.number(score.error),
        formatting.percent(score.explained_variance),
        formatting.seconds(score.seconds),
    ]


def compare(
    source: Any, components: Sequence[int], *, other: Any = None, **settings: Any
) -> Comparison:
    """Fit an autoencoder and each baseline at each code size and measure them on test rows.

    A fifth of the rows are test rows, chosen by content and seed. Images are also stored with image
    codecs at the same distortion: test images, and images of another kind. Of a streamed source,
    evenly spaced rows are compared, as many as fit in 256 MiB.

    Parameters:
        source: The rows, as anything that `open_source` takes.
        components: Code sizes, each >= 1.
        other: Images of another kind; None is pieces of two sample photographs.
        **settings: Settings of `Autoencoder`.

    Raises:
        DataError: The rows cannot be used.
        RequestError: A code size, setting or `other` is not valid. Both are ValueErrors.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> (row,) = compare(load_iris().data, [1], max_epochs=5, random_state=0).table()
        >>> row["components"], round(row["pca_explained_variance"], 2)
        (1, 0.93)
    """
    sizes = sorted(set(components))
    require(bool(sizes), "components is empty; give at least one code size, such as 2, 8, 32")
    require(sizes[0] >= 1, f"n_components={sizes[0]} must be at least 1")
    rows = in_memory(open_source(source))
    check_rows(rows, allow_missing=True)
    train, test = _split(rows, settings.get("random_state"))
    foreign = None if other is None else open_source(other)
    images = domains(rows, train, test, foreign)
    require(bool(images) or foreign is None, f"other is for images; {rows.origin} holds none")
    run = _Run(rows, train, test, images, settings, sizes[-1])
    entries = [run.entry(size) for size in sizes]
    return Comparison(
        origin=rows.origin,
        rows=len(rows),
        train_rows=len(train),
        test_rows=len(test),
        unit=unit_of(run.preparation),
        labels={name: baseline.label for name, baseline in BASELINES.items()},
        entries=entries,
        domains=[domain.to_json() for domain in images],
        scale_note=scale_note(images[0].levels) if images else None,
    )


@dataclass
class _Run:
    """The rows and settings that all code sizes share."""

    source: Source
    train: Index
    test: Index
    domains: list[Domain]
    settings: dict[str, Any]
    largest: int
    baselines: dict[str, tuple[CodeBaseline, float]] = field(default_factory=dict)
    """The fitted baselines, and the seconds that each fit took."""

    def entry(self, size: int) -> Entry:
        train, test = Subset(self.source, self.train), Subset(self.source, self.test)
        reporter_of(self.settings.get("verbose", 0)).message(
            f"{formatting.count(size, 'number')} per row"
        )
        began = time.perf_counter()
        ae = Autoencoder(size, **self.settings).fit(train)
        seconds = time.perf_counter() - began
        self._fit_baselines(ae.preparation_)
        reference = ae.preparation_.to_error_units(ae.model_.mean)[0]
        return Entry(
            components=size,
            autoencoder=_score(ae.evaluate(test), seconds),
            baselines={
                name: _score(
                    baseline.evaluate(
                        self.source, self.test, n_components=size, reference=reference
                    ),
                    baseline_seconds,
                )
                for name, (baseline, baseline_seconds) in self.baselines.items()
            },
            weights=int(ae.facts_["weights"]),
            images=self._distortions(ae),
            events=[record["message"] for record in ae.history_ if "event" in record],
        )

    def _fit_baselines(self, preparation: Preparation) -> None:
        """Fit each baseline at the largest size, once for all sizes with equal preparation."""
        if getattr(self, "preparation", None) == preparation:
            return
        self.preparation = preparation
        for name, baseline in code_baselines(self.source).items():
            began = time.perf_counter()
            fitted = baseline(self.largest).fit(self.source, preparation, self.train)
            self.baselines[name] = fitted, time.perf_counter() - began

    def _distortions(self, ae: Autoencoder) -> list[DistortionFigures]:
        if not self.domains:
            return []
        rows = Subset(self.source, evenly_spaced(self.train, RANGE_ROWS))
        low, high = code_range(codes_of(ae, rows))
        return [domain.distortion(ae, low, high) for domain in self.domains]


def _score(errors: ReconstructionError, seconds: float) -> Score:
    return Score(error=errors.total, explained_variance=errors.explained_variance, seconds=seconds)


def _split(source: Source, seed: object) -> tuple[Index, Index]:
    number = int(seed) if isinstance(seed, (int, np.integer)) else 0
    everything = np.arange(len(source))
    split = validation_split(source, everything, np.ones(len(source)), TEST_SHARE, number)
    if not len(split.validation) or len(split.train) < 2:
        raise RequestError(
            f"{source.origin}: {len(source)} rows are too few to set a fifth of them apart"
        )
    return np.asarray(split.train), split.validation
