"""The head of tables: what is known of each row, judged column by column without autograd."""

# Shape letters: B rows in a batch, E features, T truths, C features of categories.

from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from isthmus.losses import RECONSTRUCTION, Bernoulli, Huber, Mixed, Squared
from isthmus.losses.mixed import Plan
from isthmus.losses.reconstruction import Reconstruction
from isthmus.missing import LEAST_SHARE
from isthmus.training.engines.base import Terms, alike
from isthmus.training.engines.dense.losses import AnyHead
from isthmus.training.engines.dense.passes import Arrays, Passes
from isthmus.types import Array, Index

KINDS = ("numbers", "truths", "levels")
"""Of columns, by the numbers that the kernel in C knows them by."""


class Parts(NamedTuple):
    """Where the features of each kind are, and what balances them."""

    numbers: Index | slice
    """Features judged by the square of their deviation; a slice where all are."""

    truths: Index | slice
    """Those judged by the logarithm of how likely they were, likewise."""

    levels: Index
    """(C,): the features of all categories, one category behind the other."""

    starts: Index
    """Where each category begins among these."""

    own: Index
    """(C,): the number of the category that each of these belongs to."""

    scale: Array
    """(E,): what a value was divided by."""

    weight: Array
    """(E,): what the loss of a feature is multiplied by."""

    share: Array
    """(E,): how much of its column each feature is."""

    least: float
    """How many columns a row is taken to have at least."""

    delta: float | None
    """Where the square of a number's loss ends, if it does."""

    @classmethod
    def of(cls, loss: Reconstruction) -> "Parts | None":
        """Those of a loss; None where it judges what is not told by these."""
        facts = loss.facts
        if facts is None or type(loss) not in (Squared, Huber, Bernoulli, Mixed):
            return None
        ones, none = np.ones(facts.n_features), np.zeros(0, np.intp)
        share, least = (ones, 1.0) if facts.share is None else (facts.share, LEAST_SHARE)
        short = isinstance(loss, Huber) or (isinstance(loss, Mixed) and loss.numeric == "huber")
        delta = loss.delta if short else None
        alike = cls(slice(None), none, none, none, none, ones, ones, share, least, delta)
        if isinstance(loss, Bernoulli):
            # Which is a mean over features, of which a column may have several.
            each = ones[0] if facts.columns is None else facts.n_features / len(facts.columns)
            return alike._replace(
                numbers=none, truths=slice(None), share=share * each, least=least * each
            )
        if isinstance(loss, Mixed) and loss.columns is not None:
            return alike._of(loss.plan)
        return alike

    def _of(self, plan: Plan) -> "Parts | None":
        """The same for columns of several kinds; None where some are counts."""
        if len(plan.counts):
            return None
        columns = [column for at in plan.levels for column in at.numpy()]
        sizes = [len(column) for column in columns]
        return self._replace(
            numbers=plan.numbers.numpy(),
            truths=plan.truths.numpy(),
            levels=np.concatenate([self.levels, *columns]),
            starts=np.cumsum([0, *sizes])[:-1],
            own=np.repeat(np.arange(len(sizes)), sizes),
            scale=plan.scale.numpy(),
            weight=plan.weight.numpy(),
        )

    def runs(self) -> list[tuple[int, int, int]]:
        """Kind (by its place in KINDS), first feature and size of what is judged alike."""
        every = np.arange(len(self.scale))
        found = []
        for kind, at in enumerate((self.numbers, self.truths)):
            places = every[at]
            # Truths are judged alike where they weigh alike.
            ends = (np.diff(places) != 1) | (kind * np.diff(self.weight[places]) != 0)
            pieces = np.split(places, np.flatnonzero(ends) + 1) if len(places) else []
            found += [(kind, int(piece[0]), len(piece)) for piece in pieces]
        pieces = np.split(self.levels, self.starts[1:]) if len(self.starts) else []
        return found + [(len(KINDS) - 1, int(piece[0]), len(piece)) for piece in pieces]

    def to(self, dtype: np.dtype) -> Self:
        """The same with numbers of a dtype."""
        numbers = {name: getattr(self, name).astype(dtype) for name in ("scale", "weight", "share")}
        return self._replace(**numbers)


