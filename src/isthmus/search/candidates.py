"""The candidates of a search: combinations of settings from a grid."""

from collections.abc import Mapping, Sequence

import numpy as np
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
"""An example for each setting that may be a spec."""

Grid = Mapping[str, object] | Sequence[Mapping[str, object]]
"""Lists of values, or distributions with a method `rvs`, by the name of a setting."""


def candidates_of(
    estimator: Autoencoder,
    grid: Grid,
    n_iter: int | None,
    random_state: int | np.random.RandomState | None,
) -> list[dict[str, object]]:
    """Every combination of the grid, or `n_iter` of them drawn at random.

    Raises RequestError for an invalid grid, or for settings that the estimator does not have.
    """
    require(
        n_iter is None or (is_integer(n_iter) and n_iter >= 1),
        f"n_iter={short_repr(n_iter)} must be a whole number, at least 1, or None",
    )
    if n_iter is None:
        _check_lists(grid)
    try:
        if n_iter is None:
            candidates = list(ParameterGrid(grid))
        else:
            candidates = list(ParameterSampler(grid, n_iter, random_state=random_state))
    except (TypeError, ValueError) as error:
        raise RequestError(f"param_grid: {' '.join(str(error).split())}") from error
    for settings in candidates:
        for name in settings:
            _check_name(estimator, settings, name)
    return candidates


def _check_lists(grid: Grid) -> None:
    """Raise RequestError if the grid holds a distribution, which has no list of values."""
    for part in [grid] if isinstance(grid, Mapping) else grid:
        distributions = [name for name, values in part.items() if hasattr(values, "rvs")]
        require(
            not distributions,
            f"param_grid: {', '.join(distributions)} can only be drawn at random; give n_iter, the "
            "number of combinations to draw",
        )


def _check_name(estimator: Autoencoder, settings: Mapping[str, object], name: str) -> None:
    """Raise RequestError unless the estimator with these `settings` has one called `name`."""
    defaults = estimator.get_params(deep=False)
    head, *inner = name.split("__", 1)
    require(
        head in defaults,
        f"param_grid: Autoencoder has no setting {head}; it has {_listed(defaults)}",
    )
    if not inner:
        return
    spec = settings.get(head, defaults[head])
    if not hasattr(spec, "get_params"):
        example = SPECS.get(head)
        remedy = f"give {head}={example} in the estimator" if example else f"give lists of {head}"
        raise RequestError(
            f"param_grid: {name} is a setting of a spec, and {head}={short_repr(spec)} is not a "
            f"spec; {remedy}"
        )
    names = spec.get_params()
    require(
        inner[0] in names,
        f"param_grid: {type(spec).__name__} has no setting {inner[0]}; it has {_listed(names)}",
    )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))
