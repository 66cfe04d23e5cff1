"""The mixed loss: each column of a table by the likelihood of its kind, on one scale."""

# Shape letters: B rows in a batch, E features, C counts, m columns of L categories each.

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.counts import SizeFactors
from isthmus.errors import require
from isthmus.losses.deviance import half_deviance, information
from isthmus.losses.reconstruction import Reconstruction
from isthmus.missing import filled
from isthmus.types import Facts, LinearLink

LEAST_PROBABILITY = 1e-6
"""The least probability of a category: one without training rows may still occur."""

RARE = 0.05
"""The tangent of a logistic curve is no steeper than at this probability. Otherwise a category of
one row in a hundred would become certain as soon as PCA's prediction leaves zero."""

LARGEST_LOG, FAR = 30.0, 10.0
"""The largest logarithm of a rate, at least, and its largest distance above that of the mean."""

LIKELIHOODS = ("poisson", "negative_binomial")
"""The likelihoods of counts."""

FLOATS = ("scale", "weight", "dispersion", "largest", "slope", "offset")
INDICES = ("numbers", "booleans", "counts", "order")
"""The fields of a layout by their dtype."""


@dataclass(kw_only=True)
class Mixed(Reconstruction):
    """Squared or Huber loss of numbers, cross-entropy of categories, deviance of counts.

    The loss of each column is divided by that of a constant prediction: the variance of a number,
    the entropy of a category, the mean deviance of a count. Every column therefore begins at 1.
    Columns with too many categories for one feature each use the squared error of their codes.

    Example:
        >>> from isthmus.losses import Mixed
        >>> Mixed(counts="negative_binomial").needs_counts
        True
    """

    SUPPORTS_COUNTS: ClassVar[bool] = True

    numeric: str = "squared"
    """The loss of numbers: "squared" or "huber"."""

    delta: float = 1.0
    """The error at which the Huber loss becomes linear, in standard deviations, > 0."""

    counts: str = "poisson"
    """The likelihood of counts: "poisson" or "negative_binomial". The dispersion of the second is
    estimated from the mean and the variance of each column."""

    @property
    def needs_counts(self) -> bool:
        """Whether a likelihood of counts was chosen, which requires columns of counts."""
        return self.counts != "poisson"

    def network_output(self, output: str) -> str:
        """The kind's output, but "linear" instead of "bounded", since some outputs are logits."""
        return "linear" if output == "bounded" else output

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        require(
            self.numeric in ("squared", "huber"),
            f"Mixed: numeric={self.numeric!r} is not known; use 'squared' or 'huber'",
        )
        require(self.delta > 0, f"Mixed: delta={self.delta} must be positive")
        require(
            self.counts in LIKELIHOODS,
            f"Mixed: counts={self.counts!r} is not known; use 'poisson' or 'negative_binomial'",
        )

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """The elementwise loss (B, E); that of a category is the sum over its features."""
        return self._errors(raw, x, self.size_factors(x))

    def errors_with_missing(self, raw: Tensor, x: Tensor) -> Tensor:
        """The elementwise loss; size factors are those of the present values."""
        return self._errors(raw, filled(x), self.size_factors(x))

    def _errors(self, raw: Tensor, x: Tensor, sizes: Tensor | None) -> Tensor:
        if self.columns is None:
            return self._numeric_errors(raw, x)
        layout = self.layout.to(raw)
        parts = [self._numeric_errors(raw[:, layout.numbers], x[:, layout.numbers])]
        values = x * layout.scale
        if len(layout.booleans):
            index = layout.booleans
            cross_entropy = functional.binary_cross_entropy_with_logits(
                raw[:, index], values[:, index], reduction="none"
            )
            parts.append(cross_entropy * layout.weight[index])
        if len(layout.counts):
            index = layout.counts
            log_rate = raw[:, index].clamp(max=layout.largest)
            log_rate = log_rate if sizes is None else log_rate + sizes.log()
            deviance = half_deviance(log_rate, values[:, index], layout.dispersion)
            parts.append(deviance * layout.weight[index])
        for index in layout.categories:
            log_probability = torch.log_softmax(raw[:, index], dim=-1)
            weight = layout.weight[index]
            parts.append((-values[:, index] * log_probability * weight).flatten(1))
        return self.average_columns(torch.cat(parts, dim=1)[:, layout.order])

    def mean(self, raw: Tensor) -> Tensor:
        """(B, E): numbers, probabilities of booleans and categories, and rates of counts."""
        if self.columns is None:
            return raw
        layout = self.layout.to(raw)
        parts = [raw[:, layout.numbers]]
        if len(layout.booleans):
            index = layout.booleans
            parts.append(torch.sigmoid(raw[:, index]) / layout.scale[index])
        if len(layout.counts):
            rate = raw[:, layout.counts].clamp(max=layout.largest).exp()
            parts.append(rate / layout.scale[layout.counts])
        for index in layout.categories:
            probability = torch.softmax(raw[:, index], dim=-1)
            parts.append((probability / layout.scale[index]).flatten(1))
        return torch.cat(parts, dim=1)[:, layout.order]

    def reconstruct(self, raw: Tensor, x: Tensor) -> Tensor:
        """The same with rates times the size factors of the rows `x`."""
        sizes = self.size_factors(x)
        return self.mean(raw) if sizes is None else self.mean(raw) * sizes

    def size_factors(self, x: Tensor) -> Tensor | None:
        """(B, 1): the size factors of prepared rows (B, E); None for rows without any."""
        return None if self._size_factors is None else self._size_factors(x)

    @property
    def link(self) -> LinearLink:
        """The tangents at the mean; less steep if that is near 0 or 1."""
        if self.columns is None:
            return 1.0, 0.0
        return self.layout.slope, self.layout.offset

    def curvature(self, raw: Tensor) -> Tensor:
        """The elementwise curvature; for a category the variance of each indicator."""
        if self.columns is None:
            return super().curvature(raw)
        layout = self.layout.to(raw)
        values = self.mean(raw.detach()) * layout.scale
        curvature = torch.full_like(raw, 2.0)
        for index in (layout.booleans, *layout.categories):
            variance = values[:, index] * (1 - values[:, index])
            curvature[:, index] = variance * layout.weight[index]
        fisher = information(values[:, layout.counts], layout.dispersion)
        curvature[:, layout.counts] = fisher * layout.weight[layout.counts]
        return self.average_columns(curvature)

    def with_facts(self, facts: Facts) -> Self:
        """A copy of the loss for rows with these facts."""
        loss = super().with_facts(facts)
        for name in ("layout", "_size_factors"):
            loss.__dict__.pop(name, None)
        return loss

    def _numeric_errors(self, raw: Tensor, x: Tensor) -> Tensor:
        if self.numeric == "squared":
            return (raw - x).square()
        return 2 * functional.huber_loss(raw, x, reduction="none", delta=self.delta)

    @cached_property
    def layout(self) -> "FeatureLayout":
        """The features of each kind of column; only for a loss with facts."""
        assert self.facts is not None
        return FeatureLayout.of(self.facts, self.counts)

    @cached_property
    def _size_factors(self) -> SizeFactors | None:
        counts = None if self.facts is None else self.facts.counts
        return (
            SizeFactors(self.facts) if self.facts and counts and counts.has_size_factors else None
        )


