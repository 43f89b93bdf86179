"""`sample`, `reconstruct`, `interpolate`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from bype.cli.options import (
    DataPath,
    Device,
    Files,
    Json,
    PngOut,
    Resize,
    RunPath,
    Seed,
    Split,
    ends_in,
    print_written,
)
from bype.core import console
from bype.core.errors import InputError
from bype.core.numbers import MAX_INT, parse_int
from bype.data.items import Items
from bype.export.samples import save_samples
from bype.export.sources import component_sources, components_of_label
from bype.models import generation
from bype.models.observing import model_inputs
from bype.runs.items import chosen_items, own_items, read_items
from bype.runs.run import LoadedRun, Run
from bype.viz import charts, images


def sample(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE.png|FILE.npz", callback=ends_in("--out", ".png", ".npz"), help="The output file."
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
    model, columns = loaded.model, None
    components: Tensor | None
    generator = _generator(seed, loaded.device)
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
            parts = [model.sample(columns, component=m, generator=generator).images for m in chosen]
            drawn, components = torch.cat(parts), torch.tensor(chosen).repeat_interleave(columns)
            columns = columns if len(chosen) > 1 else None
        elif among is not None:
            drawn, components = generation.sample_among(model, n or 64, among, generator=generator)
        else:
            image = None if like is None else _one_item(loaded, like, "--like", resize=resize).images.scaled()[0]
            sampled = model.sample(n or 64, like=image, generator=generator)
            drawn, components = sampled.images, sampled.components
    except ValueError as e:
        raise InputError(f"sample {run}: {e}") from None
    if out.suffix == ".png":
        images.save_png(images.grid(drawn, columns), out)
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


def _generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _one_item(loaded: LoadedRun, item: str, option: str, *, resize: bool) -> Items:
    """The image of a file, or the test image of an index."""
    try:
        found = read_items(loaded, [item], resize=resize)
    except InputError as e:
        raise InputError(f"{option}: {e}") from None
    if len(found) != 1:
        raise InputError(f"{option}: expected one image, got {len(found)} in {item}")
    return found


def reconstruct(
    run: RunPath,
    out: PngOut,
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
    """Plot images, each with its reconstruction below: of files, or test images."""
    loaded = Run.open(run).load(device, data=moved)
    model = loaded.model
    found = chosen_items(loaded, files, resize=resize, split=split)
    shown = n or (None if files else 32)
    x = torch.cat(list(model_inputs(model, found.images.first(shown), seed=0)))
    images.save_png(images.pairs(x, model.reconstruct(x)), out)
    print_written(out, len(x), as_json, names=list(found.names[:shown]))


def interpolate(
    run: RunPath,
    out: PngOut,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--between", metavar="A B", help="From image A to B, files or test indices [default: --rows random pairs]."
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=1000, help="Images per row, both ends included.")] = 11,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=1000, help="Number of random pairs, without --between.")
    ] = 8,
    points: Annotated[bool, typer.Option("--points", help="Between the prior's points, not test images.")] = False,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot images along the straight line in z from one image to another (Figure 2)."""
    loaded = Run.open(run).load(device, data=moved)
    generator = _generator(seed, loaded.device)
    if points:
        start, end, names = _point_ends(loaded, between, rows, generator)
    elif between is not None:
        ends = [_one_item(loaded, item, "--between", resize=resize) for item in between]
        start, end = (loaded.model.encoder(loaded.model.as_images(item.images)).loc for item in ends)
        names = [[item.names[0] for item in ends]]
    else:
        found = own_items(loaded, "test")
        pairs = _random_pairs(len(found), rows, generator, "test images")
        start, end = (loaded.model.encoder(found.images.scaled(i, dtype=loaded.model.dtype)).loc for i in pairs.T)
        names = [[found.names[i] for i in pair] for pair in pairs.tolist()]
    path = generation.decode_line(loaded.model, start, end, steps)
    images.save_png(images.grid(path.flatten(0, 1), steps), out)
    print_written(out, path.shape[:2].numel(), as_json, between=names)


def _point_ends(
    loaded: LoadedRun, between: tuple[str, str] | None, rows: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[list[str]]]:
    """The latents at both ends of lines between points of the prior, and the indices of these points."""
    model, where = loaded.model, loaded.device
    count = getattr(model.prior(model.encoder), "n_components", 0)
    if not count or model.prior.points_at(torch.zeros(1, dtype=torch.long, device=where)) is None:
        raise InputError(f"--points: expected a prior made of points, got {type(model.prior).__name__}")
    if between is None:
        pairs = _random_pairs(count, rows, generator, "points of the prior")
    else:
        chosen = [parse_int(end) for end in between]
        if not all(end is not None and end < count for end in chosen):
            raise InputError(
                f"--between: expected points of the prior from 0 to {count - 1}, got {between[0]} and {between[1]}"
            )
        pairs = torch.tensor([chosen], device=where)
    images_at = (model.prior.points_at(index) for index in pairs.T)
    start, end = (model.encoder(x).loc for x in images_at if x is not None)  # points may lie outside [0, 1]
    return start, end, [[str(index) for index in pair] for pair in pairs.tolist()]


def _random_pairs(count: int, n: int, generator: torch.Generator, what: str) -> Tensor:
    """Pairs of different numbers below `count`, (n, 2)."""
    if count < 2:
        raise InputError(f"interpolate: expected at least two {what}, got {count}")
    return torch.stack([torch.randperm(count, generator=generator, device=generator.device)[:2] for _ in range(n)])
