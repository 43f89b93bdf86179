"""`coreset`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, RunPath, expand_user, print_json
from bype.export.coreset import export_coreset
from bype.runs.run import Run


def coreset(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="The output folder.")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Export a run's pseudocoreset as plain files: points.npy, weights.csv, gallery.png."""
    loaded = Run.open(run).load(device)
    result = export_coreset(loaded.model, loaded.data, out)
    if as_json:
        print_json(result)
    else:
        print(f"{out}: {result['points']} points, effective number {result['effective_points']:.1f}")
