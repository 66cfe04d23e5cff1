"""Each column of a table by the likelihood of its kind, and all columns in balance."""

# Shape letters: B rows in a batch, E features, m columns of L levels each.

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
from isthmus.losses.reconstruction import Link, Reconstruction
from isthmus.missing import filled
from isthmus.types import Facts

RAREST = 1e-6
"""No probability of a level is taken to be smaller: one that never came may come yet."""

RARE = 0.05
"""Where a straight line stands for a logistic curve, it is no steeper than one of a level as rare
as this: else a level in a hundred would be certain as soon as PCA's guess leaves zero."""

LARGEST_LOG, FAR = 30.0, 10.0
"""Of a rate: larger logarithms, or what is farther above that of the mean, have no place among
numbers that are squared."""

LIKELIHOODS = ("poisson", "negative_binomial")
"""Of counts."""

NUMBERS = ("scale", "weight", "dispersion", "largest", "slope", "offset")
"""What of a plan is numbers rather than places."""


@dataclass(kw_only=True)
class Mixed(Reconstruction):
    """Numbers by squared or Huber loss, truths and categories by cross-entropy, counts by deviance.

    Each column's loss is divided by what it costs to know nothing but how its values are
    distributed (the variance of a number, the entropy of a category, the mean deviance of a count),
    so that every column begins at 1 and none drowns the others. Columns with too many levels for a
    number each are judged by the squared error of their codes.
    """

    JUDGES_COUNTS: ClassVar[bool] = True

    numeric: str = "squared"
    """"squared" or "huber", the loss of numbers."""

    delta: float = 1.0
    """Where the square of the Huber loss ends, in standard deviations of the column, > 0."""

    counts: str = "poisson"
    """"poisson" or "negative_binomial", the likelihood of counts; how much the second is wider is
    told by the mean and the variance of each column."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
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
        """Elementwise, (B, E); those of one category add up to its cross-entropy."""
        return self._errors(raw, x, self.sizes(x))

    def errors_with_missing(self, raw: Tensor, x: Tensor) -> Tensor:
        """The same where `x` is known; a row's depth is told by what is known of it."""
        return self._errors(raw, filled(x), self.sizes(x))

    def _errors(self, raw: Tensor, x: Tensor, sizes: Tensor | None) -> Tensor:
        if self.columns is None:
            return self._of_numbers(raw, x)
        plan = self.plan.to(raw)
        parts = [self._of_numbers(raw[:, plan.numbers], x[:, plan.numbers])]
        values = x * plan.scale
        if len(plan.truths):
            at = plan.truths
            parts.append(_of_truths(raw[:, at], values[:, at]) * plan.weight[at])
        if len(plan.counts):
            at = plan.counts
            log_rate = raw[:, at].clamp(max=plan.largest)
            log_rate = log_rate if sizes is None else log_rate + sizes.log()
            lost = half_deviance(log_rate, values[:, at], plan.dispersion)
            parts.append(lost * plan.weight[at])
        for at in plan.levels:
            likely = torch.log_softmax(raw[:, at], dim=-1)
            parts.append((-values[:, at] * likely * plan.weight[at]).flatten(1))
        return self.in_columns(torch.cat(parts, dim=1)[:, plan.back])

    def mean(self, raw: Tensor) -> Tensor:
        """(B, E): numbers as they are, probabilities of truths and levels, rates of counts."""
        if self.columns is None:
            return raw
        plan = self.plan.to(raw)
        parts = [raw[:, plan.numbers]]
        if len(plan.truths):
            parts.append(torch.sigmoid(raw[:, plan.truths]) / plan.scale[plan.truths])
        if len(plan.counts):
            rate = raw[:, plan.counts].clamp(max=plan.largest).exp()
            parts.append(rate / plan.scale[plan.counts])
        for at in plan.levels:
            likely = torch.softmax(raw[:, at], dim=-1)
            parts.append((likely / plan.scale[at]).flatten(1))
        return torch.cat(parts, dim=1)[:, plan.back]

    def rebuilt(self, raw: Tensor, x: Tensor) -> Tensor:
        """The same, rates being those at the depth of the rows `x`."""
        sizes = self.sizes(x)
        return self.mean(raw) if sizes is None else self.mean(raw) * sizes

    def sizes(self, x: Tensor) -> Tensor | None:
        """(B, 1): the size factors of prepared rows (B, E); None where they have none."""
        return None if self._depth is None else self._depth(x)

    @property
    def link(self) -> Link:
        """The tangents at the mean, less steep where that is near an end."""
        if self.columns is None:
            return 1.0, 0.0
        return self.plan.slope, self.plan.offset

    def curvature(self, raw: Tensor) -> Tensor:
        """Elementwise; of a category, the variance of each level's indicator."""
        if self.columns is None:
            return super().curvature(raw)
        plan = self.plan.to(raw)
        values = self.mean(raw.detach()) * plan.scale
        found = torch.full_like(raw, 2.0)
        for at in (plan.truths, *plan.levels):
            found[:, at] = values[:, at] * (1 - values[:, at]) * plan.weight[at]
        told = information(values[:, plan.counts], plan.dispersion)
        found[:, plan.counts] = told * plan.weight[plan.counts]
        return self.in_columns(found)

    def bound(self, facts: Facts) -> Self:
        """The same loss, which knows what the columns of the rows are."""
        known = super().bound(facts)
        for name in ("plan", "_depth"):
            known.__dict__.pop(name, None)
        return known

    def _of_numbers(self, raw: Tensor, x: Tensor) -> Tensor:
        if self.numeric == "squared":
            return (raw - x).square()
        return 2 * functional.huber_loss(raw, x, reduction="none", delta=self.delta)

    @cached_property
    def plan(self) -> "Plan":
        """Where the features of each kind of column are; of a loss that knows its rows."""
        assert self.facts is not None
        return Plan.of(self.facts, self.counts)

    @cached_property
    def _depth(self) -> SizeFactors | None:
        counts = None if self.facts is None else self.facts.counts
        return SizeFactors(self.facts) if self.facts and counts and counts.sized else None