class FeatureLayout(NamedTuple):
    """The features of each kind of column, and the constants of their losses."""

    numbers: Tensor
    """The features of numeric columns."""

    booleans: Tensor
    counts: Tensor
    categories: tuple[Tensor, ...]
    """(m, L) features, for each number L of categories that columns have."""

    order: Tensor
    """(E,): sorts features in the order of the above back into their own order."""

    scale: Tensor
    """(E,): the divisor of a value."""

    weight: Tensor
    """(E,): one over the loss of a constant prediction."""

    dispersion: Tensor
    """(C,): the dispersion of counts, 0 for Poisson."""

    largest: Tensor
    """(C,): the largest logarithm of a rate at size factor 1."""

    slope: Tensor
    offset: Tensor
    """(E,) each: raw output = slope * x + offset, near the mean."""

    def to(self, like: Tensor) -> "FeatureLayout":
        """The same on the device of a tensor, with floats of its dtype."""
        if self.scale.dtype == like.dtype and self.scale.device == like.device:
            return self
        floats = {name: getattr(self, name).to(like) for name in FLOATS}
        indices = {name: getattr(self, name).to(like.device) for name in INDICES}
        categories = tuple(index.to(like.device) for index in self.categories)
        return FeatureLayout(**floats, **indices, categories=categories)

    @classmethod
    def of(cls, facts: Facts, likelihood: str = "poisson") -> "FeatureLayout":
        """The layout of rows with these facts."""
        numbers, booleans, counts, categories = _features_by_kind(facts)
        scale, mean = torch.as_tensor(facts.scale), torch.as_tensor(facts.mean)
        indices = (numbers, booleans, counts, *categories)
        order = torch.cat([index.flatten() for index in indices])
        value = (mean * scale).clamp(min=LEAST_PROBABILITY)
        weight, slope, offset = (torch.ones_like(scale) for _ in range(3))
        offset.zero_()
        share = value[booleans].clamp(max=1 - LEAST_PROBABILITY)
        entropy = -torch.special.xlogy(share, share) - torch.special.xlogy(1 - share, 1 - share)
        weight[booleans] = 1 / entropy
        steep = 1 / (share * (1 - share)).clamp(min=RARE)
        slope[booleans], offset[booleans] = steep, share.logit() - steep * share
        constants = _count_constants(facts, likelihood, value[counts], scale[counts])
        weight[counts], slope[counts], offset[counts], dispersion = constants
        for index in categories:
            share = value[index]
            entropy = -torch.special.xlogy(share, share).sum(dim=1, keepdim=True)
            weight[index] = (1 / entropy.clamp(min=LEAST_PROBABILITY)).expand(index.shape)
            steep = 1 / share.clamp(min=RARE)
            slope[index], offset[index] = steep, share.log() - steep * share
        return cls(
            numbers=numbers,
            booleans=booleans,
            counts=counts,
            categories=categories,
            order=torch.argsort(order),
            scale=scale,
            weight=weight,
            dispersion=dispersion,
            largest=(value[counts].log() + FAR).clamp(min=LARGEST_LOG),
            slope=slope * torch.where(torch.isin(torch.arange(len(scale)), numbers), 1.0, scale),
            offset=offset,
        )


