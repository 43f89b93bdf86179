"""`report`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, Seed, ends_in, print_json
from bype.core import console
from bype.core.numbers import MAX_INT
from bype.experiments.reporting import write_report


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN ...", help="Run folders; the first is the reference.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.html", callback=ends_in("--out", ".html"), help="The output file.")
    ],
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per example.")
    ] = 500,
    items: Annotated[int, typer.Option("--items", min=1, max=MAX_INT, help="Only the first N test examples.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page on runs: settings, metrics, curves, images, latents; several are compared."""
    result = write_report(runs, out, samples=samples, items=items, seed=seed, device=device, progress=console.report)
    if as_json:
        print_json(result)
    else:
        print(f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {result['bytes']} bytes")
