"""What a detector's autoencoder is, where nobody says: chosen from the rows alone."""

import math

import numpy as np
from sklearn.decomposition import PCA

from isthmus.data import Schema
from isthmus.detector.member import pairs
from isthmus.detector.memory import some_of
from isthmus.estimator import Autoencoder
from isthmus.estimator.defaults import choose_batch_size
from isthmus.kinds import Multilayer
from isthmus.types import Array, Source

VARIANCE_WANTED, MOST_COMPONENTS = 0.99, 128
STEPS_WANTED, FEWEST_EPOCHS = 600, 5
HIDDEN = (128,)
"""Beside so wide a code a larger network finds no more rows, and takes up to ten times as long."""


def draft(source: Source, device: str, seed: int) -> Autoencoder:
    """An autoencoder that has learned nothing yet but how the rows are numbers."""
    unlearned = Autoencoder(
        1,
        kind="vanilla",
        preparation=choose_scaling(source.schema),
        loss=choose_loss(source.schema),
        max_epochs=0,
        validation_fraction=0.0,
        device=device,
        random_state=seed,
    )
    return unlearned.fit(source)


def prepared_rows(unlearned: Autoencoder, source: Source) -> tuple[Array, Array]:
    """(n, E) the rows of a source, prepared and bent, and (n, E) bool where they have gaps.

    The mean stands in for what is missing.
    """
    rows = np.concatenate([rows for rows, _ in pairs(unlearned, source)])
    missing = np.isnan(rows)
    if missing.any():
        known = np.maximum((~missing).sum(axis=0), 1)
        rows = np.where(missing, np.where(missing, 0.0, rows).sum(axis=0) / known, rows)
    return rows, missing


def default_autoencoder(rows: Array, schema: Schema, device: str, seed: int) -> Autoencoder:
    """A code that holds 99 % of the variance of rows (n, E), learned in about 600 steps.

    What is rare must not be lost in the code, which the memory keeps to what is typical.
    """
    batch = choose_batch_size(len(rows))
    steps = math.ceil(len(rows) / batch)
    plain = schema.layout == "table"
    epochs = max(FEWEST_EPOCHS, round(STEPS_WANTED / steps))
    return Autoencoder(
        choose_components(some_of(rows, seed)),
        kind=Multilayer(hidden=HIDDEN) if plain else "auto",
        preparation=choose_scaling(schema),
        loss=choose_loss(schema),
        batch_size=batch,
        max_epochs=epochs,
        # A step of convolutions costs thirty times what one of a dense layer does.
        early_stopping=True if plain else max(FEWEST_EPOCHS, epochs // 4),
        precision="auto" if plain else "float32",
        transform_max_iter=0,
        device=device,
        random_state=seed,
    )


def choose_scaling(schema: Schema) -> str:
    """Column by column for tables: what is odd in one column may be nothing in another's units."""
    return "standard" if schema.layout == "table" else "auto"


def choose_loss(schema: Schema) -> str:
    """Squared, which is what scores are made of, even where all values are 0 or 1."""
    return "squared" if schema.columns is None else "mixed"


def choose_components(rows: Array) -> int:
    """The components that hold 99 % of the variance, at most 128."""
    most = min(MOST_COMPONENTS, *rows.shape)
    if not (rows != rows[0]).any():
        return 1  # no variance to share
    shares = PCA(most, random_state=0).fit(rows).explained_variance_ratio_.cumsum()
    return int(min(1 + np.sum(shares < VARIANCE_WANTED), most))
