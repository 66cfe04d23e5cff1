"""The comparison with PCA, which replaces a network that gains nothing over it above chance."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import Rows, consecutive_batches
from isthmus.kinds import CodeNetwork
from isthmus.missing import filled, row_means
from isthmus.pretraining import PCASolution, principal_components
from isthmus.training.state import ALL_DONE, State
from isthmus.types import Index, WeightedRows

FEWEST_ROWS = 5
"""The fewest different validation rows that are evidence."""

PARTS, MOST_ROWS_TO_PART = 8, 10_000
"""Parts of the cross-validation, and the most rows for it: more have enough validation rows."""


def is_evidence(distinct: int) -> bool:
    """Whether so many different validation rows can distinguish a gain over PCA from chance."""
    return distinct >= FEWEST_ROWS


@torch.no_grad()
def beats_pca(
    rebuild: Callable[[Tensor], Tensor],
    clamp_output: Callable[[Tensor], Tensor],
    train: Rows,
    validation: Rows,
    solution: PCASolution,
    distinct: int,
) -> bool:
    """Whether `rebuild`, the round trip of a trained network, is better than PCA of all rows.

    The gain over the PCA that training began at, on the validation rows, must exceed the sum of two
    terms. The first is one standard error, since the best of many epochs is a little better by
    chance alone. The second is what PCA itself would gain from training on the validation rows too.

    PCA's output is cut off at the ends of the features' ranges, as the network's is. Its error on
    new rows lies above a limit, and its error on its own rows below, by about a / n (Akaike 1974).
    A share f of more rows thus gains f (error on new rows - error on its own rows) / 2. New rows
    are the validation rows. If they are few, they are also each part of the training rows for a PCA
    of the other parts, since a few validation rows may lack the rare ones that matter most; this
    can only raise the requirement. Copies of a row add no evidence, so only the `distinct`
    validation rows count, and too few are no evidence (`is_evidence`).
    """
    pca_error = pca_errors(solution, validation, clamp_output)
    gain = pca_error - _errors(rebuild, validation)
    weight = validation.weight.double()
    mean = float((weight * gain).mean())
    spread = float((weight * (gain - mean).square()).mean() / distinct) ** 0.5
    own = _own_error(solution, train, clamp_output)
    share = validation.total / (validation.total + train.total)
    excess = float((weight * pca_error).mean()) - own
    if not train.source.is_streamed and PARTS <= len(train) <= MOST_ROWS_TO_PART:
        within = _excess_within(solution, train, clamp_output, own)
        excess = max(excess, share * excess + (1 - share) * within)
    more_rows = share * max(excess, 0.0) / 2
    return bool(mean > more_rows + spread)


class _Some(WeightedRows):
    """Some of the rows."""

    def __init__(self, rows: Rows, positions: Index) -> None:
        self.rows, self.positions = rows, positions
        self.weight = rows.weight[torch.as_tensor(positions)]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.positions)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions among them."""
        return self.rows.take(self.positions[positions])


def _excess_within(
    solution: PCASolution, train: Rows, clamp_output: Callable[[Tensor], Tensor], own: float
) -> float:
    """How far PCA's error on new rows lies above that on its own, `own`, by cross-validation.

    It learns from a share of 1 - 1 / p of the rows only, for which its error lies higher by
    a / n / (1 - 1 / p) than the common limit, and not by a / n: that much is taken away.
    """
    everything, size = np.arange(len(train)), len(solution.components)
    sums = 0.0
    for part in range(PARTS):
        new = everything % PARTS == part
        rest, left_out = _Some(train, everything[~new]), _Some(train, everything[new])
        learned = principal_components(rest, size, fill_value=solution.mean)
        x = left_out.take(np.arange(len(left_out)))
        errors = _pca_errors(learned, x, train, clamp_output)
        sums += float(left_out.weight.double() @ errors)
    error = sums / float(train.weight.double().sum())
    return (error - own) * 2 / (1 + PARTS / (PARTS - 1))


