"""Section "facts": the rows, the network, the training, its decisions and the machine."""

from collections.abc import Iterable
from typing import TypedDict

from isthmus.artifact import format_spec
from isthmus.estimator.defaults import Decision
from isthmus.report import formatting
from isthmus.report.data.facts import Hardware, changed_settings, hardware
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import DataFacts, ReportData
from isthmus.report.html import Charts, pairs, section, table
from isthmus.report.plot import shortened
from isthmus.report.sections.base import Section

MOST_NAMES, MOST_CONSTANT = 12, 5


class SectionFacts(TypedDict):
    """The facts that only this section shows."""

    settings: dict[str, object]
    """Settings that differ from the defaults."""

    decisions: list[Decision]
    hardware: Hardware


def collect(measurements: Measurements) -> SectionFacts:
    """Settings, decisions of the fit and machine."""
    ae = measurements.ae
    return {
        "settings": changed_settings(ae),
        "decisions": list(ae.facts_.get("decisions", ())),
        "hardware": hardware(ae),
    }


def draw(values: SectionFacts, report: ReportData, charts: Charts) -> str:
    """Lists of names and values by subject, and a table of the decisions."""
    del charts
    model, machine = report["model"], values["hardware"]
    groups: list[tuple[str, Iterable[tuple[str, object]]]] = [
        ("Data", _data(report["data"])),
        (
            "Model",
            [
                ("kind", model["kind"]),
                *((name, _text(value)) for name, value in model["kind_settings"].items()),
                ("loss", model["loss"]),
                ("weights", f"{model['weights']:,}"),
            ],
        ),
        (
            "Training",
            [(name.replace("_", " "), _text(value)) for name, value in report["training"].items()],
        ),
        ("Settings given", [(name, _text(value)) for name, value in values["settings"].items()]),
        (
            "Machine",
            [
                (
                    "processor",
                    f"{machine['cpu']}, {formatting.count(machine['cores'] or 1, 'core')}",
                ),
                ("threads", machine["threads"]),
                ("GPU", machine["gpu"]),
                ("system", machine["system"]),
                *report["versions"].items(),
            ],
        ),
    ]
    boxes = [f"<div><h3>{title}</h3>{pairs(items)}</div>" for title, items in groups if items]
    lists = f'<div class="columns">{"".join(boxes)}</div>'
    return section("facts", "Facts", lists, _decisions(values["decisions"]))


def _data(data: DataFacts) -> list[tuple[str, object]]:
    constant = "; ".join(map(shortened, data["constant"][:MOST_CONSTANT]))
    features = f"{formatting.count(data['n_constant'], 'feature')}, such as {constant}"
    return [
        ("rows", f"{data['rows']:,}"),
        ("each row", f"{data['layout']} of {' by '.join(map(str, data['shape']))}"),
        ("cut from recordings", data["cut"]),
        ("channels", _names(data["channels"])),
        ("values", ", ".join(data["dtypes"])),
        ("columns", _names(data["columns"])),
        ("constant", features if constant else None),
        ("scaling", data["scaling"]),
    ]


def _decisions(decisions: list[Decision]) -> str:
    """A table of what the fit decided by itself; an empty text if it decided nothing."""
    if not decisions:
        return ""
    rows = [
        [decision["name"].replace("_", " "), _text(decision["value"]) or "none", decision["reason"]]
        for decision in decisions
    ]
    return f"<h3>Decisions</h3>{table(['setting', 'value', 'reason'], rows, 'decisions')}"


def _names(names: list[str] | None) -> str | None:
    if names is None:
        return None
    return ", ".join(map(shortened, names[:MOST_NAMES])) + (
        ", …" if len(names) > MOST_NAMES else ""
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return formatting.number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return format_spec(value)


SECTION = Section(collect, draw)
