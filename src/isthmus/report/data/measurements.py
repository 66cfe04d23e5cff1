"""Everything that is measured for a report, once for all sections."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from isthmus.baselines import CodeBaseline, PCABaseline, code_baselines
from isthmus.data.loading.rows import evenly_spaced
from isthmus.data.source import Source, Subset
from isthmus.estimator import Autoencoder
from isthmus.metrics import ReconstructionError
from isthmus.report.data.records import BaselineFigures, ErrorFigures, Measured
from isthmus.report.data.row_access import codes_of, finite, sample_rows
from isthmus.types import Array, Index

# n rows, D features, K code units.

MOST_MEASURED, MOST_CODED = 20_000, 5_000
SMALLEST_CURVE, LARGEST_CURVE = 16, 256
SAME_MEAN, BY_CHANCE = 1e-3, 5.0


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """A fitted autoencoder and the baselines, measured on the same rows."""

    ae: Autoencoder
    source: Source
    rows: Index
    """The rows that the report is about: all, or a sample of a streamed source."""

    train_rows: Index
    """The rows that baselines were fitted on: the autoencoder's training rows, if known."""

    measured_rows: Index
    unseen: bool
    """Whether the measured rows are validation rows of the fit."""

    baselines: Mapping[str, CodeBaseline]
    reference: Array
    """(D,): what explained variance is measured from, in units of errors."""

    errors: ReconstructionError
    baseline_errors: Mapping[str, ReconstructionError]
    color: Any
    """(n,) labels or numbers for the map of codes, or None."""

    color_name: str | None

    @classmethod
    def of(cls, ae: Autoencoder, source: Source, color: Any, color_name: str | None) -> Self:
        """Measure the validation rows if `source` is what `ae` was fitted on, otherwise all."""
        everything = sample_rows(source)
        reference = ae.preparation_.to_error_units(ae.model_.mean)[0]
        size = _largest_size(ae.n_components_)
        pca = PCABaseline(size)
        learned, validation = _rows_of_fit(ae, source)
        unseen = bool(len(validation)) and _same_mean(
            pca.fit(source, ae.preparation_, learned),
            reference,
            sampled=len(learned) + len(validation) < len(source),
        )
        if not unseen:
            learned, validation = everything, everything
            pca.fit(source, ae.preparation_, learned)
        measured = evenly_spaced(validation, MOST_MEASURED)
        baselines = {
            name: pca
            if baseline is PCABaseline
            else baseline(size).fit(source, ae.preparation_, learned)
            for name, baseline in code_baselines(source).items()
        }
        return cls(
            ae=ae,
            source=source,
            rows=everything,
            train_rows=learned,
            measured_rows=measured,
            unseen=unseen,
            baselines=baselines,
            reference=reference,
            errors=ae.evaluate(Subset(source, measured)),
            baseline_errors={
                name: baseline.evaluate(
                    source, measured, n_components=ae.n_components_, reference=reference
                )
                for name, baseline in baselines.items()
            },
            color=color,
            color_name=color_name,
        )

    @cached_property
    def coded_rows(self) -> Index:
        """Evenly spaced rows, at most 5,000, whose codes are computed."""
        return evenly_spaced(self.rows, MOST_CODED)

    @cached_property
    def codes(self) -> Array:
        """(n, K) codes of the coded rows."""
        return codes_of(self.ae, Subset(self.source, self.coded_rows))

    @cached_property
    def curves(self) -> dict[str, Array]:
        """(K,) for each baseline: explained variance for codes of 1, 2, ... K numbers."""
        return {
            name: baseline.curve(self.source, self.measured_rows, reference=self.reference)
            for name, baseline in self.baselines.items()
        }

    def figures(self) -> Measured:
        """Error and explained variance of the autoencoder and of each baseline."""
        return {
            "rows": len(self.measured_rows),
            "unseen": self.unseen,
            "is_pca": _is_pca(self.ae),
            "validation": self._before_fallback(),
            "ae": _total(self.errors),
            "baselines": {name: self._baseline_figures(name) for name in self.baselines},
        }

    def _baseline_figures(self, name: str) -> BaselineFigures:
        baseline, curve = self.baselines[name], self.curves[name]
        reached = np.flatnonzero(curve >= self.errors.explained_variance - 1e-9)
        return {
            **_total(self.baseline_errors[name]),
            "n_components": min(self.ae.n_components_, baseline.largest_size),
            "rows": baseline.n_rows_,
            "reached_at": int(reached[0]) + 1 if len(reached) else None,
            "largest": len(curve),
        }

    def _before_fallback(self) -> dict[str, float | None] | None:
        """If the fit fell back to PCA of all rows: PCA of the training rows on the others."""
        events = [r for r in self.ae.history_ if r.get("event") == "pca" and "validation" in r]
        if not events:
            return None
        return {name: finite(value) for name, value in events[-1]["validation"].items()}


def _is_pca(ae: Autoencoder) -> bool:
    return any(record.get("event") == "pca" for record in ae.history_)


def _rows_of_fit(ae: Autoencoder, source: Source) -> tuple[Index, Index]:
    """Training and validation rows, both empty unless `source` is what `ae` was fitted on."""
    nothing = np.arange(0)
    is_fitted_on = hasattr(ae, "train_rows_") and ae.facts_["rows"] == len(source)
    if not is_fitted_on or _is_pca(ae):
        # A model that fell back to PCA was fitted to the validation rows too.
        return nothing, nothing
    if source.is_streamed:
        return np.setdiff1d(sample_rows(source), ae.validation_rows_), ae.validation_rows_
    return np.asarray(ae.train_rows_), ae.validation_rows_


def _same_mean(pca: PCABaseline, mean: Array, *, sampled: bool) -> bool:
    """Whether PCA's rows have the mean of the autoencoder's training rows.

    Other data of the same length do not, nor do rows that were weighted. The mean of `sampled`
    rows differs by chance.
    """
    share = max(SAME_MEAN, BY_CHANCE / pca.n_rows_**0.5) if sampled else SAME_MEAN
    allowed = share * float(pca.variance_.sum() / len(mean)) ** 0.5
    return bool((np.abs(pca.mean_ - mean) <= allowed + 1e-6 * np.abs(mean)).all())


def _largest_size(n_components: int) -> int:
    """Largest code size of the baselines' curves: twice the autoencoder's, from 16 to 256."""
    return max(n_components, min(LARGEST_CURVE, max(2 * n_components, SMALLEST_CURVE)))


def _total(errors: ReconstructionError) -> ErrorFigures:
    return {"error": errors.total, "explained_variance": finite(errors.explained_variance)}
