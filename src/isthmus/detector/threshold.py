"""From which score on a row is odd, and how sure that is."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isthmus.types import Array

FAR_OUT = 3.0
"""Quartile distances above the upper quartile beyond which a value is far out."""


SAME = 3
"""Decimals of logarithms: scores of equal rows differ by rounding."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Rows that score above `value` are odd."""

    value: float
    statement: str
    """What it promises, in one sentence."""


def from_held_out(
    scores: Array, rate: float, confidence: float, *, robust: bool = False
) -> Threshold:
    """The lowest threshold that, with this confidence, at most `rate` of such rows lie above.

    `scores` (m,) are those of rows that nothing was learned from. Where j of m independent scores
    lie above a threshold at the next one, the share of all rows above it is Beta(j + 1, m - j)
    distributed (order statistics; Wilks 1941), whatever the scores' distribution is. `robust`
    leaves out the evident outliers among them, for rows other than which the threshold is then
    meant.
    """
    usual = _usual(scores) if robust else scores
    ordered, m = np.sort(usual), len(usual)
    above = np.arange(m)
    sure = np.asarray(stats.beta.cdf(rate, above + 1, m - above))
    enough = np.flatnonzero(sure >= confidence)
    allowed = int(enough[-1]) if len(enough) else 0
    value = float(ordered[m - 1 - allowed])
    text = (
        f"with {confidence if len(enough) else sure[0]:.0%} confidence at most {rate:.3g} of rows "
        f"like the training rows are called odd: {int((usual > value).sum())} of {m} held-out rows "
        "were"
    )
    if m < len(scores):
        text += f", not counting {len(scores) - m} that are odd beyond doubt"
    if not len(enough):
        needed = math.ceil(math.log(1 - confidence) / math.log(1 - rate))
        text += f"; for {confidence:.0%}, {needed} of them are needed"
    return Threshold(value=value, statement=text)


def _usual(scores: Array) -> Array:
    """The scores without those far out on a logarithmic scale (Tukey 1977).

    Equal scores count once: most rows may be copies of one, and what is not is not yet far out.
    """
    logs = np.log(scores + np.finfo(np.float32).tiny).round(SAME)
    low, high = np.percentile(np.unique(logs), (25, 75))
    return np.asarray(scores[logs <= high + FAR_OUT * (high - low)])


def from_contamination(scores: Array, share: float) -> Threshold:
    """The threshold above which `share` of the training rows' `scores` (n,) lie."""
    value = float(np.quantile(scores, 1 - share))
    found = float((scores > value).mean())
    text = f"{found:.3g} of the training rows are called odd, as asked"
    if abs(found - share) > 1 / len(scores):
        text = (
            f"{found:.3g} of the training rows are called odd, not {share:.3g} as asked: too many "
            "have the same score"
        )
    return Threshold(value=value, statement=text)