def _of_truths(raw: Tensor, x: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(raw, x, reduction="none")


class Plan(NamedTuple):
    """Where the features of each kind are, and what balances them."""

    numbers: Tensor
    """The features that stray around a mean."""

    truths: Tensor
    counts: Tensor
    levels: tuple[Tensor, ...]
    """(m, L) features, for each number L of levels that columns have."""

    back: Tensor
    """(E,): where each feature is, once they are in the order of the above."""

    scale: Tensor
    """(E,): what a value was divided by."""

    weight: Tensor
    """(E,): one over what it costs to know but the mean."""

    dispersion: Tensor
    """(C,): of the counts, 0 where they are Poisson's."""

    largest: Tensor
    """(C,): no logarithm of a rate at the mean depth is taken to be larger."""

    slope: Tensor
    offset: Tensor
    """(E,) each: raw output = slope * x + offset, near the mean."""

    def to(self, like: Tensor) -> "Plan":
        """The same with numbers of the dtype, and all on the device, of a tensor."""
        if self.scale.dtype == like.dtype and self.scale.device == like.device:
            return self
        numbers = {n: getattr(self, n).to(like) for n in NUMBERS}
        places = {n: getattr(self, n).to(like.device) for n in ("numbers", "truths", "counts")}
        levels = tuple(at.to(like.device) for at in self.levels)
        return Plan(**numbers, **places, levels=levels, back=self.back.to(like.device))

    @classmethod
    def of(cls, facts: Facts, likelihood: str = "poisson") -> "Plan":
        """For rows of these columns."""
        places = _places(facts)
        scale, mean = torch.as_tensor(facts.scale), torch.as_tensor(facts.mean)
        order = torch.cat([at.flatten() for at in (*places[:3], *places[3])])
        value = (mean * scale).clamp(min=RAREST)
        weight, slope, offset = (torch.ones_like(scale) for _ in range(3))
        offset.zero_()
        numbers, truths, counts, levels = places
        share = value[truths].clamp(max=1 - RAREST)
        entropy = -torch.special.xlogy(share, share) - torch.special.xlogy(1 - share, 1 - share)
        weight[truths] = 1 / entropy
        steep = 1 / (share * (1 - share)).clamp(min=RARE)
        slope[truths], offset[truths] = steep, share.logit() - steep * share
        of_counts = _of_counts(facts, likelihood, value[counts], scale[counts])
        weight[counts], slope[counts], offset[counts], dispersion = of_counts
        for at in levels:
            share = value[at]
            entropy = -torch.special.xlogy(share, share).sum(dim=1, keepdim=True)
            weight[at] = (1 / entropy.clamp(min=RAREST)).expand(at.shape)
            steep = 1 / share.clamp(min=RARE)
            slope[at], offset[at] = steep, share.log() - steep * share
        return cls(
            numbers=numbers,
            truths=truths,
            counts=counts,
            levels=levels,
            back=torch.argsort(order),
            scale=scale,
            weight=weight,
            dispersion=dispersion,
            largest=(value[counts].log() + FAR).clamp(min=LARGEST_LOG),
            slope=slope * torch.where(torch.isin(torch.arange(len(scale)), numbers), 1.0, scale),
            offset=offset,
        )


def _of_counts(
    facts: Facts, likelihood: str, rate: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, slope, offset and dispersion of counts, (C,) each."""
    if facts.counts is None:  # models of before there were facts of counts
        steep = 1 / (rate + scale)
        weight = 2 * rate / scale.square()
        return weight, steep, rate.log() - steep * rate, torch.zeros_like(rate)
    known = facts.counts
    wide = likelihood == "negative_binomial"
    cost = torch.as_tensor(known.cost if wide else known.poisson_cost)
    dispersion = torch.as_tensor(known.dispersion) * wide
    # d log(rate) / d log(1 + rate) times the spread of the latter, by which the network's view of
    # a count was divided; rates near 0 end the curve, which one deviation of a count is far from.
    steep = torch.as_tensor(known.log_scale) * (1 + rate) / (rate + scale.clamp(max=1))
    # Slopes are multiplied by what a value was divided by, which these views of counts were not.
    return 1 / cost, steep / scale, rate.log(), dispersion


def _places(facts: Facts) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """The features of numbers, truths and counts, and of categories by their number of levels."""
    places: dict[str, list[int]] = defaultdict(list)
    levels: dict[int, list[list[int]]] = defaultdict(list)
    start = 0
    for likelihood, size in facts.columns or ():
        own = list(range(start, start + size))
        if likelihood == "categorical":
            levels[size].append(own)
        else:
            places[likelihood] += own
        start += size
    kinds = [torch.tensor(places[kind]).long() for kind in ("squared", "bernoulli", "count")]
    return (*kinds, tuple(torch.tensor(own) for _, own in sorted(levels.items())))  # type: ignore[return-value]
