"""`demo`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, expand_user, print_json
from bype.core import console
from bype.experiments.demo import REPORT, run_demo


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="Folder of the runs and pictures.")
    ] = Path("runs/demo"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the four priors on 8x8 digits, and plot samples, points, plates, loss curves, and a report on them."""
    rows = run_demo(out, device)
    if as_json:
        print_json({"out": str(out), "report": str(out / REPORT), "priors": rows})
    else:
        console.table(rows, "digits, test set")
        print(f"pictures: {out}")
        print(f"report:   {out / REPORT}")
        print(f"to play:  bype explore {out / 'bype'}")
