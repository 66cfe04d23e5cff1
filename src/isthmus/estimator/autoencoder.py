"""The Autoencoder estimator: scikit-learn's contract over every kind, loss and optimizer."""

# Shape letters: n rows, K code units, D features of the data, T samples of a recording.

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from isthmus import artifact, metrics
from isthmus.artifact import Artifact
from isthmus.corruptions import Corruption
from isthmus.data.loading.rows import Rows
from isthmus.data.output.fill_missing import fill, fill_each
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.source import Source
from isthmus.data.tables.streamed import StreamedTable
from isthmus.data.validate import align, check_rows
from isthmus.errors import ArtifactError, RequestError, require
from isthmus.estimator.fit import FitResult, fit_rows, train_one_epoch, trainer_of_saved
from isthmus.estimator.fitted_model import FittedModel
from isthmus.estimator.inputs import (
    as_aligned_source,
    as_source,
    errors_by_timestep,
    read_codes,
    read_sizes,
    restore_decoded,
    restore_like,
    restored_on_error,
    row_weights,
    warn_of_unknown_values,
    with_row_labels,
)
from isthmus.estimator.persistence import (
    SpecClasses,
    known_classes,
    model_from_artifact,
    model_to_artifact,
    settings_from_artifact,
)
from isthmus.estimator.restarts import fit_best_start
from isthmus.estimator.settings import FitSettings
from isthmus.estimator.split import check_training_rows
from isthmus.imputation.imputer import Imputer
from isthmus.kinds import CodeNetwork, Kind
from isthmus.losses import PenaltySpec, Reconstruction
from isthmus.optim import OptimizerSpec
from isthmus.pretraining import Pretraining
from isthmus.runtime.device import resolve_device
from isthmus.spec import Spec
from isthmus.training.reporters import Reporter
from isthmus.training.trainer import Callback
from isthmus.types import Array

