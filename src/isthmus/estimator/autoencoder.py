"""Autoencoder: scikit-learn's contract over every kind, loss, penalty, corruption and optimizer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus import artifact, metrics
from isthmus.data import SIZE_FACTORS, AllBut, Rows, align, check_rows, plain_batches, rows_at_once
from isthmus.data.preparation.row_errors import row_errors
from isthmus.errors import RequestError
from isthmus.estimator.code_refinement import refined
from isthmus.estimator.fit import FitResult, FitRun
from isthmus.estimator.inputs import (
    as_source,
    by_sample,
    check_coded,
    given_back,
    like,
    read_codes,
    read_sizes,
    rebuilt_as,
    row_weights,
    rows_like,
    sizes_of_rows,
    tell,
    unless_refused,
)
from isthmus.estimator.partial_fit import fit_each, one_more_epoch
from isthmus.estimator.restarts import best_of
from isthmus.estimator.saving import to_artifact
from isthmus.estimator.settings import FitSettings
from isthmus.estimator.shared_cache import check
from isthmus.estimator.split import rows_of
from isthmus.imputation.imputer import Imputer, impute
from isthmus.types import Array, Source


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learn a compact code of rows from which the rows can be rebuilt.

    Parameters:
        n_components: Numbers in a code. None takes as many as principal components hold 90 % of
            the variance, from 2 to 32.
        kind: The network's family: "vanilla", "multilayer", "regularized", "convolutional", or a
            spec from `isthmus.kinds`. "auto" is convolutional for images and signals, else
            multilayer.
        loss: What "the same back" means: "squared", "bernoulli", "huber", or a spec from
            `isthmus.losses`. "auto" is bernoulli where every value is 0 or 1, mixed where columns
            are of other kinds or counts, else squared.
        penalties: What else the code should be: names or specs from `isthmus.losses`.
        corruption: Noise on the way in: a name or a spec from `isthmus.data`, or None.
        pretraining: Where the weights start: "pca" at the principal components, "random" anywhere,
            "lsuv" at random but scaled so that no layer lets the rows fade, "rbm" and
            "autoencoder" where each layer has learned alone, or a spec from
            `isthmus.pretraining`. "auto" is pca where the kind has a linear path, else
            autoencoder for more than three hidden layers, else random.
        optimizer: "sgd", "nesterov", "rmsprop", "adam", "adamw", "muon", "conjugate_gradient",
            "lbfgs", "kfac", or a spec from `isthmus.optim`. "auto" is muon for large dense
            networks without logistic units and 20,000 rows and more, else adamw.
        max_epochs: Passes over the rows at most; None is enough for about 5000 steps.
        batch_size: Rows a step; None is chosen from the number of rows, "full" is all of them.
        validation_fraction: Share of the rows held out to choose the best epoch, in [0, 1);
            "auto" is a tenth, more for few rows.
        early_stopping: Whether to stop when the held-out loss no longer falls: True, False, or
            the number of epochs to wait.
        preparation: How features are scaled: "auto", "global", "standard", "unit", "none",
            "size_factors", "quantiles"; see `isthmus.data.fit_preparation`.
        device: "auto", "cpu", "cuda", or what torch calls a device.
        precision: "auto", "float64", "float32" or "bf16".
        transform_max_iter: Steps in which `transform` refines each code that the encoder gives;
            none raises a row's loss. 0 takes the encoder's own. "auto" is 4 where they gain at
            least 2 % on held-out rows and nothing else is asked of the code, else 0.
        n_init: Fits from different random weights, all taken together; the one with the lowest
            error on held-out rows is kept.
        callbacks: Functions called with each epoch's record; a true answer stops the fit.
        verbose: 0 says nothing, 1 writes a line an epoch to standard error.
        checkpoint: A folder to keep the fit's state in while it runs, for `fit(resume=True)`.
        random_state: An int, a NumPy RandomState, or None; the same seed gives the same weights.

    Attributes:
        n_components_: Numbers in a code.
        network_: The trained torch module.
        kind_, loss_: The specs in use.
        preparation_: How rows become the network's numbers and come back.
        history_: One dict an epoch: every loss term of training and held-out rows. Others tell
            of an "event", or of a layer and epoch of "pretraining".
        best_epoch_: The epoch whose weights were kept; 0 is the start.
        train_rows_, validation_rows_: Numbers of the rows that the model has learned from, and has
            not: of one that came back to PCA, all and none.
        facts_: What the model is (`outcome`), what was chosen and what it cost.
        n_features_in_, feature_names_in_: As in scikit-learn.

    All errors are in the data's own units where all features share one scale (0 to 1 for 8-bit
    images), and in standard deviations of each column where columns are scaled one by one.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kind: Any = "auto",
        loss: Any = "auto",
        penalties: Any = (),
        corruption: Any = None,
        pretraining: Any = "auto",
        optimizer: Any = "auto",
        max_epochs: int | None = None,
        batch_size: Any = None,
        validation_fraction: Any = "auto",
        early_stopping: Any = True,
        preparation: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        transform_max_iter: Any = "auto",
        n_init: int = 1,
        callbacks: Any = (),
        verbose: Any = 0,
        checkpoint: Any = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.kind = kind
        self.loss = loss
        self.penalties = penalties
        self.corruption = corruption
        self.pretraining = pretraining
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.preparation = preparation
        self.device = device
        self.precision = precision
        self.transform_max_iter = transform_max_iter
        self.n_init = n_init
        self.callbacks = callbacks
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        validation: Any = None,
        resume: bool = False,
    ) -> Self:
        """Learn the code of the rows of X: array, tensor, sparse matrix, frame or source.

        A list of arrays of different lengths, (time,) or (time, channels), is `data.series`; for
        windows of recordings give `data.windows`. Later methods then take recordings, and give
        recordings back.

        `y` is ignored. `sample_weight` (n,) counts a row as that many. `validation` are held-out
        rows to use instead of a share of X. `resume` goes on from the checkpoint, if there is one,
        to the same weights as a fit that was never stopped.

        Raises DataError or RequestError (both ValueError) for rows or settings that make no sense,
        DivergenceError when training cannot be kept finite, ArtifactError for a checkpoint of
        another fit.
        """
        del y
        with unless_refused(self), torch.inference_mode(False):
            source = as_source(self, X, reset=True)
            check(source)
            weight = row_weights(sample_weight, source)
            if validation is not None:
                validation = rows_like(self, validation, source.schema)
            self.keep(best_of(self, self._request(resume=resume), source, weight, validation))
        return self

    def partial_fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Go through the rows of X once more, from where the last call (or `fit`) ended.

        The first call without a fit prepares and starts the network from its rows alone. An
        iterator gives X in pieces, of which one is in memory at a time.
        """
        del y
        if isinstance(X, Iterator):
            fit_each(self, X, sample_weight)
            return self
        fresh = not hasattr(self, "network_")
        known = None if fresh else self.preparation_.schema
        source = as_source(self, X, reset=fresh, schema=known)
        check_rows(
            source,
            at_least=2 if fresh else 1,
            allow_missing=fresh or self.preparation_.allow_missing,
        )
        weight = row_weights(sample_weight, source, at_least=2 if fresh else 1)
        if fresh:
            settings = replace(
                self._request(resume=False), validation_fraction=0.0, max_epochs=0, checkpoint=None
            )
            with torch.inference_mode(False):
                self.keep(FitRun(settings, source, weight, None).run())
        with torch.inference_mode(False):
            source = align(source, self.preparation_.schema)
            tell(source)
            one_more_epoch(self, source, weight)
        return self

    def transform(self, X: Any) -> Array:
        """The codes of the rows of X, (n, n_components_) float32; of recordings, of each window."""
        rows = self._rows(X)
        codes, start = np.empty((len(rows), self.n_components_), np.float32), 0
        for x, code in self._coded(rows):
            codes[start : start + len(x)] = code.float().cpu()
            start += len(x)
        return codes

    def inverse_transform(self, X: Any, *, lengths: Any = None, sizes: Any = None) -> Any:
        """What the rows were, rebuilt from codes (n, n_components_): array, frame, images, ...

        Windows are joined to a recording of (n - 1) step + length samples. The last window of a
        recording of another length begins earlier than that: `lengths` says how many samples the
        recording has, or in a list each of several. Series come as a list, as long as the longest
        of the fit, or of these `lengths`.

        Counts come back as those of rows of the mean depth, unless `sizes` (n,) gives size factors,
        as `preparation_.size_factors` tells them of rows: codes do not hold them.
        """
        check_is_fitted(self)
        codes, schema = self._codes(X), self.preparation_.schema
        values = self._rebuild(codes, read_sizes(sizes, codes, self.preparation_))
        return given_back(values, schema, lengths)

    def reconstruct(self, X: Any) -> Any:
        """The rows of X after a round trip through the code, as what X was."""
        source, schema = self._source(X), self.preparation_.schema
        sized = self.preparation_.scaling == SIZE_FACTORS
        sizes = sizes_of_rows(self.loss_, self._rows(source)) if sized else None
        values = self._rebuild(self._codes(self.transform(source)), sizes)
        return like(X, rebuilt_as(source, values, schema))

    def impute(self, X: Any) -> Any:
        """The rows of X, as what X was, with its missing values (NaN, null) filled in.

        They are rebuilt from the most likely code given what is known of the row and of all codes;
        all other values come back exactly as they were.
        """
        return impute(self, X)

    def score_samples(self, X: Any) -> Array:
        """(n,): minus each row's mean squared reconstruction error; higher is better."""
        return np.asarray(-self.reconstruction_error(X, by="row"))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`; higher is better."""
        del y
        return float(self.score_samples(X).mean())

    def reconstruction_error(self, X: Any, by: str = "total") -> Any:
        """Mean squared error: a float, or (n,) by="row", or (n_features_in_,) by="feature".

        by="value" gives every squared error, (n, n_features_in_); by="sample" of recordings (T,),
        of each moment, as its windows tell together. Raises RequestError for another.
        """
        if by == "value":
            sums = self.preparation_.sums
            return np.concatenate([sums((x - r) ** 2) for x, r in self.measured_pairs(X)])
        if by == "sample":
            source = self._source(X)
            return by_sample(source, self.reconstruction_error(source, by="value"))
        if by == "row":
            off = [row_errors(self.preparation_, x, r) for x, r in self._pairs(X)]
            return np.concatenate(off)
        measured = self.evaluate(X)
        answers = {"total": measured.total, "feature": measured.per_feature}
        if by not in answers:
            known = ", ".join(map(repr, ("total", "row", "feature", "value", "sample")))
            raise RequestError(f"by={by!r} is not known; use one of {known}")
        return answers[by]

    def explained_variance(self, X: Any) -> float:
        """1 - squared error / squared deviation from the training mean; at most 1."""
        return self.evaluate(X).explained_variance

    def evaluate(self, X: Any) -> metrics.ReconstructionError:
        """Errors a row, a feature and in all, and the explained variance, of the rows of X."""
        reference = self.preparation_.measured(self.mean_)[0]
        return metrics.reconstruction_error(
            self.measured_pairs(X), reference, self.preparation_.sums
        )

    def save(self, folder: str | Path, *, force: bool = True) -> None:
        """Write the model folder: model.json, weights.safetensors, history.jsonl; no pickle.

        Raises RequestError when `folder` exists and `force` is False, or is no model folder.
        """
        check_is_fitted(self)
        artifact.save(to_artifact(self), folder, force=force)

    def restore_facts(self, facts: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Set the attributes that describe the fit; for `isthmus.load`."""
        schema = self.preparation_.schema
        self.facts_, self.history_ = facts, history
        self.facts_.setdefault("transform_max_iter", 0)  # models of before there was such a thing
        self.n_components_, self.best_epoch_ = int(facts["n_components"]), int(facts["best_epoch"])
        self.n_features_in_ = len(schema.given or ()) or schema.n_features
        if schema.names is not None and schema.labels is None:
            self.feature_names_in_ = np.asarray(schema.given or schema.names, dtype=object)

    def _encode(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            code: Tensor = self.network_.encode(x)
        wanted = self.transform_max_iter
        steps = self.facts_["transform_max_iter"] if wanted == "auto" else wanted
        return refined(code, x, steps, self.metric_, self.network_, self.loss_)

    def _decode(self, code: Tensor, sizes: Tensor | None) -> Tensor:
        with torch.no_grad():
            rebuilt: Tensor = self.loss_.mean(self.network_.decode(code))
        # Of great depths no single precision holds the counts.
        return rebuilt if sizes is None else rebuilt.double() * sizes

    def _source(self, X: Any) -> Source:
        check_is_fitted(self)
        return as_source(self, X, reset=False, schema=self.preparation_.schema)

    def _rows(self, X: Any) -> Rows:
        source = self._source(X)
        check_rows(source, at_least=1, allow_missing=self.preparation_.allow_missing)
        source = align(source, self.preparation_.schema)
        tell(source)
        dtype, device = self._where()
        how = self.preparation_, AllBut(len(source))
        return rows_of(source, *how, dtype=dtype, device=device, resident=0)

    def measured_pairs(self, X: Any) -> Iterator[tuple[Array, Array]]:
        """Each batch of rows and what their codes rebuild, in the units of errors, (B, E) each."""
        measured = self.preparation_.measured
        return ((measured(x), measured(rebuilt)) for x, rebuilt in self._pairs(X))

    def _pairs(self, X: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch of prepared rows and what their codes rebuild."""
        coded = self._coded(self._rows(X))
        return ((x, self._decode(code, self.loss_.sizes(x))) for x, code in coded)

    def _coded(self, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch of prepared rows with its codes; DataError where those are not finite."""
        for positions, x in rows.in_order():
            code = self._encode(x)
            check_coded(rows.source, positions, x, code, self.loss_.sizes(x))
            yield x, code

    def _where(self) -> tuple[torch.dtype, torch.device]:
        parameter = next(self.network_.parameters())
        return parameter.dtype, parameter.device

    def _codes(self, X: Any) -> Tensor:
        dtype, device = self._where()
        values = read_codes(X, list(self.get_feature_names_out()))
        return torch.as_tensor(values, dtype=dtype, device=device)

    def _rebuild(self, codes: Tensor, sizes: Tensor | None) -> Array:
        if not len(codes):
            return np.empty((0, *self.preparation_.schema.shape))
        batches = plain_batches(len(codes), rows_at_once(self.preparation_.network_shape))
        parts = [self._decode(codes[p], None if sizes is None else sizes[p]) for p in batches]
        return np.concatenate([self.preparation_.decode(part) for part in parts])

    def _request(self, *, resume: bool) -> FitSettings:
        return FitSettings.of(self.get_params(deep=False), resume=resume)

    def keep(self, fitted: FitResult) -> None:
        """Be the model that a fit has left behind."""
        self.network_ = fitted.network
        self.kind_, self.loss_ = fitted.kind, fitted.loss
        self.preparation_, self.mean_ = fitted.preparation, fitted.mean
        self.metric_, self._imputer = fitted.refinement.metric, fitted.imputer
        self.n_components_ = int(fitted.facts["n_components"])
        self.history_, self.best_epoch_ = fitted.state.history, fitted.state.best_epoch
        self.train_rows_, self.validation_rows_ = fitted.train, fitted.validation
        self.facts_ = fitted.facts
        self._trainer = fitted.trainer

    @property
    def imputer_(self) -> Imputer | None:
        """What fills in missing values, where rows may have some; learned when first asked for."""
        return None if self._imputer is None else self._imputer()

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags
