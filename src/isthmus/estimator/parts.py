"""The user's words for the parts of a fit, made into the parts themselves."""

import functools
from collections.abc import Callable

from torch import Tensor

from isthmus.data import CORRUPTIONS, Corruption, Preparation, fit_preparation
from isthmus.errors import RequestError, require
from isthmus.estimator import choices
from isthmus.estimator.request import Request
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, Bernoulli, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.spec import resolve
from isthmus.types import Array, Facts, Index, Source


def loss_and_preparation(
    request: Request, source: Source, rows: Index, weight: Array
) -> tuple[Reconstruction, Preparation]:
    """The reconstruction loss and the preparation, each of which the other may decide.

    Raises RequestError where the loss cannot take the prepared values.
    """
    prepare = functools.partial(fit_preparation, source, rows, weight)
    if request.loss == "auto":
        preparation = prepare(request.preparation)
        name = choices.choose_loss(preparation)
        loss = LOSSES[name]()
    else:
        loss = resolve(request.loss, LOSSES, Reconstruction, "loss")
        name = "bernoulli" if isinstance(loss, Bernoulli) else ""
        preparation = None
    scaling = request.preparation
    if scaling == "auto":
        scaling = choices.choose_scaling(name)
    if preparation is None or preparation.scaling != scaling != "auto":
        preparation = prepare(scaling)
    _check_range(loss, preparation)
    return loss, preparation


def _check_range(loss: Reconstruction, preparation: Preparation) -> None:
    if isinstance(loss, Bernoulli) and not 0 <= preparation.low <= preparation.high <= 1:
        raise RequestError(
            f"loss='bernoulli' needs values from 0 to 1, found {preparation.low:.4g} to "
            f"{preparation.high:.4g}; rescale the data or use loss='squared'"
        )


def kind_of(request: Request, source: Source) -> Kind:
    """The kind asked for, or the one that suits the rows."""
    name = choices.choose_kind(source.schema) if request.kind == "auto" else request.kind
    return resolve(name, KINDS, Kind, "kind")


def starts_at_pca(request: Request, kind: Kind) -> bool:
    """Whether the network starts at the principal components; RequestError where it cannot."""
    if request.pretraining == "auto":
        return kind.starts_linear
    require(
        request.pretraining != "pca" or kind.starts_linear,
        f"pretraining='pca' needs a network with a linear path, which {kind!r} has not; "
        "use pretraining='random' or skip=True",
    )
    return request.pretraining == "pca"


def penalties_of(request: Request, kind: Kind) -> list[PenaltySpec]:
    """The kind's own penalties, then those asked for."""
    own = [PENALTIES[name](**settings) for name, settings in kind.wants().penalties]
    return own + [resolve(p, PENALTIES, PenaltySpec, "penalties") for p in request.penalties]


def corruption_of(request: Request, kind: Kind, facts: Facts) -> Callable[[Tensor], Tensor] | None:
    """The noise asked for, else the kind's own, else None, as a function of a batch."""
    noise: Corruption | None = None
    wanted = kind.wants().corruption
    if request.corruption is not None:
        noise = resolve(request.corruption, CORRUPTIONS, Corruption, "corruption")
    elif wanted is not None:
        noise = CORRUPTIONS[wanted[0]](**wanted[1])
    if noise is None:
        return None
    noise.check()
    return functools.partial(noise, facts=facts)


def optimizer_of(request: Request) -> OptimizerSpec:
    """The optimizer's spec."""
    return resolve(request.optimizer, OPTIMIZERS, OptimizerSpec, "optimizer")


def patience_of(request: Request, epochs: int) -> int | None:
    """Epochs to wait for a better held-out loss, or None for ever."""
    if request.early_stopping is True:
        return choices.choose_patience(epochs)
    return None if request.early_stopping is False else int(request.early_stopping)
