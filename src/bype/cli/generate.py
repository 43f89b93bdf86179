"""`sample`, `reconstruct`, `interpolate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bype.cli.app import (
    Device,
    Json,
    PngOut,
    RunPath,
    Seed,
    app,
    expand_user,
    load_run,
    new_generator,
    parse_int,
    print_written,
)
from bype.core.config import MAX_INT
from bype.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bype.data.images import Dataset


@app.command()
def sample(
    run: RunPath,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.png|FILE.npz", callback=expand_user, help="Where the images go.")
    ],
    n: Annotated[
        int | None, typer.Option("--n", min=1, max=MAX_INT, help="How many [default: 64; 16 for each of --plates].")
    ] = None,
    component: Annotated[
        int | None, typer.Option("--component", min=0, max=MAX_INT, help="From this component alone.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="IMAGE", help="Around an image: a file, or a test item's number.")
    ] = None,
    plates: Annotated[
        bool, typer.Option("--plates", help="Samples beside the point each came from (Figure 1).")
    ] = False,
    with_: Annotated[str | None, typer.Option("--with", metavar="NAME", help="From this refit of the prior.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Generate images from the prior, from one component of it, around an image, or as plates."""
    if sum([component is not None, like is not None, plates]) > 1:
        raise InputError("sample: expected one of --component, --like and --plates, got more")
    if out.suffix not in (".png", ".npz"):
        raise InputError(f"--out: expected a name that ends in .png or .npz, got {out}")

    from bype.models.generation import plates as draw_plates
    from bype.viz import charts
    from bype.viz import images as pictures

    loaded = load_run(run, device, with_)
    data, model = loaded.data, loaded.model
    generator = new_generator(seed, data.train.pixels.device)
    if plates:
        try:
            plate = draw_plates(model, n or 16, generator=generator)
        except ValueError as e:
            raise InputError(f"--plates: {e}") from None
        if out.suffix == ".png":
            pictures.save_png(charts.plates(plate), out)
        else:
            _save_npz(out, plate.images.flatten(0, 1), plate.components.repeat_interleave(plate.images.shape[1]))
        count = plate.images.shape[:2].numel()
    else:
        image = None if like is None else _image(like, data, loaded.run.config.resize)
        try:
            drawn = model.sample(n or 64, component=component, like=image, generator=generator)
        except ValueError as e:
            raise InputError(f"sample {run}: {e}") from None
        if out.suffix == ".png":
            pictures.save_png(pictures.grid(drawn.images), out)
        else:
            _save_npz(out, drawn.images, drawn.components)
        count = len(drawn.images)
    print_written(out, count, as_json)


def _save_npz(path: Path, images: "Tensor", components: "Tensor | None") -> None:
    import numpy as np

    from bype.core.files import write

    arrays = {"images": images.detach().cpu().float().numpy()}
    if components is not None:
        arrays["components"] = components.cpu().numpy()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:  # an open file, for a name would get .npz appended
            np.savez(f, **arrays)  # type: ignore[arg-type]

    write(path, fill)


def _image(like: str, data: "Dataset", resize: str | None) -> "Tensor":
    """An image by file, or a test item by number."""
    from bype import data as sets

    item = parse_int(like)
    if item is None:
        return sets.read_like(like, data, resize=resize)
    if item >= len(data.test):
        raise InputError(f"--like: expected a file or a test item from 0 to {len(data.test) - 1}, got {like}")
    return data.test.scaled(slice(item, item + 1))[0]


@app.command()
def reconstruct(
    run: RunPath,
    out: PngOut,
    n: Annotated[int, typer.Option("--n", min=1, max=MAX_INT, help="How many test items.")] = 32,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw test items and, below each, its reconstruction."""
    import torch

    from bype.models.observing import model_inputs
    from bype.viz import images as pictures

    loaded = load_run(run, device)
    data, model = loaded.data, loaded.model
    items = data.test.first(n)
    x = torch.cat(list(model_inputs(model, items, seed=0)))
    pictures.save_png(pictures.pairs(x, model.reconstruct(x)), out)
    print_written(out, len(x), as_json)


@app.command()
def interpolate(
    run: RunPath,
    out: PngOut,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option("--between", metavar="I J", help="From item I to item J [default: --rows random pairs]."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=1000, help="Images from one end to the other.")] = 11,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=1000, help="Random pairs, where --between is not given.")
    ] = 8,
    points: Annotated[bool, typer.Option("--points", help="Between points of the prior, not test items.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw the images on the way from one item to another, a straight line in z (Figure 2)."""
    import torch

    from bype.models.generation import interpolate as interpolate_images
    from bype.viz import images as pictures

    loaded = load_run(run, device)
    data, model = loaded.data, loaded.model
    where = data.test.pixels.device
    if points:
        components = getattr(model.prior(model.encoder), "n_components", 0)
        if not components or model.prior.points_at(torch.zeros(1, dtype=torch.long, device=where)) is None:
            raise InputError(f"--points: expected a prior made of points, got {type(model.prior).__name__}")
    count, what = (components, "point of the prior") if points else (len(data.test), "test item")
    if count < 2:
        raise InputError(f"interpolate {run}: expected at least two {what}s to go between, got {count}")
    if between is None:
        generator = new_generator(seed, where)
        # Two at a time without replacement, so that no item is led to itself.
        ends = torch.stack([torch.randperm(count, generator=generator, device=where)[:2] for _ in range(rows)])
    else:
        ends = torch.tensor([between], device=where)
        if ends.min() < 0 or ends.max() >= count:
            raise InputError(
                f"--between: expected a {what}, from 0 to {count - 1}, got {' and '.join(map(str, between))}"
            )
    start, end = ((model.prior.points_at(i) if points else data.test.scaled(i)) for i in (ends[:, 0], ends[:, -1]))
    assert start is not None
    assert end is not None
    images = interpolate_images(model, start, end, steps)
    pictures.save_png(pictures.grid(images.flatten(0, 1), steps), out)
    print_written(out, images.shape[:2].numel(), as_json)
