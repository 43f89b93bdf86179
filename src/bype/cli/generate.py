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
    expand_user,
    print_written,
)
from bype.core.errors import InputError
from bype.core.numbers import MAX_INT, parse_int
from bype.data.items import Items
from bype.export.samples import save_samples
from bype.models import generation
from bype.models.observing import model_inputs
from bype.runs.items import own_items, read_items
from bype.runs.run import LoadedRun, Run
from bype.viz import charts, images


def sample(
    run: RunPath,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.png|FILE.npz", callback=expand_user, help="The output file.")
    ],
    n: Annotated[
        int | None, typer.Option("--n", min=1, max=MAX_INT, help="Number of images [default: 64; 16 per plate].")
    ] = None,
    component: Annotated[
        int | None, typer.Option("--component", min=0, max=MAX_INT, help="Sample this component only.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="IMAGE", help="Sample around an image: a file or a test index.")
    ] = None,
    plates: Annotated[
        bool, typer.Option("--plates", help="Components' points with samples of each (Figure 1).")
    ] = False,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Sample from this refit of the prior.")
    ] = None,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Generate images: from the prior, from one of its components, around an image, or as plates."""
    if sum([component is not None, like is not None, plates]) > 1:
        raise InputError("sample: expected at most one of --component, --like and --plates, got more")
    if out.suffix not in (".png", ".npz"):
        raise InputError(f"--out: expected a name that ends in .png or .npz, got {out}")

    loaded = Run.open(run).load(device, with_, data=moved)
    model = loaded.model
    generator = _generator(seed, loaded.device)
    if plates:
        loaded.attach_items()
        try:
            plate = generation.plates(model, n or 16, generator=generator)
        except ValueError as e:
            raise InputError(f"--plates: {e}") from None
        if out.suffix == ".png":
            images.save_png(charts.plates(plate), out)
        else:
            save_samples(out, plate.images.flatten(0, 1), plate.components.repeat_interleave(plate.images.shape[1]))
        count = plate.images.shape[:2].numel()
    else:
        image = None if like is None else _one_item(loaded, like, "--like", resize=resize).images.scaled()[0]
        try:
            drawn = model.sample(n or 64, component=component, like=image, generator=generator)
        except ValueError as e:
            raise InputError(f"sample {run}: {e}") from None
        if out.suffix == ".png":
            images.save_png(images.grid(drawn.images), out)
        else:
            save_samples(out, drawn.images, drawn.components)
        count = len(drawn.images)
    print_written(out, count, as_json)


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
    found = read_items(loaded, files, resize=resize, split=split) if files else own_items(loaded, split or "test")
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
