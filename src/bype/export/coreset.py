"""A pseudocoreset as plain files: its points, their weights and what they resemble, and a gallery."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError, RunExistsError
from bype.core.files import write, write_text
from bype.data.images import Dataset, Images
from bype.models.vae import VAE
from bype.viz import images as pictures

FILES = ("points.npy", "weights.csv", "gallery.png")
COLUMNS = ("point", "weight", "share", "nearest_label", "nearest_item", "distance", "source")


@torch.no_grad()
def nearest_items(points: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    """The training item nearest to each point, Euclidean over the pixels: its rows and distances, (M,) each."""
    flat = points.flatten(1)
    best = torch.full((len(flat),), torch.inf, device=flat.device)
    rows = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    start = 0
    for x in images.batches(5000):
        # In float64 products lose nothing that tells a point from the very item it started as.
        distance, index = torch.cdist(flat.double(), x.flatten(1).double()).min(1)
        nearer = distance < best
        best = torch.where(nearer, distance.to(best.dtype), best)
        rows = torch.where(nearer, index + start, rows)
        start += len(x)
    return rows, best


def _refuse_foreign(out: Path) -> None:
    """An earlier export is replaced; files of somebody else's are not."""
    there = [name for name in FILES if (out / name).exists()]
    table = out / "weights.csv"
    head = table.read_bytes()[:200].decode(errors="replace") if table.is_file() else ""
    if there and not head.startswith(",".join(COLUMNS[:3])):
        raise RunExistsError(f"{out / there[0]}: expected no such file, or one of an earlier export, got another")


def export_coreset(model: VAE, data: Dataset, out: Path) -> dict[str, Any]:
    """Writes points.npy, weights.csv and gallery.png; returns what they hold, in short.

    points.npy is float32 (M, c, h, w). weights.csv has a line for each point, heaviest first: its row in points.npy,
    its weight and share, the nearest training item, that item's label, its distance, and where it came from: its file,
    or its row in the user's array.

    Args:
        model: A model with a pseudocoreset prior.
        data: The data the model was trained on.
        out: The folder.

    Raises:
        InputError: If the prior is another one, or the folder cannot be written.
        RunExistsError: If the folder holds files of these names that were not written so.
    """
    prior = model.prior.pseudocoreset
    if prior is None:
        raise InputError(f"coreset: expected a run with prior bype, got {type(model.prior).__name__}")
    _refuse_foreign(out)
    points, weights = prior.pseudo_inputs.detach(), prior.weights.detach()
    images = data.train
    items, distances = nearest_items(points, images)
    order = weights.argsort(descending=True, stable=True).tolist()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.save(f, points.float().cpu().numpy())

    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(COLUMNS)
    for m in order:
        label = "" if images.labels is None else int(images.labels[items[m]])
        weight = weights[m].item()
        share, item, distance = weight / prior.n_data, int(items[m]), distances[m].item()
        source = data.source("train", item)
        table.writerow([m, f"{weight:.6g}", f"{share:.6g}", label, item, f"{distance:.6g}", source])
    write_text(out / "weights.csv", lines.getvalue())  # first: it marks the folder as an export
    write(out / "points.npy", fill)
    title = f"{len(weights)} pseudo-points for {prior.n_data} items, by weight"
    pictures.save_png(pictures.gallery(points, weights / prior.n_data, title), out / "gallery.png")
    return {
        "out": str(out),
        "points": len(weights),
        "n_data": prior.n_data,
        "effective_points": (weights.sum().square() / weights.square().sum()).item(),
        "weightless": int((weights == 0).sum()),
    }
