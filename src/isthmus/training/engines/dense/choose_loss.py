"""Which head stands behind the passes of a network, for an objective."""

from typing import TypeGuard

from isthmus.kinds import ACTIVATIONS, CodeNetwork
from isthmus.losses import Contraction, Objective, PenaltySpec, Squared
from isthmus.training.engines.dense.column_losses import ColumnHead, Parts
from isthmus.training.engines.dense.losses import AnyHead, Contracted, Head, SquaredHead
from isthmus.types import Network


def head_of(network: Network, objective: Objective) -> Head | None:
    """What suits an objective; None where its terms ask for more than there is in closed form."""
    heard = {name: one for name, one in objective.penalties.items() if not _silent(one)}
    beyond = {name: one for name, one in heard.items() if not one.OF_CODE}
    if not beyond:
        return _head_of_code(network, objective)
    unknown = objective.allow_missing or not all(
        type(one) is Contraction for one in beyond.values()
    )
    if unknown or not _is_one_layer(network):
        return None
    rest = _head_of_code(network, objective.without(beyond))
    return Contracted(rest, {name: one.weight for name, one in beyond.items()}, network)


def _head_of_code(network: Network, objective: Objective) -> Head:
    """That of a loss, and penalties that ask for the code alone."""
    silent = all(map(_silent, objective.penalties.values()))
    if type(objective.loss) is Squared and silent and not objective.allow_missing:
        return SquaredHead(objective.loss, objective.penalties)
    parts = Parts.of(objective.loss) if silent else None
    whole = AnyHead(network, objective)
    return whole if parts is None else ColumnHead(parts, whole)


def _is_one_layer(network: Network) -> TypeGuard[CodeNetwork]:
    if type(network) is not CodeNetwork or network.dense_encoder() is None:
        return False
    return ACTIVATIONS[network.code_activation_name].second_derivative is not None


def _silent(penalty: PenaltySpec) -> bool:
    """Whether a penalty is nothing: one without weight, unless it decides that by itself."""
    return not penalty.weight and type(penalty).__call__ is PenaltySpec.__call__
