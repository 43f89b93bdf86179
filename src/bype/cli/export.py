"""`coreset` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, expand_user, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.export.coreset import export_coreset
from bype.export.programs import TOLERANCE, export_model
from bype.runs.run import Run


def coreset(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", callback=expand_user, help="The output folder.")],
    data: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Export a run's pseudocoreset as plain files: points.npy, weights.csv, and gallery.png or points.csv."""
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


def export(
    run: RunPath,
    format_: Annotated[str, typer.Option("--format", metavar="onnx|torch", help="ONNX, or torch.export.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", callback=expand_user, help="The output folder [default: RUN/FORMAT]."),
    ] = None,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="With this refit in place of the run's prior.")
    ] = None,
    data: DataPath = None,
    as_json: Json = False,
) -> None:
    """Export a run's encoder, decoder, sampler and score to files that run without bype, with export.json.

    Noise is an input of the sampler and the score; nothing random is inside. The batch may have any size.
    """
    loaded = Run.open(run).load("cpu", refit=with_, data=data)
    about = {"set": Path(loaded.run.config.set).name, "networks": loaded.networks, "refit": with_}
    folder = run / format_ if out is None else out
    record = export_model(loaded.model, folder, format_, about=about)
    for name, graph in record["graphs"].items():
        if graph["difference"] > TOLERANCE:
            console.report(f"{folder / graph['file']}: differs from torch by {graph['difference']:.1e} ({name})")
    if as_json:
        print_json({"out": str(folder), **record})
        return
    for graph in record["graphs"].values():
        print(f"{folder / graph['file']}: {graph['meaning']}; difference to torch {graph['difference']:.0e}")