def _own_error(
    solution: PCASolution, train: Rows, clamp_output: Callable[[Tensor], Tensor]
) -> float:
    """PCA's mean error on the rows it was learned from; of rows on disk, on those in memory."""
    if train.source.is_streamed and len(train.quick_positions) < len(train):
        x = train.take(train.quick_positions)
        return float(_pca_errors(solution, x, train, clamp_output).mean())
    return float((train.weight.double() * pca_errors(solution, train, clamp_output)).mean())


def pca_errors(
    solution: PCASolution, rows: Rows, clamp_output: Callable[[Tensor], Tensor] = torch.positive
) -> Tensor:
    """(n,) float64: each row's mean squared error after projection on the components.

    Missing values are taken for the mean, and then not judged.
    `limited` is what a network does to its output because features' ranges end.
    """
    return torch.cat([_pca_errors(solution, x, rows, clamp_output) for x in _blocks(rows)])


def _pca_errors(
    solution: PCASolution, x: Tensor, rows: Rows, clamp_output: Callable[[Tensor], Tensor]
) -> Tensor:
    centred = filled(x.flatten(1).double() - solution.mean)
    flat = centred @ solution.components.t() @ solution.components + solution.mean
    rebuilt = clamp_output(flat.reshape(x.shape))
    return row_means((x - rebuilt).square(), rows.preparation.facts.share)


def pca_figures(
    solution: PCASolution, validation: Rows, network: CodeNetwork, unit: float
) -> dict[str, float]:
    """What PCA of the training rows makes of the held-out ones, errors in units of `unit`."""
    lost = float(pca_errors(solution, validation, network.clamp_output).mean())
    around_mean = float(pca_errors(solution.first(0), validation).mean())
    explained = 1 - lost / around_mean if around_mean > 0 else float("nan")
    return {"rows": len(validation), "error": lost * unit**2, "explained_variance": explained}


def _errors(rebuild: Callable[[Tensor], Tensor], rows: Rows) -> Tensor:
    share = rows.preparation.facts.share
    errors = [row_means((rebuild(x) - x).double().square(), share) for x in _blocks(rows)]
    return torch.cat(errors)


def _blocks(rows: Rows) -> Iterator[Tensor]:
    return (rows.take(positions) for positions in consecutive_batches(len(rows)))


def describe_pca(rows: int, validation: int, distinct: int) -> str:
    """The outcome of a fit whose model is the PCA of `rows` rows, in words.

    `validation` of them were validation rows, of which `distinct` were different.
    """
    included = f", the {validation} held out among them" if validation else ""
    reason = "training gained nothing over it"
    if not is_evidence(distinct):
        reason = f"too few different rows ({distinct}) were held out to show a gain over it"
    return f"PCA of all {rows} rows{included}; {reason}"


def describe_outcome(state: State, max_epochs: int) -> str:
    """The outcome of a fit whose network is kept, in words."""
    if max_epochs == 0:
        return "the start, untrained"
    if state.best_epoch == 0:
        return "the start, as no epoch was better"
    return f"the network of epoch {state.best_epoch}"


def why_pca(state: State, distinct: int, *, few_epochs: bool) -> str:
    """Why a fit has come back to PCA, and what may help.

    `distinct` is how many different rows were held out, `few_epochs` whether there were fewer than
    such rows need.
    """
    if not is_evidence(distinct):
        return (
            f"{distinct} different rows held out cannot show whether training gains "
            "anything over PCA: the model is the PCA of all rows, untrained"
        )
    text = "training gained nothing over PCA above chance: the model is the PCA of all rows"
    if _diverged(state):
        return f"{text}; training diverged, so a lower learning rate may gain something"
    if few_epochs and state.stopped == ALL_DONE:
        return f"{text}; more epochs may gain something"
    return text


def _diverged(state: State) -> bool:
    """Whether training had to be brought back, or ended far above where it began.

    Training rows tell that alone: outputs that are cut off where ranges end keep the loss of those
    held out within bounds, however far off the network is.
    """
    trained = [sum(record["train"].values()) for record in state.history if "train" in record]
    return state.restores > 0 or not trained[-1] <= state.ceiling
