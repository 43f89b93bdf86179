"""`sample`, `reconstruct`, `interpolate`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from bype.cli.options import DataPath, Device, Json, PngOut, RunPath, Seed, expand_user, parse_int, print_written
from bype.core.errors import InputError
from bype.core.numbers import MAX_INT
from bype.data.catalog import read_like
from bype.data.images import Dataset
from bype.export.samples import save_samples
from bype.models import generation
from bype.models.observing import model_inputs
from bype.runs.run import Run
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
        image = None if like is None else _image(like, loaded.data, loaded.run.config.resize)
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


def _image(like: str, data: Dataset, resize: str | None) -> Tensor:
    """The image of a file, or the test image of an index."""
    item = parse_int(like)
    if item is None:
        return read_like(like, data, resize=resize)
    if item >= len(data.test):
        raise InputError(f"--like: expected a file or a test index from 0 to {len(data.test) - 1}, got {like}")
    return data.test.scaled(slice(item, item + 1))[0]


def reconstruct(
    run: RunPath,
    out: PngOut,
    n: Annotated[int, typer.Option("--n", min=1, max=MAX_INT, help="Number of test images.")] = 32,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot test images, each with its reconstruction below."""
    loaded = Run.open(run).load(device, data=moved)
    data, model = loaded.data, loaded.model
    x = torch.cat(list(model_inputs(model, data.test.first(n), seed=0)))
    images.save_png(images.pairs(x, model.reconstruct(x)), out)
    print_written(out, len(x), as_json)


def interpolate(
    run: RunPath,
    out: PngOut,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option("--between", metavar="I J", help="From image I to image J [default: --rows random pairs]."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=1000, help="Images per row, both ends included.")] = 11,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=1000, help="Number of random pairs, without --between.")
    ] = 8,
    points: Annotated[bool, typer.Option("--points", help="Between the prior's points, not test images.")] = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot images along the straight line in z from one image to another (Figure 2)."""
    loaded = Run.open(run).load(device, data=moved)
    model, where = loaded.model, loaded.device
    if points:
        components = getattr(model.prior(model.encoder), "n_components", 0)
        if not components or model.prior.points_at(torch.zeros(1, dtype=torch.long, device=where)) is None:
            raise InputError(f"--points: expected a prior made of points, got {type(model.prior).__name__}")
    count, what = (components, "points of the prior") if points else (len(loaded.data.test), "test images")
    if count < 2:
        raise InputError(f"interpolate {run}: expected at least two {what}, got {count}")
    if between is not None and not all(0 <= end < count for end in between):
        raise InputError(f"--between: expected {what} from 0 to {count - 1}, got {between[0]} and {between[1]}")
    pairs = _random_pairs(count, rows, _generator(seed, where)) if between is None else torch.tensor([between])
    ends = ((model.prior.points_at(i) if points else loaded.data.test.scaled(i)) for i in pairs.to(where).T)
    start, end = (model.encoder(x).loc for x in ends if x is not None)  # points may lie outside [0, 1]
    path = generation.decode_line(model, start, end, steps)
    images.save_png(images.grid(path.flatten(0, 1), steps), out)
    print_written(out, path.shape[:2].numel(), as_json)


def _random_pairs(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Pairs of different numbers below `count`, (n, 2)."""
    return torch.stack([torch.randperm(count, generator=generator, device=generator.device)[:2] for _ in range(n)])
