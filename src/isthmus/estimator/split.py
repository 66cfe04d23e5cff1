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
    is_streamed,
    pin_sample,
    pin_spread,
    streamed_split,
    validation_split,
)
from isthmus.data.splitting.segments import extents_of
from isthmus.estimator import defaults
from isthmus.estimator.settings import FitSettings
from isthmus.missing import filled
from isthmus.types import Array, Index, Numbers, Source


@dataclass(frozen=True, kw_only=True)
class TrainValidationSplit:
    """The rows given and how they are divided; rows of no weight are in no part."""

    source: Source
    weight: Array
    """(n,): how much each row of the source counts; all alike where the source is streamed."""

    validation_source: Source | None
    """Rows given to judge by; then none of the source are held out."""

    train: Numbers
    validation: Index
    left_out: Index
    """Windows in neither part: they share samples with those held out, or are copies."""

    remarks: tuple[str, ...] = ()
    """What is worth knowing of how the rows are divided."""

    digest: str | None = None
    """What tells the rows of the source from others, where that is known already."""

    @classmethod
    def of(
        cls, settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
    ) -> "TrainValidationSplit":
        """As the request wants it: a share of the rows, by their content, is held out."""
        if is_streamed(source):
            return cls._of_streamed(settings, source, weight, validation_source)
        counted = np.flatnonzero(weight > 0)
        fraction = settings.validation_fraction
        if validation_source is not None:
            fraction = 0.0
        elif isinstance(fraction, str):
            fraction = defaults.choose_validation_fraction(float(weight[counted].sum()))
        train, validation = validation_split(
            source, counted, weight[counted], float(fraction), settings.split_seed
        )
        left_out = np.setdiff1d(counted, np.concatenate([train, validation]))
        return cls(
            source=source,
            weight=weight,
            validation_source=validation_source,
            train=train,
            validation=validation,
            left_out=left_out,
            remarks=_remarks(source, len(validation), len(left_out), wanted=float(fraction) > 0),
        )

    @classmethod
    def _of_streamed(
        cls, settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
    ) -> "TrainValidationSplit":
        assert is_streamed(source)
        fraction = settings.validation_fraction
        if validation_source is not None:
            fraction = 0.0
        elif isinstance(fraction, str):
            fraction = defaults.choose_validation_fraction(float(len(source)))
        fitness = Fitness(source, allow_missing=True)
        split = streamed_split(source, float(fraction), settings.split_seed, fitness.see)
        fitness.check()
        pin_sample(source, split)
        return cls(
            source=source,
            weight=weight,
            validation_source=validation_source,
            train=split.train,
            validation=split.validation,
            left_out=split.validation[:0],
            digest=split.digest,
        )

    @property
    def train_weight(self) -> Array:
        """How much each row to learn from counts."""
        if is_streamed(self.source):
            return self.weight[: len(self.train)]
        return np.asarray(self.weight[np.asarray(self.train)])

    def together(self) -> "TrainValidationSplit":
        """All rows of the source to learn from."""
        nothing = self.validation[:0]
        if is_streamed(self.source):
            return replace(self, train=AllBut(len(self.source)), validation=nothing)
        everything = np.sort(np.concatenate([self.train, self.validation, self.left_out]))
        return replace(self, train=everything, validation=nothing, left_out=nothing)

    def open_train(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows:
        """The rows to learn from, as the network will see them."""
        return rows_of(
            self.source, preparation, self.train, self.train_weight, dtype=dtype, device=device
        )

    def open_validation(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows | None:
        """The rows to judge by, if there are any."""
        if self.validation_source is not None:
            if is_streamed(self.validation_source):
                judging = pin_spread(self.validation_source)
            else:
                judging = np.arange(len(self.validation_source))
            return Rows(self.validation_source, preparation, judging, dtype=dtype, device=device)
        if not len(self.validation):
            return None
        weight = self.weight[self.validation]
        return Rows(
            self.source, preparation, self.validation, weight=weight, dtype=dtype, device=device
        )

    def fingerprint(self) -> dict[str, Any]:
        """What tells these rows and weights from others."""
        return {
            "rows": self.digest or digest(self.source),
            "validation": self.validation_source and digest(self.validation_source),
            "sample_weight": None if is_streamed(self.source) else _digest(self.weight),
        }


def _remarks(source: Source, validation: int, left_out: int, *, wanted: bool) -> tuple[str, ...]:
    if left_out:
        return (
            f"{validation} windows are held out in whole stretches; {left_out} that share samples "
            "with them are left out of training",
        )
    if wanted and not validation and extents_of(source) is not None:
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
