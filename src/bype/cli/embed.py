"""`embed`, `neighbours`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from bype.cli.options import (
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
    print_json,
)
from bype.core.errors import InputError
from bype.core.numbers import readable
from bype.core.sampling import random_subset
from bype.data.images import Dataset
from bype.data.items import Items
from bype.evaluation import neighbours as search
from bype.evaluation.latents import TSNE_LIBRARIES, tsne
from bype.evaluation.neighbours import Nearest, Neighbours
from bype.export.latents import Chosen, Source, save_latents, source_of_items, source_of_split
from bype.export.rows import save_rows
from bype.models.vae import VAE
from bype.runs.items import one_item, own_split, read_items
from bype.runs.run import LoadedRun, Run
from bype.viz.images import save_png
from bype.viz.labelled import Row, labelled_rows
from bype.viz.latents import class_map

#: Images on a map, at most: t-SNE takes about a minute for these.
MAP_ITEMS = 3000


def embed(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE.npz|FILE.csv", callback=ends_in("--out", ".npz", ".csv"), help="The output file."
        ),
    ],
    files: Files = None,
    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.png",
            callback=ends_in("--map", ".png"),
            help=f"Also plot the latents by t-SNE, of at most {MAP_ITEMS} images chosen at random.",
        ),
    ] = None,
    tsne_by: Annotated[
        str,
        typer.Option("--tsne", metavar="|".join(TSNE_LIBRARIES), help="The library of the map; opentsne is an extra."),
    ] = TSNE_LIBRARIES[0],
    split: Split = None,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write the latents of images, their posterior means, with names and labels: of files, or test images."""
    if tsne_by not in TSNE_LIBRARIES:
        raise InputError(f"--tsne: expected {' or '.join(TSNE_LIBRARIES)}, got {tsne_by!r}")
    loaded = Run.open(run).load(device, data=moved)
    loaded.model.check_finite()
    source = _source(loaded, files, split, resize=resize)
    if not len(source):
        raise InputError(f"embed {run}: expected at least one image, got none")
    if map_ is not None and len(source) < 4:
        raise InputError(f"--map: expected at least four images, got {len(source)}")
    generator = torch.Generator().manual_seed(seed)
    count = min(MAP_ITEMS, len(source)) if map_ is not None else 0
    chosen = Chosen(random_subset(len(source), count, generator).sort().values)
    save_latents(out, loaded.model, source, seed=seed, on_block=chosen)
    if map_ is not None:
        what = f"{count} images" if count == len(source) else f"{count} of {len(source)} images"
        title = f"Latents of {what} by t-SNE (the distance between clusters has no meaning)"
        save_png(class_map(tsne(chosen.latents, seed, tsne_by), chosen.labels(source), title), map_)
    if as_json:
        dim = loaded.model.encoder.latent_dim
        print_json({"out": str(out), "n": len(source), "latent_dim": dim} | ({"map": str(map_)} if map_ else {}))
    else:
        what = "images" if loaded.model.input_spec.table is None else "rows"
        print(f"{out}: latents of {len(source)} {what}" + (f"; {map_}: {count} of them" if map_ else ""))


def _source(loaded: LoadedRun, files: list[str] | None, split: str | None, *, resize: bool) -> Source:
    own = own_split(loaded, files, split)
    if own is not None:  # a whole split, of which no names are held in memory
        return source_of_split(loaded.data, loaded.run.config.set, own)
    return source_of_items(read_items(loaded, files or (), resize=resize, split=split))


def neighbours(
    run: RunPath,
    image: Annotated[str, typer.Argument(metavar="IMAGE|INDEX", help="An image file, or a test index.")],
    out: PngOrRowsOut,
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="Number of neighbours.")] = 8,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Plot the training images nearest to an image, in latent space and in pixel space; of a table write rows."""
    loaded = Run.open(run).load(device, data=moved)
    table = loaded.model.input_spec.table
    check_kind(out, run, table)
    found = one_item(loaded, image, "neighbours", resize=resize)
    loaded.model.check_finite()
    data = loaded.data
    nearest = search.neighbours(loaded.model, data, found.images, k, seed=seed)
    summary = {space: _listed(data, near) for space, near in nearest._asdict().items()}
    if table is None:
        _save_picture(out, loaded.model, data, found, nearest)
    else:
        listed = [{"space": space, **item} for space, items in summary.items() for item in items]
        rows = torch.cat([data.train.scaled(near.rows[0]) for near in nearest])
        save_rows(out, table, rows, before={name: [item[name] for item in listed] for name in listed[0]})
    if as_json:
        print_json({"out": str(out), "name": found.names[0], **summary})
    else:
        print(f"{out}: {k} nearest training {'images' if table is None else 'rows'}")


def _save_picture(out: Path, model: VAE, data: Dataset, found: Items, nearest: Neighbours) -> None:
    caption = f"{found.names[0]}\n{found.labels[0] if found.labels else ''}"
    rows = [
        Row(torch.cat([found.images.scaled(), model.reconstruct(found.images)]),
            "the image, and its reconstruction",
            [caption, "reconstruction"]),
        _row(data, "nearest training images in latent space", nearest.latent),
        _row(data, "nearest training images in pixel space", nearest.pixel),
    ]  # fmt: skip
    save_png(labelled_rows(rows), out)


def _row(data: Dataset, heading: str, nearest: Nearest) -> Row:
    captions = [
        f"{item['label']}\ntraining item {item['row']}\ndistance {readable(float(item['distance']))}"
        for item in _listed(data, nearest)
    ]
    return Row(data.train.scaled(nearest.rows[0]), heading, captions)


def _listed(data: Dataset, nearest: Nearest) -> list[dict[str, str | int | float]]:
    """Row of the training split, label, distance, and file or row of the array of each neighbour."""
    labels = data.train.labels
    return [
        {
            "row": row,
            "label": "" if labels is None else data.label_name(int(labels[row])),
            "distance": distance,
            "source": data.source("train", row),
        }
        for row, distance in zip(nearest.rows[0].tolist(), nearest.distances[0].tolist(), strict=True)
    ]
