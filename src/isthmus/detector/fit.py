"""Fitting a detector: trim rows, hold rows out, fit autoencoders and build their memories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from isthmus.data.source import Source, Subset
from isthmus.data.splitting.holdout import count_distinct
from isthmus.detector.defaults import default_autoencoder, prepared_rows, untrained_autoencoder
from isthmus.detector.holdout import hold_out
from isthmus.detector.member import (
    EnsembleMember,
    fit_column_scale,
    prepared_pairs,
    squared_deviations,
)
from isthmus.detector.memory import Memory, max_memory_rows, subsample
from isthmus.detector.overlaps import TrainingWindows
from isthmus.detector.trimming import find_inliers
from isthmus.errors import DataError, DivergenceError
from isthmus.estimator import Autoencoder
from isthmus.types import Array, Index

MIN_ROWS = 2
MIN_DISTINCT, MIN_DISTINCT_FRACTION = 20, 0.05
"""From so many distinct rows on, the distinct scores must be at least this fraction of them."""


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """The settings of a detector that its fit depends on."""

    autoencoder: Autoencoder | None
    n_components: int | None
    n_estimators: int
    n_neighbors: int
    robust: bool
    device: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class FittedDetector:
    """The result of a fit."""

    members: list[EnsembleMember]
    held_out_rows: Index
    """(m,): rows that no autoencoder was trained on, ascending."""

    held_out_scores: Array
    """(m,): their scores, from memories that do not contain them."""

    inlier_mask: Array
    """(n,) bool: which training rows were not trimmed."""

    train_rows: Index
    """(n,): numbers of the training rows among the given rows; a sample if those are on disk."""

    train_scores: Array
    """(n,): scores of the training rows."""


def fit_detector(settings: DetectorSettings, source: Source, train_rows: Index) -> FittedDetector:
    """Fit a detector on the rows of a source, which have the numbers `train_rows` (n,)."""
    untrained = untrained_autoencoder(source, settings.device, settings.seed)
    rows, missing = prepared_rows(untrained, source)
    everything = np.ones(len(rows), bool)
    inliers = find_inliers(rows, settings.seed) if settings.robust else everything
    split = hold_out(source, held_out_fraction(len(rows)), settings.seed)
    available = np.zeros(len(rows), bool)
    # Windows that share samples with held-out windows are in neither part.
    available[np.asarray(split.train)] = True
    trained_on = cover_missing(inliers & available, missing, available)
    held_out, available = split.validation[~trained_on[split.validation]], available | trained_on
    autoencoders = _fit_autoencoders(settings, source, rows, trained_on)
    windows = TrainingWindows.of(source)
    first = [
        _build_member(fit, source, (inliers & available, available), settings, windows)
        for fit in autoencoders
    ]
    held_out_scores = scores(first, Subset(source, held_out)) if len(held_out) else np.empty(0)
    # The threshold no longer needs the held-out rows, so the final memories include them.
    members = [
        _build_member(
            member.autoencoder,
            source,
            (inliers, everything),
            settings,
            windows,
            member.column_scale,
        )
        for member in first
    ]
    train_scores = scores(members, source)
    check_scores(train_scores, source)
    return FittedDetector(
        members=members,
        held_out_rows=train_rows[held_out],
        held_out_scores=held_out_scores,
        inlier_mask=inliers,
        train_rows=train_rows,
        train_scores=train_scores,
    )


def _fit_autoencoders(
    settings: DetectorSettings, source: Source, rows: Array, trained_on: Array
) -> list[Autoencoder]:
    """The autoencoders, fitted on the rows `trained_on` (n,) bool of a source, prepared (n, E)."""
    if trained_on.sum() < MIN_ROWS:
        raise DataError(f"{source.origin}: too few rows to fit a detector; give more")
    template = settings.autoencoder or default_autoencoder(
        rows[trained_on], source.schema, settings.device, settings.seed
    )
    if settings.n_components is not None:
        template = clone(template).set_params(n_components=settings.n_components)
    weight = trained_on.astype(float)
    autoencoders = [
        clone(template).set_params(random_state=settings.seed + i)
        for i in range(settings.n_estimators)
    ]
    return [autoencoder.fit(source, sample_weight=weight) for autoencoder in autoencoders]


def cover_missing(chosen: Array, missing: Array, preferred: Array) -> Array:
    """(n,) bool: the `chosen` rows, and the fewest others that a network needs in addition.

    Every feature that has a value in some row must have one in a chosen row, and if any row has
    missing values, a chosen row must have some: networks learn neither otherwise. `missing` (n, E)
    marks missing values. Rows in `preferred` (n,) are added first among equally useful ones.
    """
    chosen = chosen.copy()
    uncovered = missing[chosen].all(axis=0) & ~missing.all(axis=0)
    while uncovered.any():
        best = int(np.argmax(2 * (~missing[:, uncovered]).sum(axis=1) + preferred))
        chosen[best], uncovered = True, uncovered & missing[best]
    incomplete = missing.any(axis=1)
    if incomplete.any() and not (incomplete & chosen).any():
        chosen[np.argmax(incomplete)] = True
    return np.asarray(chosen)


def held_out_fraction(rows: int) -> float:
    """A fifth of the rows, at least 100 but at most a third, and at most 5000."""
    return min(max(0.2 * rows, 100), 5000, rows / 3) / rows


def contributions(members: Sequence[EnsembleMember], source: Source) -> Array:
    """(n, D): the contribution of each column to the score of each row, averaged over members."""
    return np.concatenate(list(_contribution_batches(members, source)))


def scores(members: Sequence[EnsembleMember], source: Source) -> Array:
    """(n,): the sum of the contributions in each row; only one batch at a time is in memory."""
    return np.concatenate(
        [np.nansum(batch, axis=1) for batch in _contribution_batches(members, source)]
    )


def _contribution_batches(members: Sequence[EnsembleMember], source: Source) -> Iterator[Array]:
    """The contributions (B, D) of each batch of rows, averaged over members."""
    batches = (member.contribution_batches(source) for member in members)
    for parts in zip(*batches, strict=True):
        yield np.asarray(sum(parts) / len(members))


def check_scores(train_scores: Array, source: Source) -> None:
    """Raise DivergenceError if scores (n,) are not finite, or the same for different rows."""
    if not np.isfinite(train_scores).all():
        raise DivergenceError("some scores are not finite; scale the data")
    distinct = count_distinct(source, np.arange(len(source)))
    if distinct == 1:
        raise DivergenceError(
            f"{source.origin}: all rows are the same; none of them can be an outlier"
        )
    different = len(np.unique(train_scores))
    if distinct >= MIN_DISTINCT and different < MIN_DISTINCT_FRACTION * distinct:
        raise DivergenceError(
            f"the detector has collapsed: {distinct} different rows have {different} different "
            "scores; look for columns that dominate all others, or give another autoencoder"
        )


def _build_member(
    autoencoder: Autoencoder,
    source: Source,
    masks: tuple[Array, Array],
    settings: DetectorSettings,
    windows: TrainingWindows | None,
    column_scale: Array | None = None,
) -> EnsembleMember:
    """A member with a memory of the inliers, and one of all rows if some were trimmed.

    `masks` (n,) bool each are the inliers and all rows. Without `column_scale` it is fitted on a
    subsample of all rows.
    """
    inliers, everything = masks
    wanted = [inliers] if np.array_equal(inliers, everything) else [inliers, everything]
    size = max_memory_rows(autoencoder.preparation_.facts.n_features)
    chosen = [subsample(np.flatnonzero(mask), settings.seed, size) for mask in wanted]
    scale_rows = subsample(np.flatnonzero(everything), settings.seed)
    *remembered, scale_pairs = _take_pairs(autoencoder, source, [*chosen, scale_rows])
    extents = None if windows is None else windows.find(source)
    memories = [
        _build_memory(reconstructions, settings, rows, extents, windows)
        for (_, reconstructions), rows in zip(remembered, chosen, strict=True)
    ]
    if column_scale is None:
        part, sums = (
            None if extents is None else extents[scale_rows],
            autoencoder.preparation_.column_sums,
        )
        column_scale = fit_column_scale(squared_deviations(*scale_pairs, memories, sums, part))
    return EnsembleMember(autoencoder, memories, column_scale, windows)


def _build_memory(
    reconstructions: Array,
    settings: DetectorSettings,
    rows: Index,
    extents: Index | None,
    windows: TrainingWindows | None,
) -> Memory:
    if extents is None or windows is None:
        return Memory(reconstructions, settings.n_neighbors)
    count = windows.max_overlap_count
    return Memory(reconstructions, settings.n_neighbors, extents[rows], count)


def _take_pairs(
    autoencoder: Autoencoder, source: Source, selections: list[Index]
) -> list[tuple[Array, Array]]:
    """For each selection of rows (ascending), the rows and reconstructions, (M, E) float32."""
    parts: list[list[tuple[Array, Array]]] = [[] for _ in selections]
    start = 0
    for rows, reconstructions in prepared_pairs(autoencoder, source):
        for part, selection in zip(parts, selections, strict=True):
            low, high = np.searchsorted(selection, (start, start + len(rows)))
            inside = selection[low:high] - start
            part.append(
                (rows[inside].astype(np.float32), reconstructions[inside].astype(np.float32))
            )
        start += len(rows)
    return [
        (np.concatenate([rows for rows, _ in part]), np.concatenate([back for _, back in part]))
        for part in parts
    ]
