"""`sample` and `reconstruct`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from bype.cli.options import (
    PICTURE,
    ROWS,
    DataPath,
    Device,
    Files,
    Json,
    PngOrRowsOut,
    Resize,
    RunPath,
    Seed,
    Split,
    check_kind,
    ends_in,
    print_written,
)
from bype.core import console
from bype.core.errors import InputError
from bype.core.numbers import MAX_INT, parse_int
from bype.export.rows import save_rows
from bype.export.samples import save_samples
from bype.export.sources import component_sources, components_of_label
from bype.models import generation
from bype.models.observing import model_inputs
from bype.runs.items import chosen_items, one_item
from bype.runs.run import LoadedRun, Run
from bype.viz import charts, images


def sample(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE.png|FILE.npz",
            callback=ends_in("--out", *PICTURE, *ROWS),
            help="The output file; for a run of a table .csv, .parquet or .npz.",
        ),
    ],
    n: Annotated[
        int | None,
        typer.Option(
            "--n", min=1, max=MAX_INT, help="Number of images [default: 64; 16 per plate and per --component]."
        ),
    ] = None,
    component: Annotated[
        str | None, typer.Option("--component", metavar="M,...", help="Sample these components only, n of each.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="CLASS", help="Only components whose (nearest) training item is of CLASS."),
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="IMAGE", help="Sample around an image: a file or a test index.")
    ] = None,
    plates: Annotated[
        bool, typer.Option("--plates", help="Components' points with samples of each (Figure 1).")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Keep values outside [0, 1] in a .npz.")] = False,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Sample from this refit of the prior.")
    ] = None,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Generate images: from the prior, from some of its components, around an image, or as plates."""
    if sum([component is not None, like is not None, plates or label is not None]) > 1:
        raise InputError("sample: expected at most one of --component, --like and --plates or --label, got more")
    chosen = None if component is None else _component_list(component)

    loaded = Run.open(run).load(device, with_, data=moved)
    model, columns, table = loaded.model, None, loaded.model.input_spec.table
    check_kind(out, run, table, (".png", ".npz"))
    if table is not None and (plates or raw):
        raise InputError(f"{'--plates' if plates else '--raw'}: expected a run of images, but {run} is of a table")
    components: Tensor | None
    latents: Tensor | None = None
    generator = torch.Generator(loaded.device).manual_seed(seed)
    if label is not None or plates:
        loaded.attach_items()
    among = None
    if label is not None:
        among, exact = components_of_label(model, loaded.data, label)
        if not exact:
            console.report(f"--label {label}: of the training item nearest to each point, by pixels")
    try:
        if plates:
            plate = generation.plates(model, n or 16, generator=generator, among=among)
            if out.suffix == ".png":
                images.save_png(charts.plates(plate), out)
                print_written(out, plate.images.shape[:2].numel(), as_json, components=plate.components.tolist())
                return
            drawn, components = plate.images.flatten(0, 1), plate.components.repeat_interleave(plate.images.shape[1])
        elif chosen is not None:
            columns = n or (16 if len(chosen) > 1 else 64)
            drawn, latents, components = generation.sample_each(
                model, chosen, [columns] * len(chosen), generator=generator
            )
            columns = columns if len(chosen) > 1 else None
        elif among is not None:
            drawn, latents, components = generation.sample_among(model, n or 64, among, generator=generator)
        else:
            image = None if like is None else one_item(loaded, like, "--like", resize=resize).images
            drawn, latents, components = model.sample(n or 64, like=image, generator=generator)
    except ValueError as e:
        raise InputError(f"sample {run}: {e}") from None
    if out.suffix == ".png":
        images.save_png(images.grid(drawn, columns), out)
    elif table is not None:
        assert latents is not None
        rows = generation.sample_rows(model, latents, generator=generator)
        save_rows(out, table, rows, after=_label_column(loaded, components))
    else:
        sources, labels = _behind(loaded, components)
        save_samples(out, drawn, components, sources=sources, labels=labels, raw=raw)
    print_written(out, len(drawn), as_json)


def _component_list(text: str) -> list[int]:
    """`3,17` as a list."""
    chosen = [parse_int(part) for part in text.split(",")]
    if not all(m is not None for m in chosen):
        raise InputError(f"--component: expected whole numbers separated by commas, got {text!r:.60}")
    return [m for m in chosen if m is not None]


def _behind(loaded: LoadedRun, components: Tensor | None) -> tuple[list[str] | None, Tensor | None]:
    """The training file or row behind each sample's component, and its label; None if the data cannot be had."""
    if components is None or not loaded.has_data:
        if components is not None:
            console.report(f"{loaded.run.path}: without its data; sources and labels are left out")
        return None, None
    loaded.attach_items()
    unique, index = components.to(loaded.device).unique(return_inverse=True)
    found = component_sources(loaded.model, loaded.data, unique)
    if found is None:
        return None, None
    names, labels = found.names(loaded.data), found.labels(loaded.data)
    return [names[i] for i in index.tolist()], None if labels is None else labels[index]


def _label_column(loaded: LoadedRun, components: Tensor | None) -> dict[str, list[str]]:
    """The column of labels of the run's table, with the label of the training row behind each sample's component."""
    key = loaded.run.config.labels_key
    labels = _behind(loaded, components)[1] if key else None
    return {} if labels is None else {str(key): [loaded.data.label_name(label) for label in labels.tolist()]}


def reconstruct(
    run: RunPath,
    out: PngOrRowsOut,
    files: Files = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, max=MAX_INT, help="Only the first N [default: all FILES; 32 of a split]."),
    ] = None,
    split: Split = None,
    resize: Resize = False,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot images, each with its reconstruction below: of files, or test images. Of a table write rows."""
    loaded = Run.open(run).load(device, data=moved)
    model, table = loaded.model, loaded.model.input_spec.table
    check_kind(out, run, table)
    found = chosen_items(loaded, files, resize=resize, split=split)
    shown = n or (None if files else 32)
    x = torch.cat(list(model_inputs(model, found.images.first(shown), seed=0)))
    if table is not None:
        save_rows(out, table, model.reconstruct(found.images.first(shown)))
    else:
        images.save_png(images.pairs(x, model.reconstruct(x)), out)
    print_written(out, len(x), as_json, names=list(found.names[:shown]))
