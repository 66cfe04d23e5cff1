"""Whether codes are refined when rows are transformed, decided on held-out rows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isthmus.data import Rows, sampled
from isthmus.errors import require
from isthmus.estimator.settings import AUTO, RULES
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import row_means
from isthmus.refinement import Refinement, inverse_curvature
from isthmus.training.rows import taken

ENOUGH_STEPS = 4
"""Half of what 8 steps gain comes with the first, nine tenths with four (docs/benchmarks.md)."""

WORTHWHILE = 0.02
"""Share of the error that must go, or the encoder's own codes are good enough."""

WIDEST_CODE = 512
VALUES_AT_ONCE = 1 << 22
"""A gradient keeps what every layer made of a batch, so that wide rows come in smaller ones."""

ROWS_TO_LEARN, FEWEST_ROWS, ROWS_TO_JUDGE = 1024, 32, 1024


@dataclass(frozen=True)
class CodeRefinement:
    """How a fitted model finds its codes."""

    steps: int
    metric: Tensor | None = None
    """(K, K) of a `Refinement`, where codes can be refined: the steps may be asked for later."""

    gain: float = 0.0
    """Share of the error on the rows it was judged by that the steps took away."""

    rows: str = ""
    """Which those were, in words."""

    @property
    def message(self) -> str:
        """What was decided and why, in one line."""
        return (
            f"codes are refined in {self.steps} steps when rows are transformed, which changes "
            f"the error of {self.rows} by {-self.gain:+.0%}"
        )


NO_REFINEMENT = CodeRefinement(0)


def obstacle(network: CodeNetwork, n_components: int) -> str | None:
    """Why codes cannot be moved freely, or not at a fair price; None where they can."""
    if network.code_activation_name != "linear":
        return f"needs a code without an activation, this one has {network.code_activation_name!r}"
    if n_components > WIDEST_CODE:
        return f"is for codes of up to {WIDEST_CODE} numbers, this one has {n_components}"
    return None


def check_free(wanted: int | str, network: CodeNetwork, n_components: int) -> None:
    """Raise RequestError for steps where there is an obstacle."""
    reason = obstacle(network, n_components)
    require(wanted in (AUTO, 0) or reason is None, f"transform_max_iter={wanted} {reason}; use 0")


def decide_refinement(
    wanted: int | str,
    network: CodeNetwork,
    loss: Reconstruction,
    train: Rows,
    judged: Rows,
    *,
    plain: bool,
    seed: int,
) -> CodeRefinement:
    """The steps asked for; for "auto" 4 where they gain 2 % on the `judged` rows, else none.

    `plain` tells that nothing but the reconstruction was asked of the code: whoever penalises it
    or hides values from the encoder may want another code than the one that rebuilds best. There
    must be no `obstacle`.
    """
    sample = train.take(sampled(train, _fitting_in(train)))
    none = CodeRefinement(0, inverse_curvature(network, loss, sample, seed))
    if wanted == 0 or (wanted == AUTO and (not plain or network.decoder is None)):
        return none
    found = replace(none, steps=ENOUGH_STEPS if wanted == AUTO else int(wanted))
    at = sampled(judged, ROWS_TO_JUDGE)
    x, weight = taken(judged, at)
    before, after = (_error(way, network, loss, x, weight) for way in (none, found))
    gain = 1 - after / before if before > 0 else 0.0
    rows = f"{len(at)} {'training' if judged is train else 'held-out'} rows"
    worthwhile = wanted != AUTO or gain >= WORTHWHILE
    return replace(found, gain=gain, rows=rows) if worthwhile else none


def refined(
    code: Tensor,
    x: Tensor,
    steps: int,
    metric: Tensor | None,
    network: CodeNetwork,
    loss: Reconstruction,
) -> Tensor:
    """The codes (B, K) of rows (B, *shape) after so many steps; RequestError where none can be.

    Counts are taken at the mean depth, at which the metric was learned: a code holds no depth.
    """
    rule = RULES["transform_max_iter"]
    require(rule.fits(steps), f"transform_max_iter={steps!r} must be {rule.words}")
    if not steps:
        return code
    require(
        metric is not None,
        f"transform_max_iter={steps}: the codes of this model cannot be refined, since an "
        f"activation makes them or they have more than {WIDEST_CODE} numbers; use 0",
    )
    assert metric is not None
    refine = Refinement(network, loss.row_loss(allow_missing=network.facts.allow_missing), metric)
    rows, x = max(1, VALUES_AT_ONCE // x[0].numel()), loss.to_common_depth(x)
    parts = zip(torch.split(x, rows), torch.split(code, rows), strict=True)
    return torch.cat([refine(*part, steps) for part in parts])


def rebuilt(
    refinement: CodeRefinement, network: CodeNetwork, loss: Reconstruction, x: Tensor
) -> Tensor:
    """The rows (B, *shape) after a round trip through their codes."""
    code = refined(network.encode(x), x, refinement.steps, refinement.metric, network, loss)
    return loss.rebuilt(network.decode(code), x)


def _fitting_in(rows: Rows) -> int:
    """How many rows to learn the metric from, fewer where they are wide."""
    wide = VALUES_AT_ONCE // rows.preparation.facts.n_features
    return min(ROWS_TO_LEARN, max(FEWEST_ROWS, wide))


@torch.no_grad()
def _error(
    way: CodeRefinement, network: CodeNetwork, loss: Reconstruction, x: Tensor, weight: Tensor
) -> float:
    if network.facts.counts is not None:
        code = refined(network.encode(x), x, way.steps, way.metric, network, loss)
        return float(weight @ loss.per_row_known(network.decode(code), x))
    errors = row_means((rebuilt(way, network, loss, x) - x).square(), network.facts.share)
    return float(weight @ errors)
