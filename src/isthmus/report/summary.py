"""The evidence in a few lines of text, for a terminal and for the top of the page."""

from typing import Any

from isthmus.report import formatting

NOTICEABLE = 1.005


def summary_lines(evidence: dict[str, Any]) -> list[str]:
    """Errors beside PCA's, how the code is used, and the time it took."""
    measured, data, used = evidence["measured"], evidence["data"], evidence["usage"]
    cells = [["", "autoencoder", "PCA"]]
    for name, key, write in (
        ("reconstruction error", "error", formatting.number),
        ("explained variance", "explained_variance", formatting.percent),
    ):
        cells.append([name, *(write(measured[who][key]) for who in ("ae", "pca"))])
    lines = formatting.aligned(cells)
    lines.append(f"of {whose(evidence)}; errors are mean squared, {data['unit']}")
    lines.append(
        f"code: {usage_sentence(used)}; variance {formatting.number(used['smallest'])} to "
        f"{formatting.number(used['largest'])}"
    )
    training = evidence["training"]
    lines.append(
        f"training took {formatting.seconds(training['seconds'])} for "
        f"{formatting.count(training['epochs'], 'epoch')} on {training['device']}, the best was "
        f"epoch {training['best_epoch']}"
    )
    lines += [event["message"] for event in evidence["history"]["events"]]
    if measured.get("validation"):
        lines.append(validation_sentence(measured["validation"]))
    return lines


def validation_sentence(figures: dict[str, Any]) -> str:
    """What PCA of some rows made of the others, before a fit came back to PCA of all."""
    error, explained = figures["error"], figures["explained_variance"]
    return (
        f"PCA of the others rebuilds {formatting.count(int(figures['rows']), 'held-out row')} with "
        f"error {formatting.number(error)}, explained variance {formatting.percent(explained)}"
    )


def whose(evidence: dict[str, Any]) -> str:
    """Which rows the figures are of."""
    measured = evidence["measured"]
    rows, everything = measured["rows"], evidence["data"]["rows"]
    if measured["unseen"]:
        return formatting.count(rows, "held-out row")
    if rows == everything:
        return "all " + formatting.count(rows, "row")
    return f"{formatting.count(rows, 'row')} of {everything:,}"


def usage_sentence(used: dict[str, Any]) -> str:
    """How many units do something of their own."""
    idle = used["n_dead"] + used["n_duplicates"]
    parts = [f"{used['units'] - idle:,} of {formatting.count(used['units'], 'unit')} in use"]
    if used["n_dead"]:
        parts.append(f"{used['n_dead']:,} dead")
    if used["n_duplicates"]:
        parts.append(f"{used['n_duplicates']:,} repeating another")
    return ", ".join(parts)


def headline(evidence: dict[str, Any]) -> str:
    """What the code keeps, in one sentence."""
    measured, size = evidence["measured"], evidence["model"]["n_components"]
    ours, theirs = (measured[who]["explained_variance"] for who in ("ae", "pca"))
    rows = "rows the network has not seen" if measured["unseen"] else "the rows"
    if ours is None:
        return f"{_numbers(size)}; the rows do not vary, so there is nothing to keep."
    return (
        f"{_numbers(size)} {'keeps' if size == 1 else 'keep'} {formatting.percent(ours)} of the "
        f"variance of {rows}; PCA keeps {formatting.percent(theirs)}."
    )


def beside_pca(evidence: dict[str, Any]) -> str:
    """How many numbers PCA would need, and how the errors compare."""
    curve, measured = evidence["curve"], evidence["measured"]
    size, reached = evidence["model"]["n_components"], curve["reached_at"]
    ours, theirs = measured["ae"]["error"], measured["pca"]["error"]
    if any(event["event"] == "pca" for event in evidence["history"]["events"]):
        return "Here PCA is as good as any network that training found, so the model is PCA."
    if reached is not None and reached < size:
        return f"PCA does better here: it needs only {_numbers(reached).lower()} to keep as much."
    if ours <= 0 or reached == size or theirs < NOTICEABLE * ours:
        return "It is as good as PCA at this size of code."
    ratio = f"Its squared error is {formatting.number(theirs / ours)} times smaller than PCA's"
    if reached is None:
        return f"{ratio}, and PCA does not reach it even with {curve['largest']:,} numbers a row."
    return f"{ratio}, which needs {reached:,} numbers a row to keep as much."


def _numbers(size: int) -> str:
    return f"{size:,} number{'' if size == 1 else 's'} a row"
