"""Refinement of codes at transform time, and the decision for it on validation rows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isthmus.data.loading.rows import Rows, sample_positions
from isthmus.errors import require
from isthmus.estimator.defaults import Choice
from isthmus.estimator.settings import AUTO, RULES
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import row_means
from isthmus.refinement import Refinement, inverse_curvature
from isthmus.training.rows import take_rows

ENOUGH_STEPS = 4
"""Half of what 8 steps gain comes with the first, nine tenths with four (docs/benchmarks.md)."""

WORTHWHILE = 0.02
"""The share of the error that refinement must remove to be used."""

WIDEST_CODE = 512
VALUES_AT_ONCE = 1 << 22
"""Values per batch: a gradient stores every layer's output, so wide rows need small batches."""

ROWS_TO_LEARN, FEWEST_ROWS, ROWS_TO_JUDGE = 1024, 32, 1024


@dataclass(frozen=True)
class CodeRefinement:
    """How a fitted model finds its codes: refinement steps after the encoder, and their metric."""

    steps: int
    metric: Tensor | None = None
    """(K, K) of a `Refinement`; None if codes cannot be refined. Without steps it may be set, since
    steps can be asked for later."""

    gain: float = 0.0
    """The share of the error that the steps remove on the rows they were judged by."""

    rows: str = ""
    """Those rows, in words."""

    @property
    def effect(self) -> str:
        """What the steps do to the error, as a verb."""
        return "lowers" if self.gain >= 0 else "raises"

    @property
    def message(self) -> str:
        """The decision and its reason, in one line."""
        return (
            f"codes are refined in {self.steps} steps when rows are transformed, which "
            f"{self.effect} the error of {self.rows} by {abs(self.gain):.0%}"
        )


NO_REFINEMENT = CodeRefinement(0)


def obstacle(network: CodeNetwork, n_components: int) -> str | None:
    """Why codes cannot be refined, or only at a high cost; None if they can."""
    if network.code_activation_name != "linear":
        return f"needs a code without an activation, this one has {network.code_activation_name!r}"
    if n_components > WIDEST_CODE:
        return f"is for codes of up to {WIDEST_CODE} numbers, this one has {n_components}"
    return None


def check_refinable(steps: int | str, network: CodeNetwork, n_components: int) -> None:
    """Raise RequestError if steps are asked for and there is an obstacle."""
    reason = obstacle(network, n_components)
    require(steps in (AUTO, 0) or reason is None, f"transform_max_iter={steps} {reason}; use 0")


def decide_refinement(
    wanted: int | str,
    network: CodeNetwork,
    loss: Reconstruction,
    train: Rows,
    validation: Rows,
    *,
    plain: bool,
    seed: int,
) -> CodeRefinement:
    """The steps that were set; for "auto" 4 if they gain 2 % on the validation rows, else 0.

    `plain` says that the code has no aim but the reconstruction. With penalties or a corruption the
    code that reconstructs best may not be the wanted one. There must be no `obstacle`.
    """
    sample = train.take(sample_positions(train, _metric_rows(train)))
    none = CodeRefinement(0, inverse_curvature(network, loss, sample, seed))
    if wanted == 0 or (wanted == AUTO and (not plain or network.decodes_linearly)):
        return none
    refinement = replace(none, steps=ENOUGH_STEPS if wanted == AUTO else int(wanted))
    positions = sample_positions(validation, ROWS_TO_JUDGE)
    x, weight = take_rows(validation, positions)
    before, after = (_error(each, network, loss, x, weight) for each in (none, refinement))
    gain = 1 - after / before if before > 0 else 0.0
    rows = f"{len(positions)} {'training' if validation is train else 'validation'} rows"
    worthwhile = wanted != AUTO or gain >= WORTHWHILE
    return replace(refinement if worthwhile else none, gain=gain, rows=rows)


def explain_refinement(refinement: CodeRefinement, *, plain: bool, linear: bool) -> Choice[int]:
    """The number of steps that "auto" became, and why."""
    if refinement.metric is None:
        reason = "the code has an activation or too many numbers"
    elif not plain:
        reason = "there is a penalty or a corruption, or no epoch was better than the start"
    elif linear:
        reason = "the decoder is linear"
    else:
        reason = (
            f"refinement in {ENOUGH_STEPS} steps {refinement.effect} the error of "
            f"{refinement.rows} by {abs(refinement.gain):.1%}; it is used from {WORTHWHILE:.0%} on"
        )
    return Choice(refinement.steps, reason)


def refine_codes(
    code: Tensor,
    x: Tensor,
    refinement: CodeRefinement,
    network: CodeNetwork,
    loss: Reconstruction,
) -> Tensor:
    """The codes (B, K) of rows (B, *shape) after the steps of a refinement.

    Counts are taken at the mean depth, at which the metric was learned: a code holds no depth.
    Raises RequestError if these codes cannot be refined.
    """
    steps, metric, rule = refinement.steps, refinement.metric, RULES["transform_max_iter"]
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
    rows, x = max(1, VALUES_AT_ONCE // x[0].numel()), loss.normalize_sizes(x)
    parts = zip(torch.split(x, rows), torch.split(code, rows), strict=True)
    return torch.cat([refine(*part, steps) for part in parts])


def reconstruct(
    refinement: CodeRefinement, network: CodeNetwork, loss: Reconstruction, x: Tensor
) -> Tensor:
    """The rows (B, *shape) after a round trip through their codes."""
    code = refine_codes(network.encode(x), x, refinement, network, loss)
    return loss.reconstruct(network.decode(code), x)


def _metric_rows(rows: Rows) -> int:
    """How many rows to learn the metric from, fewer if they are wide."""
    wide = VALUES_AT_ONCE // rows.preparation.facts.n_features
    return min(ROWS_TO_LEARN, max(FEWEST_ROWS, wide))


@torch.no_grad()
def _error(
    refinement: CodeRefinement,
    network: CodeNetwork,
    loss: Reconstruction,
    x: Tensor,
    weight: Tensor,
) -> float:
    if network.facts.counts is not None:
        code = refine_codes(network.encode(x), x, refinement, network, loss)
        return float(weight @ loss.per_row_known(network.decode(code), x))
    near = reconstruct(refinement, network, loss, x)
    return float(weight @ row_means((near - x).square(), network.facts.share))
