"""Choose the loss with hand-derived gradients for an objective."""

from typing import TypeGuard

from isthmus.kinds import ACTIVATIONS, CodeNetwork
from isthmus.losses import Contraction, Objective, PenaltySpec, Squared
from isthmus.training.engines.dense.column_losses import ColumnLoss, ColumnTable
from isthmus.training.engines.dense.losses import (
    AutogradLoss,
    ContractionLoss,
    DenseLoss,
    SquaredLoss,
)
from isthmus.types import Network


def dense_loss_for(network: Network, objective: Objective) -> DenseLoss | None:
    """The loss for an objective, or None if a penalty needs more than the code."""
    active = {name: p for name, p in objective.penalties.items() if not _is_zero(p)}
    beyond_code = {name: p for name, p in active.items() if not p.NEEDS_ONLY_CODE}
    if not beyond_code:
        return _loss_of_output_and_code(network, objective)
    contraction = all(type(penalty) is Contraction for penalty in beyond_code.values())
    if objective.allow_missing or not contraction or not _is_one_layer(network):
        return None
    other = _loss_of_output_and_code(network, objective.without(beyond_code))
    weights = {name: penalty.weight for name, penalty in beyond_code.items()}
    return ContractionLoss(other, weights, network)


def _loss_of_output_and_code(network: Network, objective: Objective) -> DenseLoss:
    """The fastest loss for an objective that needs only the output and the code."""
    no_penalty = all(map(_is_zero, objective.penalties.values()))
    if type(objective.loss) is Squared and no_penalty and not objective.allow_missing:
        return SquaredLoss(objective.loss, objective.penalties)
    table = ColumnTable.of(objective.loss) if no_penalty else None
    general = AutogradLoss(network, objective)
    return general if table is None else ColumnLoss(table, general)


def _is_one_layer(network: Network) -> TypeGuard[CodeNetwork]:
    if type(network) is not CodeNetwork or network.dense_encoder() is None:
        return False
    return ACTIVATIONS[network.code_activation_name].second_derivative is not None


def _is_zero(penalty: PenaltySpec) -> bool:
    """Whether a penalty has weight 0 and does not override how it is called."""
    return not penalty.weight and type(penalty).__call__ is PenaltySpec.__call__
