"""The sheet of facts: the rows, the network, the training and the machine."""

from typing import Any

from isthmus.report import formatting
from isthmus.report.charts.plot import shortened
from isthmus.report.html import pairs, section
from isthmus.spec import format_spec


def facts(evidence: dict[str, Any]) -> str:
    """The rows, the network, the training and the machine."""
    data, model, training = evidence["data"], evidence["model"], evidence["training"]
    hardware = evidence["hardware"]
    constant = "; ".join(map(shortened, data["constant"][:5]))
    groups = [
        (
            "Data",
            [
                ("rows", f"{data['rows']:,}"),
                ("a row", f"{data['layout']} of {' by '.join(map(str, data['shape']))}"),
                ("cut from recordings", data.get("cut")),
                ("channels", _listed(data.get("channels"))),
                ("values", ", ".join(data["dtypes"])),
                ("columns", _listed(data["columns"])),
                (
                    "constant",
                    f"{data['n_constant']:,} features, such as {constant}" if constant else None,
                ),
                ("scaling", data["scaling"]),
            ],
        ),
        (
            "Model",
            [
                ("kind", model["kind"]),
                *((name, _plain(value)) for name, value in model["kind_settings"].items()),
                ("loss", model["loss"]),
                ("weights", f"{model['weights']:,}"),
            ],
        ),
        (
            "Training",
            [(name.replace("_", " "), _plain(value)) for name, value in training.items()],
        ),
        ("Settings given", [(name, _plain(value)) for name, value in evidence["settings"].items()]),
        (
            "Machine",
            [
                ("processor", f"{hardware['cpu']}, {formatting.count(hardware['cores'], 'core')}"),
                ("threads", hardware["threads"]),
                ("GPU", hardware["gpu"]),
                ("system", hardware["system"]),
                *evidence["versions"].items(),
            ],
        ),
    ]
    boxes = [f"<div><h3>{title}</h3>{pairs(items)}</div>" for title, items in groups if items]
    return section("facts", "Facts", f'<div class="columns">{"".join(boxes)}</div>')


def _listed(names: list[str] | None) -> str | None:
    if names is None:
        return None
    return ", ".join(map(shortened, names[:12])) + (", …" if len(names) > 12 else "")


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return formatting.number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return format_spec(value)
