"""What has become of a fit, in words."""

from isthmus.estimator.guard import FEWEST_ROWS
from isthmus.training.state import ALL_DONE, State


def why_pca(state: State, distinct: int, *, few_epochs: bool) -> str:
    """Why a fit has come back to PCA, and what may help.

    `distinct` is how many different rows were held out, `few_epochs` whether there were fewer than
    such rows need.
    """
    if distinct < FEWEST_ROWS:
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
    return state.rescues > 0 or not trained[-1] <= state.ceiling
