"""The main figures of a report in sentences and short tables."""

from collections.abc import Mapping

from isthmus.report import formatting
from isthmus.report.data.records import ReportData, Usage

NOTICEABLE = 1.005
"""Errors whose ratio is smaller than this count as equal."""


def summary_lines(report: ReportData) -> list[str]:
    """Errors of the autoencoder and the baselines, use of the code, and training time."""
    measured, data, usage = report["measured"], report["data"], report["usage"]
    methods = [measured["ae"], *measured["baselines"].values()]
    names = [report["labels"][name] for name in measured["baselines"]]
    lines = formatting.aligned(
        [
            ["", "autoencoder", *names],
            ["reconstruction error", *(formatting.number(m["error"]) for m in methods)],
            [
                "explained variance",
                *(formatting.percent(m["explained_variance"]) for m in methods),
            ],
        ]
    )
    training = report["training"]
    lines += [
        f"measured on {measured_rows(report)}; errors are mean squared, {data['unit']}",
        f"code: {usage_sentence(usage)}; variance {formatting.number(usage['smallest'])} to "
        f"{formatting.number(usage['largest'])}",
        f"training took {formatting.seconds(training['seconds'])} for "
        f"{formatting.count(training['epochs'], 'epoch')} on {training['device']}, the best was "
        f"epoch {training['best_epoch']}",
        *(event["message"] for event in report["history"]["events"]),
    ]
    if measured["validation"]:
        lines.append(validation_sentence(measured["validation"]))
    return lines


def validation_sentence(figures: Mapping[str, float | None]) -> str:
    """The figures of PCA on the validation rows, before a fit fell back to PCA of all rows."""
    rows = formatting.count(int(figures["rows"] or 0), "validation row")
    return (
        f"PCA of the training rows reconstructs {rows} with error "
        f"{formatting.number(figures['error'])} and explained variance "
        f"{formatting.percent(figures['explained_variance'])}"
    )


def measured_rows(report: ReportData) -> str:
    """The number and kind of the rows that were measured."""
    measured, total = report["measured"], report["data"]["rows"]
    if measured["unseen"]:
        return formatting.count(measured["rows"], "validation row")
    if measured["rows"] == total:
        return "all " + formatting.count(total, "row")
    return f"{formatting.count(measured['rows'], 'row')} of {total:,}"


def usage_sentence(usage: Usage) -> str:
    """How many units are in use, dead, or copies of another."""
    idle = usage["n_dead"] + usage["n_duplicates"]
    parts = [f"{usage['units'] - idle:,} of {formatting.count(usage['units'], 'unit')} in use"]
    if usage["n_dead"]:
        parts.append(f"{usage['n_dead']:,} dead")
    if usage["n_duplicates"]:
        parts.append(f"{usage['n_duplicates']:,} repeating another")
    return ", ".join(parts)


def headline(report: ReportData) -> str:
    """The explained variance of the autoencoder and the baselines, in one sentence."""
    measured, size = report["measured"], report["model"]["n_components"]
    ours = measured["ae"]["explained_variance"]
    if ours is None:
        return f"{_numbers(size)}; the rows do not vary, so there is no variance to explain."
    rows = "validation rows" if measured["unseen"] else "rows"
    baselines = "".join(
        f"; {report['labels'][name]} explains {formatting.percent(figures['explained_variance'])}"
        for name, figures in measured["baselines"].items()
    )
    return (
        f"{_numbers(size)} {'explains' if size == 1 else 'explain'} {formatting.percent(ours)} of "
        f"the variance of the {rows}{baselines}."
    )


def comparison(report: ReportData, name: str) -> str:
    """How a baseline's error compares, and how many numbers per row it needs to match."""
    measured, label = report["measured"], report["labels"][name]
    figures, size = measured["baselines"][name], report["model"]["n_components"]
    error, baseline_error = measured["ae"]["error"], figures["error"]
    reached, subject = figures["reached_at"], formatting.capitalized(label)
    if name == "pca" and measured["is_pca"]:
        return "Training did not improve on PCA, so the model is PCA."
    if reached is not None and reached < size:
        return (
            f"{subject} does better here: it explains as much variance with only "
            f"{_numbers(reached)}."
        )
    if error <= 0 or reached == size or baseline_error < NOTICEABLE * error:
        return f"At this code size, {label} is as good."
    text = (
        f"{subject}'s squared error is {formatting.number(baseline_error / error)} times as large: "
        f"the autoencoder's is {formatting.percent(1 - error / baseline_error)} lower. {subject} "
    )
    if reached is None:
        return f"{text}does not explain as much variance even with {_numbers(figures['largest'])}."
    return f"{text}needs {_numbers(reached)} to explain as much variance."


def _numbers(size: int) -> str:
    return f"{formatting.count(size, 'number')} per row"
