"""A fitted Autoencoder as an artifact: plain values and tensors."""

from typing import Any

import torch

from isthmus.artifact import Artifact
from isthmus.spec import to_plain

NOT_SAVED = ("callbacks", "verbose", "checkpoint")
"""Settings that belong to one run, not to the model."""

MEAN, METRIC = "mean", "metric"
NETWORK, IMPUTER = "network.", "imputer."


def to_artifact(estimator: Any) -> Artifact:
    """Everything needed to use the fitted Autoencoder `estimator` again."""
    settings = estimator.get_params(deep=False)
    weights = {f"{NETWORK}{k}": v for k, v in estimator.network_.state_dict().items()}
    refinement = {} if estimator.metric_ is None else {METRIC: estimator.metric_}
    if estimator.imputer_ is not None:
        refinement |= {f"{IMPUTER}{k}": v for k, v in estimator.imputer_.tensors().items()}
    return Artifact(
        settings={k: _setting(v) for k, v in settings.items() if k not in NOT_SAVED},
        kind=estimator.kind_.to_json(),
        loss=estimator.loss_.to_json(),
        preparation=estimator.preparation_.to_json(),
        facts=estimator.facts_ | {"best_epoch": estimator.best_epoch_},
        weights=weights | {MEAN: estimator.mean_} | refinement,
        history=estimator.history_,
    )


def _setting(value: Any) -> Any:
    value = str(value) if isinstance(value, torch.device) else to_plain(value)
    # A RandomState is a stream that has moved on; there is nothing of it to keep.
    return value if isinstance(value, (str, int, float, bool, list, dict)) else None
