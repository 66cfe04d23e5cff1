"""The fitted model: everything needed to encode and decode rows, independent of scikit-learn."""

# Shape letters: n rows, B rows in a batch, K code units, D features, E features as measured.

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from isthmus import metrics
from isthmus.data.loading.rows import Rows, consecutive_batches, inference_batch_size
from isthmus.data.preparation.fit import SIZE_FACTORS
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.preparation.row_errors import row_errors
from isthmus.data.row_numbers import AllRowsExcept
from isthmus.data.source import Source
from isthmus.data.validate import align, check_rows
from isthmus.estimator.code_refinement import CodeRefinement, refine_codes
from isthmus.estimator.inputs import check_codable, warn_of_unknown_values
from isthmus.estimator.settings import AUTO
from isthmus.estimator.split import open_rows
from isthmus.imputation.lazy import LazyImputer
from isthmus.kinds import CodeNetwork, Kind
from isthmus.losses import Reconstruction
from isthmus.types import Array


@dataclass(kw_only=True)
class FittedModel:
    """A trained network with all that turns rows into codes and codes into rows.

    `Autoencoder` adds scikit-learn's contract to it: checks of X, names and containers. The methods
    here take the rows that `open_rows` gives, and return arrays.

    Attributes:
        network: The trained torch module, in evaluation mode.
        kind: The spec that built it.
        loss: The reconstruction loss; it turns the network's raw output into values.
        preparation: The map between the data's units and the network's.
        mean: (1, *network_shape), the mean of the prepared training rows.
        n_components: K, the numbers in a code.
        refinement: The steps that refine the encoder's codes, and their metric.
        imputer: Computes the fill-in of missing values, if the rows may have any.
    """

    network: CodeNetwork
    kind: Kind
    loss: Reconstruction
    preparation: Preparation
    mean: Tensor
    n_components: int
    refinement: CodeRefinement
    imputer: LazyImputer | None

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    def with_steps(self, steps: int | str) -> "FittedModel":
        """The same model with other refinement steps; "auto" keeps its own. Parts are shared."""
        if isinstance(steps, str) and steps == AUTO:
            return self
        # `refine_codes` checks them: only methods that encode need them.
        return replace(self, refinement=replace(self.refinement, steps=cast("int", steps)))

    def open_rows(self, source: Source) -> Rows:
        """The prepared rows of a source, in batches.

        Raises DataError if a column is missing, or if a value is missing or infinite in rows that
        may have none. Warns of values that the model does not know.
        """
        check_rows(source, at_least=1, allow_missing=self.preparation.allow_missing)
        source = align(source, self.preparation.schema)
        warn_of_unknown_values(source)
        return open_rows(
            source,
            self.preparation,
            AllRowsExcept(len(source)),
            dtype=self.dtype,
            device=self.device,
            resident=0,
        )

    def encode_batch(self, x: Tensor) -> Tensor:
        """(B, K): the codes of prepared rows (B, *network_shape)."""
        with torch.no_grad():
            code: Tensor = self.network.encode(x)
        return refine_codes(code, x, self.refinement, self.network, self.loss)

    def decode_batch(self, code: Tensor, sizes: Tensor | None = None) -> Tensor:
        """(B, *network_shape): prepared rows from codes (B, K) and size factors (B, 1), if any."""
        with torch.no_grad():
            values: Tensor = self.loss.mean(self.network.decode(code))
        # Single precision cannot hold the counts of very deep rows.
        return values if sizes is None else values.double() * sizes

    def encoded_batches(self, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch of prepared rows and its codes; DataError if a code is not finite."""
        for positions, x in rows.in_order():
            code = self.encode_batch(x)
            check_codable(rows.source, positions, x, code, self.loss.size_factors(x))
            yield x, code

    def reconstructed_batches(self, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch of prepared rows and its reconstruction, (B, *network_shape) each."""
        for x, code in self.encoded_batches(rows):
            yield x, self.decode_batch(code, self.loss.size_factors(x))

    def measured_batches(self, rows: Rows) -> Iterator[tuple[Array, Array]]:
        """Each batch of rows and its reconstruction, (B, E) each, in the units of errors."""
        measured = self.preparation.to_error_units
        return ((measured(x), measured(near)) for x, near in self.reconstructed_batches(rows))

    def encode(self, rows: Rows) -> Array:
        """(n, K) float32: the codes of rows."""
        codes, start = np.empty((len(rows), self.n_components), np.float32), 0
        for x, code in self.encoded_batches(rows):
            codes[start : start + len(x)] = code.float().cpu()
            start += len(x)
        return codes

    def decode(self, codes: Array, sizes: Tensor | None = None) -> Array:
        """(n, *schema.shape): rows in the data's units from codes (n, K), size factors (n, 1)."""
        if not len(codes):
            return np.empty((0, *self.preparation.schema.shape))
        code = torch.as_tensor(np.asarray(codes, np.float64), dtype=self.dtype, device=self.device)
        size = inference_batch_size(self.preparation.network_shape)
        parts = [
            self.decode_batch(code[batch], None if sizes is None else sizes[batch])
            for batch in consecutive_batches(len(code), size)
        ]
        return np.concatenate([self.preparation.decode(part) for part in parts])

    def reconstruct(self, rows: Rows) -> Array:
        """(n, *schema.shape): the rows after a round trip through their codes."""
        return self.decode(self.encode(rows), self.size_factors(rows))

    def size_factors(self, rows: Rows) -> Tensor | None:
        """(n, 1): the size factors of rows of counts; None for other rows."""
        if self.preparation.scaling != SIZE_FACTORS:
            return None
        sizes = [self.loss.size_factors(x) for _, x in rows.in_order()]
        return torch.cat([part for part in sizes if part is not None])

    def impute(self, rows: Rows) -> Array | None:
        """(n, *schema.shape): expected values for all rows; None if no value may be missing."""
        if self.imputer is None:
            return None
        imputer = self.imputer()
        parts = [imputer(self.network, self.loss, x) for x, _ in self.encoded_batches(rows)]
        return np.concatenate([self.preparation.decode(part) for part in parts])

    def evaluate(self, rows: Rows) -> metrics.ReconstructionError:
        """The reconstruction errors of rows, and the explained variance."""
        reference = self.preparation.to_error_units(self.mean)[0]
        return metrics.reconstruction_error(
            self.measured_batches(rows), reference, self.preparation.column_sums
        )

    def row_errors(self, rows: Rows) -> Array:
        """(n,): the mean squared error of each row."""
        pairs = self.reconstructed_batches(rows)
        return np.concatenate([row_errors(self.preparation, x, near) for x, near in pairs])

    def squared_errors(self, rows: Rows) -> Array:
        """(n, D): the squared error of each value, NaN if it is missing."""
        sums = self.preparation.column_sums
        return np.concatenate([sums((x - near) ** 2) for x, near in self.measured_batches(rows)])
