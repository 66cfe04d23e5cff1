"""Which rows a fit learns from, and which it is judged by."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data import (
    AllBut,
    Fitness,
    Preparation,
    Rows,
    StreamedRows,
    digest,
    held_out_split,
    is_streamed,
    pin_sample,
    pin_spread,
    streamed_split,
)
from isthmus.data.splitting.segments import extents_of
from isthmus.estimator import defaults as choices
from isthmus.estimator.settings import Request
from isthmus.missing import filled
from isthmus.types import Array, Index, Numbers, Source


@dataclass(frozen=True, kw_only=True)
class Division:
    """The rows given and how they are divided; rows of no weight are in no part."""

    source: Source
    weight: Array
    """(n,): how much each row of the source counts; all alike where the source is streamed."""

    validation: Source | None
    """Rows given to judge by; then none of the source are held out."""

    train: Numbers
    held_out: Index
    left_out: Index
    """Windows in neither part: they share samples with those held out, or are copies."""

    remarks: tuple[str, ...] = ()
    """What is worth knowing of how the rows are divided."""

    digest: str | None = None
    """What tells the rows of the source from others, where that is known already."""

    @classmethod
    def of(
        cls, request: Request, source: Source, weight: Array, validation: Source | None
    ) -> "Division":
        """As the request wants it: a share of the rows, by their content, is held out."""
        if is_streamed(source):
            return cls._of_streamed(request, source, weight, validation)
        counted = np.flatnonzero(weight > 0)
        fraction = request.validation_fraction
        if validation is not None:
            fraction = 0.0
        elif isinstance(fraction, str):
            fraction = choices.choose_held_out(float(weight[counted].sum()))
        train, held_out = held_out_split(
            source, counted, weight[counted], float(fraction), request.split_seed
        )
        left_out = np.setdiff1d(counted, np.concatenate([train, held_out]))
        return cls(
            source=source,
            weight=weight,
            validation=validation,
            train=train,
            held_out=held_out,
            left_out=left_out,
            remarks=_remarks(source, len(held_out), len(left_out), wanted=float(fraction) > 0),
        )

    @classmethod
    def _of_streamed(
        cls, request: Request, source: Source, weight: Array, validation: Source | None
    ) -> "Division":
        assert is_streamed(source)
        fraction = request.validation_fraction
        if validation is not None:
            fraction = 0.0
        elif isinstance(fraction, str):
            fraction = choices.choose_held_out(float(len(source)))
        fitness = Fitness(source, gaps=True)
        split = streamed_split(source, float(fraction), request.split_seed, fitness.see)
        fitness.check()
        pin_sample(source, split)
        return cls(
            source=source,
            weight=weight,
            validation=validation,
            train=split.train,
            held_out=split.held_out,
            left_out=split.held_out[:0],
            digest=split.digest,
        )

    @property
    def train_weight(self) -> Array:
        """How much each row to learn from counts."""
        if is_streamed(self.source):
            return self.weight[: len(self.train)]
        return np.asarray(self.weight[np.asarray(self.train)])

    def together(self) -> "Division":
        """All rows of the source to learn from."""
        nothing = self.held_out[:0]
        if is_streamed(self.source):
            return replace(self, train=AllBut(len(self.source)), held_out=nothing)
        everything = np.sort(np.concatenate([self.train, self.held_out, self.left_out]))
        return replace(self, train=everything, held_out=nothing, left_out=nothing)

    def open_train(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows:
        """The rows to learn from, as the network will see them."""
        return rows_of(
            self.source, preparation, self.train, self.train_weight, dtype=dtype, device=device
        )

    def open_held_out(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows | None:
        """The rows to judge by, if there are any."""
        if self.validation is not None:
            if is_streamed(self.validation):
                judging = pin_spread(self.validation)
            else:
                judging = np.arange(len(self.validation))
            return Rows(self.validation, preparation, judging, dtype=dtype, device=device)
        if not len(self.held_out):
            return None
        weight = self.weight[self.held_out]
        return Rows(
            self.source, preparation, self.held_out, weight=weight, dtype=dtype, device=device
        )

    def fingerprint(self) -> dict[str, Any]:
        """What tells these rows and weights from others."""
        return {
            "rows": self.digest or digest(self.source),
            "validation": self.validation and digest(self.validation),
            "sample_weight": None if is_streamed(self.source) else _digest(self.weight),
        }


def _remarks(source: Source, held_out: int, left_out: int, *, wanted: bool) -> tuple[str, ...]:
    if left_out:
        return (
            f"{held_out} windows are held out in whole stretches; {left_out} that share samples "
            "with them are left out of training",
        )
    if wanted and not held_out and extents_of(source) is not None:
        return (
            "no windows are held out: too many would share samples with them, or be copies; a "
            "larger step or longer recordings leave some apart",
        )
    return ()


def _digest(weight: Array) -> str:
    return hashlib.blake2b(weight.tobytes(), digest_size=16).hexdigest()


def rows_of(
    source: Source,
    preparation: Preparation,
    rows: Numbers,
    weight: Array | None = None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    resident: int | None = None,
) -> Rows:
    """Rows as the network will see them, in memory or on disk as the source is.

    Prepared rows of more than `resident` bytes are not kept.
    """
    if is_streamed(source) and isinstance(rows, AllBut):
        return StreamedRows(source, preparation, rows, dtype=dtype, device=device)
    return Rows(
        source,
        preparation,
        rows,
        weight=weight,
        dtype=dtype,
        device=device,
        resident=resident,
    )


def mean_row(rows: Rows) -> Tensor:
    """(1, *shape): the weighted mean of what is known of prepared rows; 0 where nothing is."""
    sums, weights = [], []
    for positions, taken in rows.in_order():
        weight, x = rows.weight[positions], taken.flatten(1)
        sums.append(weight @ filled(x))
        weights.append(weight @ (~x.isnan()).to(weight))
    total = torch.stack(weights).sum(dim=0)
    mean = torch.stack(sums).sum(dim=0) / torch.where(total > 0, total, torch.ones_like(total))
    return mean.reshape(1, *rows.preparation.facts.shape).cpu()
