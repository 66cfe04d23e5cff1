"""What the user asked for, checked where no data are needed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from isthmus.data import Corruption
from isthmus.errors import require
from isthmus.kinds import Kind
from isthmus.losses import PenaltySpec, Reconstruction
from isthmus.optim import OptimizerSpec
from isthmus.pretraining import PRETRAININGS
from isthmus.training.loop import Callback
from isthmus.training.progress import Reporter
from isthmus.training.world import PRECISIONS


@dataclass(kw_only=True)
class Request:
    """What the user asked for: the estimator's settings and the seed drawn from `random_state`."""

    n_components: int | None
    kind: str | Kind
    loss: str | Reconstruction
    penalties: Sequence[str | PenaltySpec]
    corruption: str | Corruption | None
    pretraining: str
    optimizer: str | OptimizerSpec
    max_epochs: int | None
    batch_size: int | None
    validation_fraction: float | str
    early_stopping: bool | int
    preparation: str
    device: str
    precision: str
    callbacks: Sequence[Callback]
    seed: int
    reporter: Reporter
    checkpoint: Path | None
    resume: bool

    @classmethod
    def shared(cls) -> list[str]:
        """The fields that are settings of the estimator under the same name."""
        return [
            f.name
            for f in fields(cls)
            if f.name not in ("seed", "reporter", "checkpoint", "resume")
        ]


def check_request(request: Request) -> None:
    """Raise RequestError where a setting is out of its range whatever the data."""
    fraction, epochs, batch = request.validation_fraction, request.max_epochs, request.batch_size
    require(
        fraction == "auto" or (not isinstance(fraction, str) and 0 <= fraction < 1),
        f"validation_fraction={fraction!r} must be 'auto' or at least 0 and below 1",
    )
    require(epochs is None or epochs >= 0, f"max_epochs={epochs} must not be negative")
    require(batch is None or batch >= 1, f"batch_size={batch} must be at least 1")
    require(
        request.pretraining in ("auto", *PRETRAININGS),
        f"pretraining={request.pretraining!r} is not known; use 'auto', {', '.join(PRETRAININGS)}",
    )
    require(
        request.precision in PRECISIONS,
        f"precision={request.precision!r} is not known; use one of {', '.join(PRECISIONS)}",
    )