ERRORS_BY = ("total", "row", "feature", "value", "timestep")


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A compact code of rows from which the rows can be reconstructed.

    Parameters:
        n_components: Numbers in a code. None takes as many as principal components hold 90 % of
            the variance, from 2 to 32.
        kind: The network's family: "vanilla", "multilayer", "regularized", "convolutional", or a
            spec from `isthmus.kinds`. "auto" is convolutional for signals and for images
            of at least 13 x 13 pixels, else multilayer.
        loss: The reconstruction loss: "squared", "bernoulli", "huber", "mixed", or a spec from
            `isthmus.losses`. "auto" is bernoulli if every value is 0 or 1, mixed if some columns
            are not plain numbers, else squared.
        penalties: Further aims of the code: names or specs from `isthmus.losses`.
        corruption: Noise on the input in training: a name or a spec from `isthmus.corruptions`, or
            None.
        pretraining: How the weights start: "pca" at the principal components, "random", "lsuv"
            (random, scaled so that every layer keeps the variance), "rbm" and "autoencoder" (each
            layer trained alone), or a spec from `isthmus.pretraining`. "auto" is pca if the kind
            has a linear path, else autoencoder for more than three hidden layers, else random.
        optimizer: "sgd", "nesterov", "rmsprop", "adam", "adamw", "muon", "conjugate_gradient",
            "lbfgs", "kfac", or a spec from `isthmus.optim`. "auto" is muon for large dense
            networks without logistic units and at least 20,000 rows, else adamw.
        max_epochs: The largest number of passes over the rows; None is enough for about 5000
            steps.
        batch_size: Rows per step. None is chosen from the number of rows, "full" is all of them.
        validation_fraction: The share of the rows, in [0, 1), that choose the best epoch and are
            not trained on. "auto" is a tenth, more for few rows.
        early_stopping: Whether to stop when the validation loss no longer falls: True, False, or
            the number of epochs to wait.
        preparation: How features are scaled: "auto", "global", "standard", "unit", "none",
            "size_factors", "quantiles"; see `isthmus.data.preparation`.
        device: "auto", "cpu", "cuda", or another device name of torch.
        precision: "auto", "float64", "float32" or "bf16".
        transform_max_iter: The number of steps by which `transform` refines each code; no step
            raises the loss of a row. 0 keeps the encoder's codes. "auto" is 4 if this lowers the
            error of the validation rows by at least 2 % and nothing else shapes the code, else 0.
        n_init: The number of fits from different random weights, trained together. The one with
            the lowest validation error is kept.
        callbacks: Functions that are called with each epoch's record; a true result stops the fit.
        verbose: 0 writes nothing, 1 writes a line per epoch to standard error.
        checkpoint: A folder for the state of the running fit, for `fit(resume=True)`.
        random_state: An int, a NumPy RandomState, or None; the same seed gives the same weights.

    Attributes:
        model_: The `FittedModel`: network, loss, preparation and code refinement, with methods on
            arrays and tensors.
        n_components_: K, the numbers in a code.
        network_: The trained torch module.
        kind_, loss_: The specs in use.
        preparation_: The map between the data's units and the network's.
        imputer_: What `impute` computes with, if values may be missing; learned at first use.
        history_: One dict per epoch with every loss term of training and validation rows. Further
            dicts describe an "event", or a layer and epoch of "pretraining".
        best_epoch_: The epoch whose weights were kept; 0 is the start.
        train_rows_, validation_rows_: The numbers of the training and the validation rows. A model
            that returned to PCA has learned from all rows and has no validation rows.
        facts_: What was chosen and what it cost. `outcome` is a sentence on the model;
            `decisions` lists every setting that was left open, with its value and the reason.
        n_features_in_, feature_names_in_: As in scikit-learn.

    All errors are in the data's own units if all features share one scale (0 to 1 for 8-bit
    images). If columns are scaled one by one, they are in standard deviations of each column.

    Example:
        >>> import numpy as np
        >>> angles = np.linspace(0, 6, 200)
        >>> X = np.stack([np.cos(angles), np.sin(angles), angles], axis=1)
        >>> model = Autoencoder(n_components=1, max_epochs=5, random_state=0).fit(X)
        >>> model.transform(X).shape
        (200, 1)
        >>> model.reconstruct(X).shape
        (200, 3)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kind: str | Kind = "auto",
        loss: str | Reconstruction = "auto",
        penalties: Sequence[str | PenaltySpec] = (),
        corruption: str | Corruption | None = None,
        pretraining: str | Pretraining = "auto",
        optimizer: str | OptimizerSpec = "auto",
        max_epochs: int | None = None,
        batch_size: int | str | None = None,
        validation_fraction: float | str = "auto",
        early_stopping: bool | int = True,
        preparation: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        transform_max_iter: int | str = "auto",
        n_init: int = 1,
        callbacks: Sequence[Callback] = (),
        verbose: int | Reporter = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
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
        X: object,
        y: object = None,
        *,
        sample_weight: object = None,
        validation: object = None,
        resume: bool = False,
    ) -> Self:
        """Learn the code of the rows of X.

        Parameters:
            X: n rows: an array, tensor, sparse matrix, frame or source. A list of arrays of
                different lengths, (time,) or (time, channels), is read by `data.series`. For
                windows of recordings give `data.windows`; later methods then take and return
                recordings.
            y: Ignored.
            sample_weight: (n,), at least 0; a row of weight 2 counts as two rows.
            validation: Validation rows to use instead of a share of X.
            resume: Whether to continue from the checkpoint, if there is one. The weights are those
                of a fit that was never stopped.

        Raises:
            DataError: The rows cannot be learned from.
            RequestError: A setting has a wrong value, or does not suit the rows.
            DivergenceError: The loss does not stay finite.
            ArtifactError: The checkpoint is that of another fit.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=2, max_epochs=1, random_state=0).fit(X)
            >>> model.facts_["outcome"][:18]
            'PCA of all 60 rows'
        """
        del y
        with restored_on_error(self), torch.inference_mode(False):
            source = as_source(self, X, reset=True)
            check_training_rows(source)
            weight = row_weights(sample_weight, source)
            rows = None
            if validation is not None:
                rows = as_aligned_source(self, validation, source.schema)
            settings = self._settings(resume=resume)
            self._set_result(fit_best_start(settings, source, weight, rows))
        return self

    def partial_fit(self, X: object, y: object = None, *, sample_weight: object = None) -> Self:
        """Train for one more epoch over the rows of X, from where the last call or `fit` ended.

        The first call without a fit prepares and starts the network from its rows alone.

        Parameters:
            X: Rows as for `fit`, or an iterator of such pieces, of which one at a time is in
                memory.
            y: Ignored.
            sample_weight: (n,), at least 0.

        Raises:
            DivergenceError: The loss is not finite; the weights are as before.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=2, random_state=0)
            >>> model.partial_fit(X).partial_fit(X).facts_["outcome"]
            'the network of epoch 2, the last one by partial_fit'
        """
        del y
        if isinstance(X, Iterator):
            require(sample_weight is None, "sample_weight: give each piece its own, call by call")
            piece = None
            for piece in X:
                self.partial_fit(piece)
            require(
                piece is not None, "X is an iterator that gave no rows; give at least one piece"
            )
            return self
        fresh = not hasattr(self, "model_")
        source = as_source(self, X, reset=fresh, schema=None if fresh else self.preparation_.schema)
        check_rows(
            source,
            at_least=2 if fresh else 1,
            allow_missing=fresh or self.preparation_.allow_missing,
        )
        weight = row_weights(sample_weight, source, at_least=2 if fresh else 1)
        with torch.inference_mode(False):
            if fresh:
                settings = replace(
                    self._settings(resume=False),
                    validation_fraction=0.0,
                    max_epochs=0,
                    checkpoint=None,
                )
                self._set_result(fit_rows(settings, source, weight))
            self._train_one_epoch(source, weight)
        return self

    def transform(self, X: object) -> Array:
        """Encode the rows of X.

        Parameters:
            X: n rows as for `fit`; of recordings, n are the windows.

        Returns:
            (n, K) float32, the codes.

        Raises:
            DataError: The rows do not fit the model, or are too far from the fitted ones.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> Autoencoder(n_components=2, max_epochs=0, random_state=0).fit_transform(X).shape
            (60, 2)
        """
        model = self._fitted()
        return model.encode(self._open(model, X))

    def inverse_transform(self, X: object, *, lengths: object = None, sizes: object = None) -> Any:
        """Decode codes to rows in the form of the fitted ones: array, frame, images, recordings.

        Parameters:
            X: (n, K) codes: an array, tensor, sparse matrix or frame.
            lengths: The number of samples of the recording, or a list of them for several. By
                default windows give a recording of (n - 1) step + length samples. Series are
                as long as the longest fitted one.
            sizes: (n,) size factors, which codes do not hold. By default counts are those of rows
                of the mean depth; `preparation_.size_factors(X)` gives the size factors of rows.

        Raises:
            DataError: The codes do not fit the model, or are not finite.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=2, max_epochs=0, random_state=0).fit(X)
            >>> model.inverse_transform(np.zeros((3, 2))).shape
            (3, 4)
        """
        model = self._fitted()
        codes = read_codes(X, list(self.get_feature_names_out()))
        values = model.decode(codes, read_sizes(sizes, len(codes), model.preparation))
        return restore_decoded(values, model.preparation.schema, lengths)

    def reconstruct(self, X: object) -> Any:
        """Encode and decode the rows of X; the result has the form of X.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=4, max_epochs=0, random_state=0).fit(X)
            >>> bool(np.allclose(model.reconstruct(X), X))
            True
        """
        model, source = self._fitted(), self._source(X)
        values = model.reconstruct(model.open_rows(source))
        return with_row_labels(X, restore_like(source, values, model.preparation.schema))

    def impute(self, X: object) -> Any:
        """Fill in the missing values (NaN, null) of the rows of X; the result has the form of X.

        They are reconstructed from the most likely code, given the known values of the row and the
        distribution of all codes. All other values come back exactly as they were. A table that
        stays on disk comes back as a pyarrow table.

        Example:
            >>> import numpy as np
            >>> x = np.linspace(-1, 1, 50)
            >>> X = np.stack([x, 2 * x, -x], axis=1)
            >>> X[10, 1] = np.nan
            >>> model = Autoencoder(n_components=1, max_epochs=0, random_state=0).fit(X)
            >>> filled = model.impute(X)
            >>> bool(np.isnan(filled).any()), filled[0].tolist()
            (False, [-1.0, -2.0, 1.0])
        """
        model, source = self._fitted(), self._source(X)
        schema = model.preparation.schema
        if isinstance(source, StreamedTable):
            return fill_each(align(source, schema), self.impute)
        rows = model.open_rows(source)
        values = model.impute(rows)
        return fill(rows.source, values, None if values is None else schema)

    def score_samples(self, X: object) -> Array:
        """(n,): minus the mean squared reconstruction error of each row; higher is better."""
        return np.asarray(-self.reconstruction_error(X, by="row"))

    def score(self, X: object, y: object = None) -> float:
        """The mean of `score_samples`; higher is better. `y` is ignored.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=4, max_epochs=0, random_state=0).fit(X)
            >>> abs(round(model.score(X), 6))
            0.0
        """
        del y
        return float(self.score_samples(X).mean())

    def reconstruction_error(self, X: object, by: str = "total") -> Any:
        """The mean squared reconstruction error of the rows of X.

        Parameters:
            X: n rows of D features.
            by: "total" is a float, "row" (n,), "feature" (D,). "value" is every squared error,
                (n, D). "timestep", for recordings, is (T,): the error of each timestep, averaged
                over the windows that contain it.

        Raises:
            RequestError: `by` has another value.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=2, max_epochs=0, random_state=0).fit(X)
            >>> by_feature = model.reconstruction_error(X, by="feature")
            >>> by_feature.shape, bool(np.isclose(by_feature.mean(), model.reconstruction_error(X)))
            ((4,), True)
        """
        if by not in ERRORS_BY:
            listed = ", ".join(map(repr, ERRORS_BY))
            raise RequestError(f"by={by!r} is not known; use one of {listed}")
        model, source = self._fitted(), self._source(X)
        rows = model.open_rows(source)
        if by == "value":
            return model.squared_errors(rows)
        if by == "timestep":
            return errors_by_timestep(source, model.squared_errors(rows))
        if by == "row":
            return model.row_errors(rows)
        errors = model.evaluate(rows)
        return errors.total if by == "total" else errors.per_feature

    def explained_variance(self, X: object) -> float:
        """1 - squared error / squared deviation from the training mean; at most 1."""
        return self.evaluate(X).explained_variance

    def evaluate(self, X: object) -> metrics.ReconstructionError:
        """The errors of the rows of X, by row, by feature and in total, and the explained variance.

        Example:
            >>> import numpy as np
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=4, max_epochs=0, random_state=0).fit(X)
            >>> round(model.evaluate(X).explained_variance, 6)
            1.0
        """
        model = self._fitted()
        return model.evaluate(self._open(model, X))

    def save(self, folder: str | Path, *, force: bool = True) -> None:
        """Write the model folder: model.json, weights.safetensors, history.jsonl; no pickle.

        Parameters:
            folder: Where to write; `isthmus.load` reads it.
            force: Whether an earlier model in `folder` may be replaced.

        Raises:
            RequestError: `folder` exists and `force` is False, or is not a model folder.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from isthmus import load
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = Autoencoder(n_components=2, max_epochs=0, random_state=0).fit(X)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save(f"{folder}/model")
            ...     again = load(f"{folder}/model")
            >>> bool((again.transform(X) == model.transform(X)).all())
            True
        """
        artifact.save(self.to_artifact(), folder, force=force)

    def to_artifact(self) -> Artifact:
        """The settings, the fitted model and its history as plain values and tensors."""
        check_is_fitted(self)
        facts = self.facts_ | {"best_epoch": self.best_epoch_}
        return model_to_artifact(self.model_, self.get_params(deep=False), facts, self.history_)

    @classmethod
    def _from_artifact(cls, saved: Artifact, classes: SpecClasses, device: torch.device) -> Self:
        estimator = cls(**settings_from_artifact(saved, classes))
        model = model_from_artifact(saved, classes, device)
        facts, schema = saved.facts, model.preparation.schema
        facts.setdefault("transform_max_iter", 0)  # models of before there was such a setting
        estimator.model_, estimator.n_components_ = model, model.n_components
        estimator.facts_, estimator.history_ = facts, saved.history
        estimator.best_epoch_ = int(facts["best_epoch"])
        estimator.n_features_in_ = len(schema.given or ()) or schema.n_features
        if schema.names is not None and schema.labels is None:
            estimator.feature_names_in_ = np.asarray(schema.given or schema.names, dtype=object)
        return estimator

    @property
    def network_(self) -> CodeNetwork:
        """The trained torch module."""
        return self.model_.network

    @property
    def kind_(self) -> Kind:
        """The spec of the network, with its sizes."""
        return self.model_.kind

    @property
    def loss_(self) -> Reconstruction:
        """The reconstruction loss in use."""
        return self.model_.loss

    @property
    def preparation_(self) -> Preparation:
        """The map between the data's units and the network's."""
        return self.model_.preparation

    @property
    def imputer_(self) -> Imputer | None:
        """The imputer of missing values, learned at first use; None if no value may be missing."""
        imputer = self.model_.imputer
        return None if imputer is None else imputer()

    def _settings(self, *, resume: bool) -> FitSettings:
        return FitSettings.of(self.get_params(deep=False), resume=resume)

    def _set_result(self, result: FitResult) -> None:
        """Set the attributes that a fit leaves."""
        self.model_, self.n_components_ = result.model, result.model.n_components
        self.history_, self.best_epoch_ = result.state.history, result.state.best_epoch
        self.train_rows_, self.validation_rows_ = result.train, result.validation
        self.facts_ = result.facts
        self._trainer = result.trainer

    def _train_one_epoch(self, source: Source, weight: Array) -> None:
        model = self.model_
        source = align(source, model.preparation.schema)
        warn_of_unknown_values(source)
        if not hasattr(self, "_trainer"):  # a model that was loaded
            settings, n_rows = self._settings(resume=False), int((weight > 0).sum())
            self._trainer = trainer_of_saved(settings, model, self.facts_, self.history_, n_rows)
        size = train_one_epoch(model, self._trainer, source, weight, self.batch_size)
        epoch = self._trainer.state.epoch
        outcome = f"the network of epoch {epoch}, the last one by partial_fit"
        self.facts_ |= {"epochs": epoch, "batch_size": size, "stopped": "partial_fit"}
        self.facts_["outcome"] = outcome

    def _fitted(self) -> FittedModel:
        """The fitted model with the refinement steps that are set now."""
        check_is_fitted(self)
        return self.model_.with_steps(self.transform_max_iter)

    def _source(self, X: object) -> Source:
        return as_source(self, X, reset=False, schema=self.preparation_.schema)

    def _open(self, model: FittedModel, X: object) -> Rows:
        return model.open_rows(self._source(X))

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


def load(
    folder: str | Path, *, device: str = "auto", specs: Sequence[type[Spec]] = ()
) -> Autoencoder:
    """The fitted Autoencoder saved in a folder; no code of the folder is run.

    Parameters:
        folder: What `Autoencoder.save` or `isthmus fit` wrote.
        device: Where the model computes, as in `Autoencoder`.
        specs: Classes of your own that the model uses.

    Raises:
        ArtifactError: The folder is missing, damaged, foreign, or from a newer isthmus.
    """
    saved = artifact.load(folder)
    classes, target = known_classes(specs), resolve_device(device)
    try:
        with torch.inference_mode(False):  # a model loaded in it could not refine its codes
            return Autoencoder._from_artifact(saved, classes, target)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{folder}: the parts of the model do not fit together ({reason}); it was edited, or "
            f"written by another isthmus ({saved.versions.get('isthmus')})"
        ) from error
