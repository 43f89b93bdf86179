"""`coreset`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, expand_user, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.export.coreset import export_coreset
from bype.runs.run import Run


def coreset(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="The output folder.")],
    data: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Export a run's pseudocoreset as plain files: points.npy, weights.csv, gallery.png."""
    loaded = Run.open(run).load(device, data=data)
    try:
        own = None if loaded.model.prior.pseudocoreset is None else loaded.data
    except InputError as e:
        own = None
        console.report(f"weights.csv: without the nearest training item of each point ({e})")
    result = export_coreset(loaded.model, own, out)
    if as_json:
        print_json(result)
    else:
        print(f"{out}: {result['points']} points, effective number {result['effective_points']:.1f}")
