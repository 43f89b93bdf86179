"""`compare`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, Seed, print_json
from bype.core import console
from bype.core.numbers import MAX_INT, readable
from bype.experiments.comparison import Comparison, Difference
from bype.experiments.comparison import compare as compare_runs


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN ...", help="The run folders; the first is the reference.")
    ],
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per example.")
    ] = 500,
    items: Annotated[
        int | None, typer.Option("--items", min=1, max=MAX_INT, help="Only the first N common examples.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|validation|test|all", help="The split.")] = "test",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare runs: negative log-likelihood in nats, and paired differences with 95 % intervals, on common examples."""
    with console.items("compare") as progress:
        comparison = compare_runs(
            runs, split=split, samples=samples, items=items, seed=seed, device=device, progress=lambda path: progress
        )
    if as_json:
        print_json(comparison)
    else:
        _show(comparison)


def _show(comparison: Comparison) -> None:
    about = f"{comparison['items']} {comparison['split']} examples, {comparison['samples']} samples each"
    console.table(comparison["runs"], f"Means and standard errors over {about}")
    console.table(
        [_row(d) for d in comparison["differences"]], "Differences of nll_nats, paired by example (below 0: better)"
    )
    if comparison["over_seeds"]:
        console.table([_row(d) for d in comparison["over_seeds"]], "Differences of nll_nats, paired by seed")


def _row(difference: Difference) -> dict[str, object]:
    row: dict[str, object] = {"run": difference["run"], "minus": difference["minus"]}
    row["difference"] = difference["nll_nats"]
    if "se" in difference:
        row["se"] = difference["se"]
        row["95 % interval"] = f"{readable(difference['low'])} to {readable(difference['high'])}"
    return row | {"pairs": difference["pairs"]}
