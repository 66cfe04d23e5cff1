"""Metrics of a code: reconstruction error, explained variance, and the use of its units."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from isthmus.missing import known_sums, mean_known
from isthmus.types import Array

CONSTANT_SHARE = 1e-8
DEAD_SHARE = 1e-4
DUPLICATE_CORRELATION = 0.99


class ReconstructionError(NamedTuple):
    """Mean squared errors of n rows with D features, and the share of variance explained.

    Missing values are left out.
    """

    per_row: Array
    """(n,): mean over the features; 0 for an empty row."""

    per_feature: Array
    """(D,): mean over the rows; 0 for an empty feature."""

    total: float
    """Mean over the rows."""

    explained_variance: float
    """1 - squared error / squared deviation from the reference; 1 is perfect, 0 is the mean row."""


def reconstruction_error(
    pairs: Iterable[tuple[Array, Array]],
    reference: Array,
    sums: Callable[[Array], Array] = np.asarray,
) -> ReconstructionError:
    """Errors of blocks of (rows, reconstructions), (b, E) each.

    `reference` (E,) is the mean of the training rows. The result does not depend on the size of
    the blocks. NaN in a row is a missing value. If a feature is several of the E numbers, `sums`
    adds up their squares (..., E) to those of D features.
    """
    per_row: list[Array] = []
    size = len(sums(np.zeros(len(reference))))
    per_feature, known, deviation = np.zeros(size), np.zeros(size), 0.0
    for rows, reconstruction in pairs:
        squared = sums((np.asarray(rows, np.float64) - reconstruction) ** 2)
        per_row.append(mean_known(squared))
        total, counts = known_sums(squared)
        per_feature, known = per_feature + total, known + counts
        deviation += float(known_sums((rows - reference) ** 2)[0].sum())
    errors = np.concatenate(per_row)
    explained = 1 - float(per_feature.sum()) / deviation if deviation > 0 else float("nan")
    return ReconstructionError(
        errors, per_feature / np.maximum(known, 1), float(errors.mean()), explained
    )


def psnr(error: float, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels of a mean squared error; infinite for no error."""
    return float("inf") if error <= 0 else float(10 * np.log10(peak**2 / error))


class CodeUsage(NamedTuple):
    """The use of the K units of a code over n rows."""

    variance: Array
    """(K,)."""

    dead: Array
    """(K,) bool: variance below 1e-4 of the largest. All units are dead if the largest is below
    1e-8 of the codes' mean square, since the code is then nearly constant."""

    duplicate_of: Array
    """(K,) int: an earlier unit with a correlation above 0.99 in absolute value, or -1."""

    correlation: Array
    """(K, K): Pearson's, 0 for dead units, 1 on the diagonal."""


def code_usage(codes: Array) -> CodeUsage:
    """Variance, dead and duplicate units, and correlation of (n, K) codes."""
    codes = np.asarray(codes, np.float64)
    variance = codes.var(axis=0)
    largest, size = variance.max(initial=0.0), np.square(codes).mean() if codes.size else 0.0
    dead = (variance <= DEAD_SHARE * max(largest, 1e-300)) | (largest <= CONSTANT_SHARE * size)
    scale = np.where(dead, 1.0, np.sqrt(variance))
    standard = np.where(dead, 0.0, (codes - codes.mean(axis=0)) / scale)
    correlation = standard.T @ standard / len(codes)
    np.fill_diagonal(correlation, 1.0)
    near = np.tril(np.abs(correlation) > DUPLICATE_CORRELATION, k=-1)
    duplicate_of = np.where(near.any(axis=1), near.argmax(axis=1), -1)
    return CodeUsage(variance, dead, duplicate_of, correlation)
