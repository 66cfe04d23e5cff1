"""The training and validation rows of a fit, and what fits of the same rows share."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.counts import LogCounts
from isthmus.data.loading.rows import Rows
from isthmus.data.loading.streamed_rows import StreamedRows
from isthmus.data.on_disk import ChunkedSource
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.row_numbers import AllRowsExcept
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import count_distinct, digest, split_and_count
from isthmus.data.splitting.segments import window_extents
from isthmus.data.splitting.streamed import cache_evenly_spaced, cache_sample, streamed_split
from isthmus.data.validate import FiniteCheck, check_rows, check_size
from isthmus.estimator import defaults
from isthmus.estimator.settings import FitSettings
from isthmus.missing import filled
from isthmus.pretraining import PCASolution, principal_components
from isthmus.training.shared_cache import cached
from isthmus.types import Array, Index, RowNumbers


@dataclass(frozen=True, kw_only=True)
class TrainValidationSplit:
    """The rows of a fit and their division; rows of weight 0 are in no part."""

    source: Source
    weight: Array
    """(n,): how much each row of the source counts; all equal if the source is streamed."""

    validation_source: Source | None
    """Validation rows that the user gave; then none are taken from the source."""

    train: RowNumbers
    validation: Index
    left_out: Index
    """Windows in neither part: they share samples with validation windows, or are copies."""

    reason: str
    """Why there are so many validation rows."""

    remarks: tuple[str, ...] = ()
    """Notes on the division for the user."""

    digest: str | None = None
    """A hash of the rows of the source, if it is computed already."""

    distinct: int = 0
    """How many of the validation rows of the source differ."""

    @classmethod
    def of(
        cls, settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
    ) -> "TrainValidationSplit":
        """The division that the settings ask for, drawn by the content of the rows."""
        if source.is_streamed:
            return cls._of_streamed(settings, source, weight, validation_source)
        counted = np.flatnonzero(weight > 0)
        fraction = _validation_fraction(settings, float(weight[counted].sum()), validation_source)
        # The values are checked in the pass that computes the hashes.
        check = None if is_checked_first(source) else training_check(source)
        (train, validation), distinct = split_and_count(
            source,
            counted,
            weight[counted],
            fraction.value,
            settings.split_seed,
            None if check is None else check.update,
        )
        if check is not None:
            if fraction.value <= 0:  # no hashes were needed
                check.update_all()
            check.check()
        left_out = np.setdiff1d(counted, np.concatenate([train, validation]))
        return cls(
            source=source,
            weight=weight,
            validation_source=validation_source,
            train=train,
            validation=validation,
            left_out=left_out,
            reason=fraction.reason,
            remarks=_remarks(source, len(validation), len(left_out), wanted=fraction.value > 0),
            distinct=distinct,
        )

    @classmethod
    def _of_streamed(
        cls, settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
    ) -> "TrainValidationSplit":
        fraction = _validation_fraction(settings, float(len(source)), validation_source)
        check = training_check(source)
        split = streamed_split(source, fraction.value, settings.split_seed, check.update)
        check.check()
        cache_sample(source, split)
        return cls(
            source=source,
            weight=weight,
            validation_source=validation_source,
            train=split.train,
            validation=split.validation,
            left_out=split.validation[:0],
            reason=fraction.reason,
            digest=split.digest,
            distinct=split.distinct,
        )

    @property
    def train_weight(self) -> Array:
        """How much each training row counts."""
        if self.source.is_streamed:
            return self.weight[: len(self.train)]
        return np.asarray(self.weight[np.asarray(self.train)])

    def without_validation(self) -> "TrainValidationSplit":
        """The same rows, all of them for training."""
        nothing = self.validation[:0]
        if self.source.is_streamed:
            return replace(self, train=AllRowsExcept(len(self.source)), validation=nothing)
        everything = np.sort(np.concatenate([self.train, self.validation, self.left_out]))
        return replace(self, train=everything, validation=nothing, left_out=nothing)

    def fit_preparation(self, scaling: str) -> Preparation:
        """The preparation learned from the training rows; shared by fits that run together."""
        return cached(
            (self,),
            ("preparation", scaling),
            lambda: fit_preparation(
                self.source, self.train, self.train_weight, scaling, validation=self.validation
            ),
        )

    def open(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> tuple[Rows, Rows | None]:
        """The prepared training and validation rows; shared by fits that run together."""
        return cached(
            (self, preparation),
            ("rows", dtype, device),
            lambda: (
                self.open_train(preparation, dtype, device),
                self.open_validation(preparation, dtype, device),
            ),
        )

    def open_train(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows:
        """The prepared training rows."""
        return open_rows(
            self.source, preparation, self.train, self.train_weight, dtype=dtype, device=device
        )

    def open_validation(
        self, preparation: Preparation, dtype: torch.dtype, device: torch.device
    ) -> Rows | None:
        """The prepared validation rows, if there are any."""
        if self.validation_source is not None:
            if self.validation_source.is_streamed:
                chosen = cache_evenly_spaced(self.validation_source)
            else:
                chosen = np.arange(len(self.validation_source))
            return Rows(self.validation_source, preparation, chosen, dtype=dtype, device=device)
        if not len(self.validation):
            return None
        weight = self.weight[self.validation]
        return Rows(
            self.source, preparation, self.validation, weight=weight, dtype=dtype, device=device
        )

    def fingerprint(self) -> dict[str, str | None]:
        """Hashes that identify these rows and weights."""
        validation = self.validation_source
        return {
            "rows": self.digest or digest(self.source),
            "validation": None if validation is None else digest(validation),
            "validation_rows": _digest(np.asarray(self.validation)),
            "sample_weight": None if self.source.is_streamed else _digest(self.weight),
        }


def split_rows(
    settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
) -> TrainValidationSplit:
    """The training and validation rows; shared by fits that run together."""
    weight_digest = hashlib.blake2b(weight.tobytes()).digest()
    return cached(
        (source, validation_source),
        ("division", settings.validation_fraction, settings.split_seed, weight_digest),
        lambda: TrainValidationSplit.of(settings, source, weight, validation_source),
    )


def _validation_fraction(
    settings: FitSettings, rows: float, validation_source: Source | None
) -> defaults.Choice[float]:
    fraction = settings.validation_fraction
    if validation_source is not None:
        return defaults.Choice(0.0, "validation rows were given")
    if isinstance(fraction, str):
        return defaults.choose_validation_fraction(rows)
    return defaults.Choice(float(fraction), "the share was set")


def _remarks(source: Source, validation: int, left_out: int, *, wanted: bool) -> tuple[str, ...]:
    if left_out:
        return (
            f"{validation} windows are held out in whole segments; {left_out} that share samples "
            "with them are left out of training",
        )
    if wanted and not validation and window_extents(source) is not None:
        return (
            "no windows are held out: too many would share samples with them, or be copies; a "
            "larger hop or longer recordings leave some apart",
        )
    return ()


def _digest(weight: Array) -> str:
    return hashlib.blake2b(weight.tobytes(), digest_size=16).hexdigest()


def open_rows(
    source: Source,
    preparation: Preparation,
    rows: RowNumbers,
    weight: Array | None = None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    resident: int | None = None,
) -> Rows:
    """Prepared rows as batches of tensors, read from memory or from disk.

    Prepared rows of more than `resident` bytes are not kept in memory.
    """
    if isinstance(source, ChunkedSource) and isinstance(rows, AllRowsExcept):
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


def is_checked_first(source: Source) -> bool:
    """Whether the values are checked before the split, not during it."""
    return source.is_sparse or bool(source.parts) or window_extents(source) is not None


def training_check(source: Source) -> FiniteCheck:
    """The check of the values to train on."""
    return FiniteCheck(source, allow_missing=True, need_values=True)


def check_training_rows(source: Source) -> None:
    """Raise DataError unless the rows can be trained on; checked once by fits that run together.

    The values of most sources are checked in the pass that splits them.
    """
    if is_checked_first(source):
        cached((source,), "checked", lambda: check_rows(source, allow_missing=True))
    else:
        check_size(source)


def count_distinct_rows(split: TrainValidationSplit, validation: Rows | None) -> int:
    """The number of different validation rows; shared by fits that run together."""
    if validation is None:
        return 0
    if split.validation_source is None:
        return split.distinct
    rows = validation
    return cached((rows,), "distinct", lambda: count_distinct(rows.source, rows.rows))


def find_components(
    rows: Rows,
    n_components: int,
    seed: int,
    fill_value: Tensor | float,
    seen: LogCounts | None,
) -> PCASolution:
    """The principal components of prepared rows; shared by fits that run together."""
    return cached(
        (rows,),
        ("principal", n_components, seed),
        lambda: principal_components(
            rows, n_components, seed=seed, fill_value=fill_value, seen=seen
        ),
    )


def mean_row(rows: Rows) -> Tensor:
    """(1, *shape): the weighted mean of the known values of prepared rows, 0 if none is known.

    Shared by fits that run together.
    """
    return cached((rows,), "mean", lambda: _mean_row(rows))


def _mean_row(rows: Rows) -> Tensor:
    sums, weights = [], []
    for positions, block in rows.in_order():
        weight, x = rows.weight[positions], block.flatten(1)
        sums.append(weight @ filled(x))
        weights.append(weight @ (~x.isnan()).to(weight))
    total = torch.stack(weights).sum(dim=0)
    mean = torch.stack(sums).sum(dim=0) / torch.where(total > 0, total, torch.ones_like(total))
    return mean.reshape(1, *rows.preparation.facts.shape).cpu()
