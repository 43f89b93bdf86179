"""Formatting shared by the sections of the results page: numbers, names and the heads of tables."""

from collections.abc import Sequence

from bype.core.names import PRIORS
from bype.experiments.records import VAMP_POINTS, CellRecord, by_seed
from bype.experiments.stats import Summary, summary

UNIT = "Negative log-likelihood in the paper's unit, `nll_paper`; lower is better."
#: The label of the first VampPrior cells (see `records.VAMP_POINTS`).
CLAMPED_AT_USE = "vamp (points clamped at use)"


def table_head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def prior_label(record: CellRecord) -> str:
    """The name of the prior; the first VampPrior cells have a separate one."""
    clamped = record["prior"] == "vamp" and not VAMP_POINTS.items() <= record["settings"].items()
    return CLAMPED_AT_USE if clamped else record["prior"]


def prior_order(record: CellRecord) -> tuple[int, str]:
    """Sort key: the prior, in the order of Table 1, then the precision."""
    return list(PRIORS).index(record["prior"]), record["precision"]


def mean(records: Sequence[CellRecord], metric: str, digits: int = 2) -> str:
    """The mean of a metric over the cells that have it; blank without one."""
    values = list(by_seed(records, metric).values())
    return f"{summary(values).mean:.{digits}f}" if values else ""


def counted_mean(records: Sequence[CellRecord], metric: str) -> str:
    """The mean of a metric, with the number of seeds if not all cells have it."""
    values = by_seed(records, metric)
    some = f" (n = {len(values)})" if 0 < len(values) < len(records) else ""
    return mean(records, metric) + some


def number(value: float | None) -> str:
    """Two decimals; blank for None."""
    return "" if value is None else f"{value:.2f}"


def signed_mean(value: Summary | None) -> str:
    """The mean of differences, with its sign; blank for None."""
    return "" if value is None else f"{value.mean:+.2f}"


def interval(value: Summary | None) -> str:
    """The 95 % interval; blank if there is none."""
    ends = None if value is None else value.interval
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def scored_every(record: CellRecord) -> int:
    """n, if every n-th test example was scored for `nll_paper`."""
    return int(record["figures"].get("nll_paper_every", 1))


def scored_examples(records: Sequence[CellRecord]) -> str:
    """The test examples scored for `nll_paper`: all, every fifth, or the first ones."""

    def describe(record: CellRecord) -> str:
        count, every = int(record["figures"]["nll_paper_items"]), scored_every(record)
        return f"{count}, every {every}th" if every > 1 else str(count) if count == 10_000 else f"first {count}"

    return "; ".join(dict.fromkeys(describe(r) for r in records if "nll_paper_items" in r["figures"]))
