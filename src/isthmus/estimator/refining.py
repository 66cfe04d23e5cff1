"""Whether codes are refined when rows are transformed, decided on held-out rows."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.data import Rows, spread
from isthmus.errors import require
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.refinement import Refinement, inverse_curvature

ENOUGH_STEPS = 4
"""Half of what 8 steps gain comes with the first, nine tenths with four (docs/benchmarks.md)."""

WORTHWHILE = 0.02
"""Share of the error that must go, or the encoder's own codes are good enough."""

WIDEST_CODE = 512
VALUES_AT_ONCE = 1 << 22
"""A gradient keeps what every layer made of a batch, so that wide rows come in smaller ones."""

ROWS_TO_LEARN, ROWS_TO_JUDGE = 1024, 1024


@dataclass(frozen=True)
class Refining:
    """How a fitted model finds its codes."""

    steps: int
    metric: Tensor | None = None
    """(K, K) of a `Refinement`, where there are steps."""

    gain: float = 0.0
    """Share of the error on the rows it was judged by that the steps took away."""

    rows: str = ""
    """Which those were, in words."""

    @property
    def message(self) -> str:
        """What was decided and why, in one line."""
        return (
            f"codes are refined in {self.steps} steps when rows are transformed, which takes "
            f"{self.gain:.0%} from the error of {self.rows}"
        )


NOT_AT_ALL = Refining(0)


def settle(
    wanted: int | str,
    network: CodeNetwork,
    loss: Reconstruction,
    train: Rows,
    judged: Rows,
    *,
    plain: bool,
    seed: int,
) -> Refining:
    """The steps asked for; for "auto" 4 where they gain 2 % on the `judged` rows, else none.

    `plain` tells that nothing but the reconstruction was asked of the code: whoever penalises it
    or hides values from the encoder may want another code than the one that rebuilds best.
    Raises RequestError for steps where a code cannot be moved freely.
    """
    if wanted == 0 or (wanted == "auto" and not (plain and _suits(network, train))):
        return NOT_AT_ALL
    require(
        _free(network),
        f"transform_max_iter={wanted} needs a code without an activation, this one has "
        f"{network.code_activation_name!r}; use 0",
    )
    steps = ENOUGH_STEPS if wanted == "auto" else int(wanted)
    sample = train.take(spread(np.arange(len(train)), ROWS_TO_LEARN))
    found = Refining(steps, inverse_curvature(network, loss, sample, seed))
    at = spread(np.arange(len(judged)), ROWS_TO_JUDGE)
    x, weight = judged.take(at), judged.weight[torch.as_tensor(at)]
    before, after = (_error(way, network, loss, x, weight) for way in (NOT_AT_ALL, found))
    gain = 1 - after / before if before > 0 else 0.0
    worthwhile = wanted != "auto" or gain >= WORTHWHILE
    rows = f"{len(at)} {'training' if judged is train else 'held-out'} rows"
    return replace(found, gain=gain, rows=rows) if worthwhile else NOT_AT_ALL


def refined(
    code: Tensor,
    x: Tensor,
    steps: int,
    metric: Tensor | None,
    network: CodeNetwork,
    loss: Reconstruction,
) -> Tensor:
    """The codes (B, K) of rows (B, *shape) after so many steps; RequestError where none can be."""
    if not steps:
        return code
    require(
        metric is not None,
        f"transform_max_iter={steps} was not asked for when this model was fitted; use 0, or fit "
        "it again",
    )
    assert metric is not None
    refine = Refinement(network, loss.per_row, metric)
    rows = max(1, VALUES_AT_ONCE // x[0].numel())
    parts = zip(x.split(rows), code.split(rows), strict=True)
    return torch.cat([refine(*part, steps) for part in parts])


def rebuilt(refining: Refining, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
    """The rows (B, *shape) after a round trip through their codes."""
    code = refined(network.encode(x), x, refining.steps, refining.metric, network, loss)
    return loss.mean(network.decode(code))


def _free(network: CodeNetwork) -> bool:
    return network.code_activation_name == "linear"


@torch.no_grad()
def _suits(network: CodeNetwork, rows: Rows) -> bool:
    """Whether refining may be worth it: PCA's codes are the best ones, wide codes are dear."""
    if not _free(network) or network.decoder is None:
        return False
    return network.encode(rows.take(np.zeros(1, dtype=np.intp))).shape[1] <= WIDEST_CODE


@torch.no_grad()
def _error(
    way: Refining, network: CodeNetwork, loss: Reconstruction, x: Tensor, weight: Tensor
) -> float:
    errors = (rebuilt(way, network, loss, x) - x).square().flatten(1).mean(dim=1)
    return float(weight @ errors)
