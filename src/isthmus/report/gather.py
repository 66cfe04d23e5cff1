"""Collect the report data, from which the page can be drawn without the rows."""

from typing import Any, cast

from isthmus.baselines import BASELINES
from isthmus.data.open import open_source
from isthmus.data.validate import align, check_rows
from isthmus.errors import require
from isthmus.estimator import Autoencoder
from isthmus.report.data.facts import data_facts, model_facts, training_facts, versions
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import FORMAT, ReportData
from isthmus.report.sections import SECTIONS


def gather(
    ae: Autoencoder,
    source: Any,
    *,
    color: Any = None,
    color_name: str | None = None,
) -> ReportData:
    """The report data of `ae` on the rows of `source`, as values that the json module writes.

    If `ae` was just fitted on `source`, errors are those of the validation rows, otherwise of all
    rows. At most 20,000 rows are measured, 5,000 coded and 3,000 drawn, evenly spaced.

    Parameters:
        ae: A fitted autoencoder.
        source: The rows, as anything that `open_source` takes.
        color: (n,) labels or numbers that colour the map of codes.
        color_name: The name of `color` in the legend.

    Raises:
        DataError: The rows do not fit the model.
        RequestError: `color` does not have one value for each row. Both are ValueErrors.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x = load_iris().data
        >>> report = gather(Autoencoder(2, max_epochs=5, random_state=0).fit(x), x)
        >>> report["data"]["rows"], report["measured"]["baselines"]["pca"]["n_components"]
        (150, 2)
    """
    rows = align(open_source(source), ae.preparation_.schema)
    check_rows(rows, at_least=1, allow_missing=ae.preparation_.allow_missing)
    measurements = Measurements.of(ae, rows, color, color_name)
    report: ReportData = {
        "format": FORMAT,
        "labels": {name: baseline.label for name, baseline in BASELINES.items()},
        "data": data_facts(ae, rows),
        "model": model_facts(ae),
        "training": training_facts(ae),
        "versions": versions(),
        "measured": measurements.figures(),
    }
    for name in SECTIONS:
        require(name not in report, f"SECTIONS[{name!r}]: the report needs this name; use another")
    sections = {name: section.collect(measurements) for name, section in SECTIONS.items()}
    return cast("ReportData", report | sections)
