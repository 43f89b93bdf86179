"""`coreset`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.app import Device, Json, RunPath, app, expand_user, load_run, print_json


@app.command()
def coreset(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="Where the files go.")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a run's pseudocoreset as plain files: points.npy, weights.csv, gallery.png."""
    from bype.export.coreset import export_coreset

    loaded = load_run(run, device)
    result = export_coreset(loaded.model, loaded.data, out)
    if as_json:
        print_json(result)
    else:
        print(f"{out}: {result['points']} points, worth {result['effective_points']:.1f} of equal weight")
