"""The types of the report data that all sections share."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

FORMAT = 3
"""Version of the layout of the report data."""


class DataFacts(TypedDict):
    """The rows that the report is about."""

    origin: str
    rows: int
    layout: str
    shape: list[int]
    network_shape: list[int]
    features: int
    dtypes: list[str]
    columns: list[str] | None
    channels: list[str] | None
    cut: str | None
    constant: list[str]
    n_constant: int
    scaling: str
    unit: str


class ModelFacts(TypedDict):
    """The network."""

    kind: str
    kind_settings: dict[str, object]
    loss: str
    n_components: int
    weights: int


class TrainingFacts(TypedDict):
    """How the network was trained."""

    outcome: NotRequired[str]
    training_rows: int
    validation_rows: int
    batch_size: NotRequired[int]
    max_epochs: NotRequired[int]
    pretraining: NotRequired[str]
    epochs: int
    best_epoch: int
    device: str
    precision: str
    threads: NotRequired[int]
    engine: NotRequired[str]
    memory_format: NotRequired[str]
    seconds: float
    pretraining_seconds: NotRequired[float]


class ErrorFigures(TypedDict):
    """Mean squared error and explained variance of one method."""

    error: float
    explained_variance: float | None


class BaselineFigures(ErrorFigures):
    """The figures of a baseline at the autoencoder's code size."""

    n_components: int
    rows: int
    """Rows that the baseline was fitted on."""

    reached_at: int | None
    """The smallest code size at which it explains as much variance as the autoencoder."""

    largest: int
    """The largest code size that was tried."""


class Measured(TypedDict):
    """The errors, and the rows that they are of."""

    rows: int
    unseen: bool
    """Whether they are validation rows of the fit; otherwise all rows are measured."""

    is_pca: bool
    """Whether the fit fell back to PCA."""

    validation: Mapping[str, float | None] | None
    """If so, the figures of PCA on the validation rows before it was fitted to all rows."""

    ae: ErrorFigures
    baselines: dict[str, BaselineFigures]


class Usage(TypedDict):
    """How the units of the code are used."""

    units: int
    variance: list[float]
    in_order: bool
    dead: list[int]
    n_dead: int
    duplicates: list[list[int]]
    n_duplicates: int
    smallest: float
    largest: float
    correlation: list[list[float]] | None
    strongest: float
    rows: int


class Event(TypedDict):
    """Something that happened in a fit."""

    event: str
    epoch: int
    message: str


class Losses(TypedDict):
    """Each loss term per epoch, for training and validation rows."""

    epochs: list[int]
    terms: dict[str, dict[str, list[float | None]]]


class OtherFit(Losses):
    """The learning curve of another fit."""

    name: str
    start: str | None


class History(Losses):
    """The learning curve of the fit and its events."""

    best_epoch: int
    start: str | None
    others: list[OtherFit]
    events: list[Event]


class ReportData(TypedDict):
    """Everything that the report shows.

    Sections store their own values next to these keys, under the section's name.
    """

    format: int
    labels: dict[str, str]
    """What texts call each baseline, by its name."""

    data: DataFacts
    model: ModelFacts
    training: TrainingFacts
    versions: dict[str, str]
    measured: Measured
    usage: NotRequired[Usage]
    history: NotRequired[History]