class ColumnHead:
    """Squared and Huber errors of numbers, cross-entropies of truths and categories.

    The mean over rows of the mean over known columns, as `Reconstruction.per_row_known` has it. In
    memory that NumPy does not see, such as that of a stack, `rest` is asked.
    """

    of_code = False
    of_layer: tuple[Tensor, ...] = ()

    def __init__(self, parts: Parts, rest: AnyHead) -> None:
        self.parts, self.rest = parts, rest
        self.silent = rest.penalties
        self.kept: dict[np.dtype, Parts] = {}

    @property
    def penalties(self) -> tuple[str, ...]:
        """Those without weight."""
        return self.silent

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The weighted mean over rows of what is known of each."""
        if passes.arrays is None:
            return self.rest(passes, x, weight)
        parts = self._parts(passes.arrays.raw.dtype)
        told = _judged(parts, passes.arrays, x.flatten(1).numpy(), weight)
        return dict.fromkeys(self.silent, 0.0) | {RECONSTRUCTION: told}

    def _parts(self, dtype: np.dtype) -> Parts:
        if dtype not in self.kept:
            self.kept[dtype] = self.parts.to(dtype)
        return self.kept[dtype]


def _judged(parts: Parts, arrays: Arrays, x: Array, weight: Tensor) -> float:
    """The loss of rows (B, E); its slopes are left in the arrays."""
    raw, slope = arrays.raw, arrays.slope
    unknown = np.isnan(x)
    missing = unknown if unknown.any() else None
    known, columns = x, parts.share.sum()
    if missing is not None:
        known = np.where(missing, 0, x)
        columns = (~missing).astype(x.dtype) @ parts.share
    each = np.full(len(x), 1 / (len(x) * np.maximum(columns, parts.least)), x.dtype)
    if not alike(weight):
        each *= weight.numpy()
    lost = np.zeros(len(x), x.dtype)
    if _any(parts.numbers):
        lost += _of_numbers(parts, raw, known, missing, slope)
    if _any(parts.truths):
        lost += _of_truths(parts, raw, known, missing, slope)
    if len(parts.levels):
        lost += _of_levels(parts, raw, known, slope)
    slope *= each[:, None]
    return float(lost @ each)


def _any(at: Index | slice) -> bool:
    return isinstance(at, slice) or len(at) > 0


def _of_numbers(
    parts: Parts, raw: Array, known: Array, missing: Array | None, slope: Array
) -> Array:
    """(B,): the sums of the errors of each row; slopes (B, E) of the errors are filled in."""
    at = parts.numbers
    off = raw[:, at] - known[:, at]
    if missing is not None:
        off[missing[:, at]] = 0
    if parts.delta is None:
        slope[:, at] = 2 * off
        return np.asarray(np.einsum("be,be->b", off, off))
    short = off.clip(-parts.delta, parts.delta)
    slope[:, at] = 2 * short
    return np.asarray((short * (2 * off - short)).sum(1))


def _of_truths(
    parts: Parts, raw: Array, known: Array, missing: Array | None, slope: Array
) -> Array:
    at = parts.truths
    z, y, weight = raw[:, at], known[:, at] * parts.scale[at], parts.weight[at]
    small = np.exp(-np.abs(z))
    likely = np.where(z >= 0, 1, small) / (1 + small)
    error, turned = (z.clip(0) - z * y + np.log1p(small)) * weight, (likely - y) * weight
    if missing is not None:
        for one in (error, turned):
            one[missing[:, at]] = 0
    slope[:, at] = turned
    return np.asarray(error.sum(1))


def _of_levels(parts: Parts, raw: Array, known: Array, slope: Array) -> Array:
    """What is missing has no level at all, and so neither error nor slope."""
    at, starts, own = parts.levels, parts.starts, parts.own
    z, y = raw[:, at], known[:, at] * (parts.scale * parts.weight)[at]
    z -= np.maximum.reduceat(z, starts, axis=1)[:, own]
    likely = np.exp(z)
    total = np.add.reduceat(likely, starts, axis=1)
    z -= np.log(total)[:, own]
    likely *= (np.add.reduceat(y, starts, axis=1) / total)[:, own]
    slope[:, at] = likely - y
    return -np.asarray(np.einsum("bc,bc->b", y, z))
