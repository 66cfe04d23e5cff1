"""Everything the report shows, gathered as plain values, so that it can be drawn without data."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from isthmus.baselines import PCABaseline
from isthmus.data import Subset, align, check_rows, has_missing, is_streamed, open_source, spread
from isthmus.estimator import Autoencoder
from isthmus.metrics import ReconstructionError
from isthmus.report.data import codes as code_views
from isthmus.report.data.facts import facts
from isthmus.report.data.fit_history import history
from isthmus.report.data.jpeg import code_range, domains, scale_note
from isthmus.report.data.row_access import codes_of, looked_at
from isthmus.report.data.samples import groups, per_feature
from isthmus.types import Array, Index, Source

FORMAT = 2
"""The version of the evidence's layout."""

MOST_MEASURED, MOST_CODED = 20_000, 5_000
CURVE_POINTS, SMALLEST_CURVE, LARGEST_CURVE = 48, 16, 256
SAME_MEAN, BY_CHANCE = 1e-3, 5.0


def gather(
    ae: Autoencoder,
    source: Any,
    *,
    color: Any = None,
    color_name: str | None = None,
) -> dict[str, Any]:
    """The evidence of how good the code of `ae` is on `source`, as values the json module writes.

    Right after a fit, on the rows it was fitted on, errors are those of the held-out rows;
    otherwise of all rows. At most 20,000 rows are measured, 5,000 coded and 3,000 drawn, evenly
    spaced. `color` (n,) colours the map of codes: labels or numbers, one for each row.

    Raises DataError or RequestError (both ValueError) where the rows do not fit the model.
    """
    rows = align(open_source(source), ae.preparation_.schema)
    check_rows(rows, at_least=1, allow_missing=ae.preparation_.allow_missing)
    judged = _Judged.of(ae, rows)
    coded = spread(judged.everything, MOST_CODED)
    codes = codes_of(ae, Subset(rows, coded))
    at = spread(np.arange(len(coded)), code_views.MOST_POINTS)
    return {
        "format": FORMAT,
        **facts(ae, rows),
        "history": history(ae),
        "measured": judged.figures(),
        "curve": judged.curve(),
        "rows": groups(ae, rows, judged.measured, judged.errors.per_row),
        "features": per_feature(
            judged.errors.per_feature, judged.pca_errors.per_feature, rows.schema
        ),
        "map": code_views.code_map(codes[at], coded[at])
        | {"color": code_views.colouring(color, color_name, len(rows), coded[at])},
        "usage": code_views.usage(codes),
        "images": _images(ae, rows, judged, codes[np.isin(coded, judged.learned)]),
    }


@dataclass
class _Judged:
    """The rows that the figures are of, and what autoencoder and PCA make of them."""

    ae: Autoencoder
    source: Source
    learned: Index
    """The rows PCA was fitted on: those the autoencoder learned from, where they are known."""

    measured: Index
    unseen: bool
    pca: PCABaseline
    reference: Array
    errors: ReconstructionError
    pca_errors: ReconstructionError

    @classmethod
    def of(cls, ae: Autoencoder, source: Source) -> Self:
        """Measure the held-out rows where `source` is what `ae` was fitted on, else all."""
        everything = looked_at(source)
        reference = ae.preparation_.measured(ae.mean_)[0]
        pca = PCABaseline(_largest_size(ae.n_components_))
        learned, validation = _rows_of_fit(ae, source)
        unseen = bool(len(validation)) and _same_mean(
            pca.fit(source, ae.preparation_, learned),
            reference,
            sampled=len(learned) + len(validation) < len(source),
        )
        if not unseen:
            learned, validation = everything, everything
            pca.fit(source, ae.preparation_, learned)
        measured = spread(validation, MOST_MEASURED)
        return cls(
            ae=ae,
            source=source,
            learned=learned,
            measured=measured,
            unseen=unseen,
            pca=pca,
            reference=reference,
            errors=ae.evaluate(Subset(source, measured)),
            pca_errors=pca.evaluate(
                source, measured, n_components=ae.n_components_, reference=reference
            ),
        )

    @property
    def everything(self) -> Index:
        """All rows of the source that are looked at."""
        return looked_at(self.source)

    def figures(self) -> dict[str, Any]:
        """Error and explained variance of both, of which rows."""
        return {
            "rows": len(self.measured),
            "unseen": self.unseen,
            "validation": self._before_return(),
            "pca_rows": self.pca.n_rows_,
            "ae": _total(self.errors),
            "pca": _total(self.pca_errors)
            | {"n_components": min(self.ae.n_components_, len(self.pca.components_))},
        }

    def _before_return(self) -> dict[str, Any] | None:
        """Where the fit came back to PCA of all its rows: what PCA of some made of the others."""
        events = [r for r in self.ae.history_ if r.get("event") == "pca" and "validation" in r]
        return (
            {name: _finite(v) for name, v in events[-1]["validation"].items()} if events else None
        )

    def curve(self) -> dict[str, Any]:
        """PCA's explained variance for each code size, and the size at which it reaches ours."""
        explained = self.pca.curve(self.source, self.measured, reference=self.reference)
        wanted = self.errors.explained_variance
        reached = np.flatnonzero(explained >= wanted - 1e-9)
        sizes = np.unique(np.geomspace(1, len(explained), CURVE_POINTS).round().astype(int))
        return {
            "sizes": sizes.tolist(),
            "pca": [_finite(explained[size - 1]) for size in sizes],
            "reached_at": int(reached[0]) + 1 if len(reached) else None,
            "largest": len(explained),
        }


def _rows_of_fit(ae: Autoencoder, source: Source) -> tuple[Index, Index]:
    """Rows learned from and held out, both empty unless `source` is what `ae` was fitted on."""
    nothing = np.arange(0)
    known = hasattr(ae, "train_rows_") and ae.facts_["rows"] == len(source)
    if not known or any(record.get("event") == "pca" for record in ae.history_):
        # A model that fell back to PCA learned from the held-out rows too.
        return nothing, nothing
    if is_streamed(source):
        return np.setdiff1d(looked_at(source), ae.validation_rows_), ae.validation_rows_
    return np.asarray(ae.train_rows_), ae.validation_rows_


def _same_mean(pca: PCABaseline, mean: Array, *, sampled: bool) -> bool:
    """Whether PCA's rows have the mean of the rows the autoencoder learned from.

    As many rows of another origin do not, nor do rows that were weighted. Some that are `sampled`
    from all stray from it by chance.
    """
    share = max(SAME_MEAN, BY_CHANCE / pca.n_rows_**0.5) if sampled else SAME_MEAN
    allowed = share * float(pca.variance_.sum() / len(mean)) ** 0.5
    return bool((np.abs(pca.mean_ - mean) <= allowed + 1e-6 * np.abs(mean)).all())


def _largest_size(n_components: int) -> int:
    """How many components PCA's curve needs: ours twice over, within reason."""
    return max(n_components, min(LARGEST_CURVE, max(2 * n_components, SMALLEST_CURVE)))


def _total(errors: ReconstructionError) -> dict[str, Any]:
    return {"error": errors.total, "explained_variance": _finite(errors.explained_variance)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _images(
    ae: Autoencoder, source: Source, judged: _Judged, codes: Array
) -> dict[str, Any] | None:
    if source.schema.layout != "image" or has_missing(source):
        return None  # no picture format knows missing pixels
    found = domains(source, judged.learned, judged.measured, None)
    low, high = code_range(codes)
    return {
        "domains": [domain.to_json() for domain in found],
        "measured": [domain.beside_jpeg(ae, low, high) for domain in found],
        "scale_note": scale_note(found[0].levels),
    }
