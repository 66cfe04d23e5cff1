"""Which combinations of settings a search tries."""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.model_selection import ParameterGrid, ParameterSampler

from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.spec import is_integer, short_repr

SPECS = {
    "kind": "kinds.Multilayer()",
    "loss": "losses.Huber()",
    "corruption": "corruptions.Masking()",
    "pretraining": "pretraining.RBM()",
    "optimizer": "optim.AdamW()",
}
"""A spec for each setting that may be one."""

Grid = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def candidates_of(
    estimator: Autoencoder, grid: Grid, n_iter: int | None, random_state: Any
) -> list[dict[str, Any]]:
    """Every combination of the grid, or `n_iter` of them drawn at random.

    Raises RequestError for a grid that makes no sense, or settings that the estimator has not.
    """
    require(
        n_iter is None or (is_integer(n_iter) and n_iter >= 1),
        f"n_iter={short_repr(n_iter)} must be a whole number, at least 1, or None",
    )
    if n_iter is None:
        _check_lists(grid)
    try:
        if n_iter is None:
            found = list(ParameterGrid(grid))
        else:
            found = list(ParameterSampler(grid, n_iter, random_state=random_state))
    except (TypeError, ValueError) as error:
        raise RequestError(f"param_grid: {' '.join(str(error).split())}") from error
    for settings in found:
        for name in settings:
            _check_name(estimator, settings, name)
    return found


def _check_lists(grid: Grid) -> None:
    """Raise RequestError where something can only be drawn from."""
    for one in [grid] if isinstance(grid, Mapping) else grid:
        drawn = [name for name, values in one.items() if hasattr(values, "rvs")]
        require(
            not drawn,
            f"param_grid: {', '.join(drawn)} can only be drawn from; give n_iter, which says how "
            "many combinations to draw",
        )


def _check_name(estimator: Autoencoder, settings: Mapping[str, Any], name: str) -> None:
    """Raise RequestError unless the estimator has such a setting, in these `settings` of others."""
    own = estimator.get_params(deep=False)
    head, *inner = name.split("__", 1)
    require(head in own, f"param_grid: Autoencoder has no settings {head}; it has {_listed(own)}")
    if not inner:
        return
    held = settings.get(head, own[head])
    if not hasattr(held, "get_params"):
        spec = SPECS.get(head)
        cure = f"give {head}={spec} in the estimator" if spec else f"give lists of whole {head}"
        raise RequestError(
            f"param_grid: {name} is a setting of a spec, and {head}={short_repr(held)} is none; "
            f"{cure}"
        )
    known = held.get_params()
    require(
        inner[0] in known,
        f"param_grid: {type(held).__name__} has no settings {inner[0]}; it has {_listed(known)}",
    )


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names))
