"""What has become of a fit, in words."""

from dataclasses import dataclass

from isthmus.estimator.guard import is_evidence
from isthmus.training.state import ALL_DONE, State


@dataclass
class Outcome:
    """What the model is in the end, and of which rows."""

    learned: int
    """Rows that the network was trained on."""

    held_out: int
    """Rows that were held out of training."""

    pca: str = ""
    """What PCA the model is, where it came back to it."""

    def returned(self, rows: int, distinct: int) -> None:
        """The model is the PCA of so many rows."""
        those = f", the {self.held_out} held out among them" if self.held_out else ""
        why = "training gained nothing over it"
        if not is_evidence(distinct):
            why = f"too few different rows ({distinct}) were held out to show a gain over it"
        self.pca = f"PCA of all {rows} rows{those}; {why}"

    def told(self, state: State, max_epochs: int) -> str:
        """What the model is, in words."""
        if self.pca:
            return self.pca
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
    return state.rescues > 0 or not trained[-1] <= state.ceiling
