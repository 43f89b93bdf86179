"""`sample` and `reconstruct`."""

from pathlib import Path
from typing import Annotated, NamedTuple

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
from bype.core.numbers import MAX_INT, parse_int, readable
from bype.distributions.mixtures import NormalMixture
from bype.export.rows import save_rows
from bype.export.samples import save_samples
from bype.export.sources import component_sources, components_of_label
from bype.models import generation
from bype.models.observing import model_inputs
from bype.models.vae import VAE, Samples
from bype.runs.items import chosen_items, one_item
from bype.runs.run import LoadedRun, Run
from bype.viz import charts, labelled
from bype.viz.images import save_png


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
    model, table = loaded.model, loaded.model.input_spec.table
    check_kind(out, run, table, (".png", ".npz"))
    if table is not None and (plates or raw):
        raise InputError(f"{'--plates' if plates else '--raw'}: expected a run of images, but {run} is of a table")
    generator = torch.Generator(loaded.device).manual_seed(seed)
    if label is not None or plates:
        loaded.attach_items()
    among, exact = (None, True) if label is None else components_of_label(model, loaded.data, label)
    if not exact:
        console.report(f"--label {label}: of the training item nearest to each point, by pixels")
    try:
        if plates:
            plate = generation.plates(model, n or 16, generator=generator, among=among)
            if out.suffix == ".png":
                save_png(charts.plates(plate), out)
                print_written(out, plate.images.shape[:2].numel(), as_json, components=plate.components.tolist())
                return
            components = plate.components.repeat_interleave(plate.images.shape[1])
            drawn = _Drawn(plate.images.flatten(0, 1), None, components, "")
        elif chosen is not None:
            drawn = _of_components(model, chosen, n or (16 if len(chosen) > 1 else 64), generator)
        elif among is not None:
            title = f"Samples of components whose {'' if exact else 'nearest '}training item has the label {label}"
            drawn = _Drawn(*_ordered(generation.sample_among(model, n or 64, among, generator=generator)), title)
        else:
            item = None if like is None else one_item(loaded, like, "--like", resize=resize)
            title = "Samples of the prior" if item is None else f"Samples around {item.names[0]}"
            found = model.sample(n or 64, like=None if item is None else item.images, generator=generator)
            drawn = _Drawn(*_ordered(found), title, None if item is None else item.names[0])
    except ValueError as e:
        raise InputError(f"sample {run}: {e}") from None
    if out.suffix == ".png":
        _save_picture(out, drawn)
    elif table is not None:
        assert drawn.latents is not None
        rows = generation.sample_rows(model, drawn.latents, generator=generator)
        save_rows(out, table, rows, after=_label_column(loaded, drawn.components))
    else:
        sources, labels = _behind(loaded, drawn.components)
        save_samples(out, drawn.images, drawn.components, sources=sources, labels=labels, raw=raw)
    known: dict[str, object] = {} if drawn.components is None else {"components": drawn.components.tolist()}
    known |= {} if drawn.like is None else {"like": drawn.like}
    print_written(out, len(drawn.images), as_json, **known)


class _Drawn(NamedTuple):
    """Samples, and what a picture says of them."""

    images: Tensor  # (n, c, h, w)
    latents: Tensor | None  # (n, D)
    components: Tensor | None  # (n,)
    title: str
    like: str | None = None  # the name of the item that they are like
    left: tuple[str, ...] = ()  # beside each row
    columns: int | None = None


def _ordered(samples: Samples) -> tuple[Tensor, Tensor, Tensor | None]:
    return samples.images, samples.latents, samples.components


def _of_components(model: VAE, chosen: list[int], n: int, generator: torch.Generator) -> _Drawn:
    """n samples of each of some components; of several, a row for each."""
    p = model.prior(model.encoder)
    mixture = p if isinstance(p, NormalMixture) else None
    found = generation.sample_each(model, chosen, [n] * len(chosen), prior=mixture, generator=generator)
    weights = [] if mixture is None else mixture.log_weights[chosen].exp().tolist()
    names = tuple(f"component {m}, {readable(100 * w)} %" for m, w in zip(chosen, weights, strict=True))
    if len(chosen) == 1:
        return _Drawn(*_ordered(found), f"Samples of {names[0]} of the prior")
    return _Drawn(*_ordered(found), "Samples of components of the prior, with their weights", left=names, columns=n)


def _save_picture(out: Path, drawn: _Drawn) -> None:
    several = drawn.components is not None and not drawn.left and len(drawn.components.unique()) > 1
    captions = [f"component {m}" for m in drawn.components.tolist()] if several and drawn.components is not None else ()
    save_png(
        labelled.samples(drawn.images, drawn.title, left=drawn.left, columns=drawn.columns, captions=captions), out
    )


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
        title = "Items, and below their reconstructions (the mean of p(x|z) at the mean of q(z|x))"
        labels = found.labels or ("",) * len(found)
        captions = [
            f"{' '.join(name.split())}\n{label}".rstrip() for name, label in zip(found.names, labels, strict=True)
        ]
        save_png(labelled.reconstructions(x, model.reconstruct(x), captions[:shown], title), out)
    print_written(out, len(x), as_json, names=list(found.names[:shown]))
