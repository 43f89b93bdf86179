"""`coreset` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, expand_user, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.export.coreset import export_coreset
from bype.export.hub import FILES, save_pretrained
from bype.export.programs import TOLERANCE, export_model
from bype.runs.run import Run

FORMATS = ("onnx", "torch", "safetensors")


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
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="Programs in ONNX or of torch.export; or a folder to share: safetensors and a model card.",
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", callback=expand_user, help="The output folder [default: RUN/FORMAT]."),
    ] = None,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="With this refit in place of the run's prior.")
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="For the model card: the model's licence, such as mit."),
    ] = None,
    data_license: Annotated[
        str | None,
        typer.Option("--data-license", metavar="TEXT", help="For the model card: the licence of the data, in words."),
    ] = None,
    data: DataPath = None,
    as_json: Json = False,
) -> None:
    """Export a run's encoder, decoder, sampler and score to files that run without bype, with export.json.

    Noise is an input of the sampler and the score; nothing random is inside. The batch may have any size. With
    --format safetensors, write the model as a folder for bype.from_pretrained and the Hugging Face Hub instead.
    """
    if format_ not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {format_!r}")
    if format_ == "safetensors":
        _share(run, out, with_, license_, data_license, data, as_json=as_json)
        return
    if license_ is not None or data_license is not None:
        raise InputError(f"--license, --data-license: expected --format safetensors, got {format_}")
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


def _share(
    run: Path,
    out: Path | None,
    refit: str | None,
    license_: str | None,
    data_license: str | None,
    data: str | None,
    *,
    as_json: bool,
) -> None:
    folder = run / "safetensors" if out is None else out
    save_pretrained(run, folder, license=license_ or "unknown", data_license=data_license, refit=refit, data=data)
    if as_json:
        print_json({"out": str(folder), "format": "safetensors", "files": list(FILES)})
    else:
        print(f"{folder}: {', '.join(FILES)}; read the card before you share it")