def _count_constants(
    facts: Facts, likelihood: str, rate: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, slope, offset and dispersion of counts, (C,) each."""
    if facts.counts is None:  # models that were saved without facts of counts
        steep = 1 / (rate + scale)
        weight = 2 * rate / scale.square()
        return weight, steep, rate.log() - steep * rate, torch.zeros_like(rate)
    counts = facts.counts
    is_negative_binomial = likelihood == "negative_binomial"
    cost = torch.as_tensor(counts.cost if is_negative_binomial else counts.poisson_cost)
    dispersion = torch.as_tensor(counts.dispersion) * is_negative_binomial
    # d log(rate) / d log(1 + rate) times the standard deviation of the latter, by which the input
    # of the network was divided. Rates near 0 are clamped, where the curve ends.
    steep = torch.as_tensor(counts.log_scale) * (1 + rate) / (rate + scale.clamp(max=1))
    # `of` multiplies slopes by the divisor of a value, which does not apply to these inputs.
    return 1 / cost, steep / scale, rate.log(), dispersion


def _features_by_kind(facts: Facts) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """The features of numbers, booleans and counts, and of categories by their number."""
    features: dict[str, list[int]] = defaultdict(list)
    categories: dict[int, list[list[int]]] = defaultdict(list)
    start = 0
    for likelihood, size in facts.columns or ():
        column = list(range(start, start + size))
        if likelihood == "categorical":
            categories[size].append(column)
        else:
            features[likelihood] += column
        start += size
    numbers, booleans, counts = (
        torch.tensor(features[kind]).long() for kind in ("squared", "bernoulli", "count")
    )
    groups = tuple(torch.tensor(columns) for _, columns in sorted(categories.items()))
    return numbers, booleans, counts, groups
