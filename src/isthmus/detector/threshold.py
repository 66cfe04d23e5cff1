"""The score above which a row is an outlier, and the guarantee that comes with it."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isthmus.types import Array

OUTER_FENCE = 3.0
"""Interquartile ranges above the upper quartile beyond which a score is a clear outlier."""

DECIMALS = 3
"""Decimals of log scores that are compared: scores of equal rows differ by rounding."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Rows that score above `value` are outliers."""

    value: float
    statement: str
    """The guarantee, in one sentence."""


def from_held_out(
    scores: Array, rate: float, confidence: float, *, robust: bool = False
) -> Threshold:
    """The lowest threshold that at most a fraction `rate` of new rows exceeds, with `confidence`.

    `scores` (m,) belong to held-out rows. If j of m independent scores exceed the next score, the
    fraction of all rows that exceed it has the distribution Beta(j + 1, m - j), whatever the
    distribution of the scores (order statistics; Wilks 1941). `robust` excludes clear outliers
    among the scores; the guarantee then holds for rows other than these.
    """
    included = _without_clear_outliers(scores) if robust else scores
    ordered, m = np.sort(included), len(included)
    above = np.arange(m)
    certainty = np.asarray(stats.beta.cdf(rate, above + 1, m - above))
    enough = np.flatnonzero(certainty >= confidence)
    allowed = int(enough[-1]) if len(enough) else 0
    value = float(ordered[m - 1 - allowed])
    achieved = confidence if len(enough) else certainty[0]
    text = (
        f"with {achieved:.0%} confidence, at most {rate:.3g} of rows like the training rows are "
        f"flagged as outliers ({int((included > value).sum())} of {m} held-out rows are flagged)"
    )
    if m < len(scores):
        count = len(scores) - m
        text += f", excluding {count} clear outlier{'' if count == 1 else 's'}"
    if not len(enough):
        needed = math.ceil(math.log(1 - confidence) / math.log(1 - rate))
        text += f"; {confidence:.0%} confidence needs {needed} held-out rows"
    return Threshold(value=value, statement=text)


def _without_clear_outliers(scores: Array) -> Array:
    """The scores inside the outer fence on a logarithmic scale (Tukey 1977).

    Equal scores count once. Otherwise, if most rows were copies of one row, every different row
    would be a clear outlier.
    """
    logs = np.log(scores + np.finfo(np.float32).tiny).round(DECIMALS)
    low, high = np.percentile(np.unique(logs), (25, 75))
    return np.asarray(scores[logs <= high + OUTER_FENCE * (high - low)])


def from_contamination(scores: Array, contamination: float) -> Threshold:
    """The threshold that a fraction `contamination` of the training `scores` (n,) exceeds."""
    value = float(np.quantile(scores, 1 - contamination))
    fraction = float((scores > value).mean())
    text = f"{fraction:.3g} of the training rows are flagged as outliers, as requested"
    if abs(fraction - contamination) > 1 / len(scores):
        text = (
            f"{fraction:.3g} of the training rows are flagged as outliers instead of the requested "
            f"{contamination:.3g}: too many have the same score"
        )
    return Threshold(value=value, statement=text)
