"""The tables of a benchmark, in Markdown."""

from collections.abc import Sequence

from bype.experiments.benchmark.records import Row
from bype.experiments.markdown import table_head


def _milliseconds(row: Row, name: str = "seconds") -> str:
    return f"{1000 * row.figures[name]:.2f}" if name in row.figures else ""


def _seconds(row: Row, name: str) -> str:
    value = row.figures.get(name)
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ratio(row: Row, name: str) -> str:
    """A ratio with its quartiles."""
    f = row.figures
    return f"{f[name]:.2f} ({f[f'{name}_low']:.2f} to {f[f'{name}_high']:.2f})" if name in f else ""


def _epochs(rows: Sequence[Row]) -> list[str]:
    lines = table_head(
        "training", "step, ms", "its products, ms", "step / products", "step / step of bype", "epoch, s",
        "start of an epoch, s", "validation, s",
    )  # fmt: skip
    update = [r for r in rows if "over_floor" not in r.figures]
    for r in rows:
        if r not in update:
            cells = (
                r.name, _milliseconds(r), _milliseconds(r, "seconds_floor"), _ratio(r, "over_floor"),
                _ratio(r, "over_bype"), *(_seconds(r, f"seconds_{k}") for k in ("epoch", "start", "validation")),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *(f"{r.name}: {_seconds(r, 'seconds')} s." for r in update)]


def _scoring(rows: Sequence[Row]) -> list[str]:
    lines = table_head("prior", "an item, ms", "its products, ms", "item / products", "10,000 items, h")
    for r in rows:
        cells = (
            r.name, _milliseconds(r), _milliseconds(r, "seconds_floor"), _ratio(r, "over_floor"),
            f"{r.figures['hours_of_10000_items']:.2f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _peers(rows: Sequence[Row]) -> list[str]:
    lines = table_head("model", "step, ms", "step / ours, same layers", "step / step of bype")
    for r in rows:
        lines.append(f"| {r.name} | {_milliseconds(r)} | {_ratio(r, 'over_ours')} | {_ratio(r, 'over_bype')} |")
    return lines


#: The title of each group, and its table.
GROUPS = {
    "epochs": ("Training", _epochs),
    "scoring": ("Scoring", _scoring),
    "peers": ("pythae", _peers),
}


def tables(rows: Sequence[Row]) -> str:
    """A titled table for each group that has rows."""
    parts = []
    for group, (title, table) in GROUPS.items():
        if own := [r for r in rows if r.group == group]:
            parts.append("\n".join([f"### {title}", "", *table(own)]))
    return "\n\n".join(parts)
