"""The autoencoder of a detector if none is given: settings chosen from the training rows."""

import math

import numpy as np
from sklearn.decomposition import PCA

from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.detector.member import prepared_pairs
from isthmus.detector.memory import subsample
from isthmus.estimator import Autoencoder
from isthmus.estimator.defaults import choose_batch_size
from isthmus.kinds import Multilayer
from isthmus.types import Array

EXPLAINED_VARIANCE, MAX_COMPONENTS = 0.99, 128
TRAINING_STEPS, MIN_EPOCHS = 600, 5
HIDDEN = (128,)
"""With so wide a code, a larger network finds no more outliers and is up to ten times slower."""


def untrained_autoencoder(source: Source, device: str, seed: int) -> Autoencoder:
    """An autoencoder that is fitted for no epochs: only its preparation of rows is of use."""
    autoencoder = Autoencoder(
        1,
        kind="vanilla",
        preparation=choose_preparation(source.schema),
        loss=choose_loss(source.schema),
        max_epochs=0,
        validation_fraction=0.0,
        device=device,
        random_state=seed,
    )
    return autoencoder.fit(source)


def prepared_rows(autoencoder: Autoencoder, source: Source) -> tuple[Array, Array]:
    """(n, E) rows of a source, prepared and soft-clipped, and (n, E) bool: which are missing.

    Missing values are replaced by the mean of their column.
    """
    rows = np.concatenate([rows for rows, _ in prepared_pairs(autoencoder, source)])
    missing = np.isnan(rows)
    if missing.any():
        present = np.maximum((~missing).sum(axis=0), 1)
        rows = np.where(missing, np.where(missing, 0.0, rows).sum(axis=0) / present, rows)
    return rows, missing


def default_autoencoder(rows: Array, schema: Schema, device: str, seed: int) -> Autoencoder:
    """An autoencoder with components for 99 % of the variance of rows (n, E), and 600 steps.

    The code keeps infrequent patterns; restricting it to typical rows is the task of the memory.
    """
    batch = choose_batch_size(len(rows)).value
    steps = math.ceil(len(rows) / batch)
    is_table = schema.layout == "table"
    epochs = max(MIN_EPOCHS, round(TRAINING_STEPS / steps))
    return Autoencoder(
        choose_components(subsample(rows, seed)),
        kind=Multilayer(hidden=HIDDEN) if is_table else "auto",
        preparation=choose_preparation(schema),
        loss=choose_loss(schema),
        batch_size=batch,
        max_epochs=epochs,
        # A convolutional step costs thirty times as much as a dense one.
        early_stopping=True if is_table else max(MIN_EPOCHS, epochs // 4),
        precision="auto" if is_table else "float32",
        transform_max_iter=0,
        device=device,
        random_state=seed,
    )


def choose_preparation(schema: Schema) -> str:
    """Standardized columns for tables, so that outliers of each column count in its own units."""
    return "standard" if schema.layout == "table" else "auto"


def choose_loss(schema: Schema) -> str:
    """The squared loss, which scores are based on, even if all values are 0 or 1."""
    return "squared" if schema.columns is None else "mixed"


def choose_components(rows: Array) -> int:
    """The number of principal components that explain 99 % of the variance, at most 128."""
    limit = min(MAX_COMPONENTS, *rows.shape)
    if not (rows != rows[0]).any():
        return 1  # no variance
    explained = PCA(limit, random_state=0).fit(rows).explained_variance_ratio_.cumsum()
    return int(min(1 + np.sum(explained < EXPLAINED_VARIANCE), limit))
