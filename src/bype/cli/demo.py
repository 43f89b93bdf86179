"""`demo`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, expand_user, print_json
from bype.core import console
from bype.experiments.demo import run_demo


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="Where runs and pictures go.")
    ] = Path("runs/demo"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the four priors on 8x8 digits, side by side, and draw what they learned."""
    rows = run_demo(out, device)
    if as_json:
        print_json({"out": str(out), "priors": rows})
    else:
        console.table(rows, "digits, test items")
        print(f"pictures: {out}")
