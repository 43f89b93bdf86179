"""`interpolate`."""

from typing import Annotated

import torch
import typer
from torch import Tensor

from bype.cli.options import DataPath, Device, Json, PngOrRowsOut, Resize, RunPath, Seed, check_kind, print_written
from bype.core.errors import InputError
from bype.core.numbers import parse_int
from bype.export.rows import save_rows
from bype.models import generation
from bype.runs.items import one_item, own_items
from bype.runs.run import LoadedRun, Run
from bype.viz import labelled
from bype.viz.images import save_png


def interpolate(
    run: RunPath,
    out: PngOrRowsOut,
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
    """Plot images along the straight line in z from one image to another (Figure 2); of a table write rows."""
    loaded = Run.open(run).load(device, data=moved)
    table = loaded.model.input_spec.table
    check_kind(out, run, table)
    generator = torch.Generator(loaded.device).manual_seed(seed)
    if points:
        start, end, names = _point_ends(loaded, between, rows, generator)
    elif between is not None:
        items = [one_item(loaded, item, "--between", resize=resize) for item in between]
        start, end = (loaded.model.encoder(loaded.model.as_images(item.images)).loc for item in items)
        names = [[item.names[0] for item in items]]
    else:
        found = own_items(loaded, "test")
        pairs = _random_pairs(len(found), rows, generator, "test images")
        start, end = (loaded.model.encoder(found.images.scaled(i, dtype=loaded.model.dtype)).loc for i in pairs.T)
        names = [[found.names[i] for i in pair] for pair in pairs.tolist()]
    path = generation.decode_line(loaded.model, start, end, steps)
    if table is not None:
        starts, ends = ([name for name in column for _ in range(steps)] for column in zip(*names, strict=True))
        shares = torch.linspace(0, 1, steps, dtype=torch.float64).round(decimals=6).tolist()
        before = {"from": starts, "to": ends, "t": shares * len(names)}
        save_rows(out, table, path.flatten(0, 1), before=before)
    else:
        what = "points of the prior" if points else "items"
        title = f"Along straight lines in z between the latents of {what} (images are the mean of p(x|z))"
        save_png(labelled.lines(path, names, title), out)
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
