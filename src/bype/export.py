"""A pseudocoreset as plain files: its points, their weights and what they resemble, and a gallery."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bype import pictures
from bype.data import Images
from bype.errors import InputError
from bype.files import write, write_text
from bype.models import VAE
from bype.priors import PseudocoresetPrior


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


def export_coreset(model: VAE, images: Images, out: Path) -> dict[str, Any]:
    """Writes points.npy, weights.csv and gallery.png; returns what they hold, in short.

    points.npy is float32 (M, c, h, w). weights.csv has a line for each point, heaviest first: its row in points.npy,
    its weight and share, the nearest training item and that item's label and distance.

    Args:
        model: A model with a pseudocoreset prior.
        images: The training set.
        out: The folder.

    Raises:
        InputError: If the prior is another one, or the folder cannot be written.
    """
    prior = model.prior
    if not isinstance(prior, PseudocoresetPrior):
        raise InputError(f"coreset: expected a run with prior bype, got {type(prior).__name__}")
    points, weights = prior.pseudo_inputs.detach(), prior.weights.detach()
    items, distances = nearest_items(points, images)
    order = weights.argsort(descending=True, stable=True).tolist()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.save(f, points.float().cpu().numpy())

    write(out / "points.npy", fill)
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["point", "weight", "share", "nearest_label", "nearest_item", "distance"])
    for m in order:
        label = "" if images.labels is None else int(images.labels[items[m]])
        weight = weights[m].item()
        table.writerow(
            [m, f"{weight:.6g}", f"{weight / prior.n_data:.6g}", label, int(items[m]), f"{distances[m].item():.6g}"]
        )
    write_text(out / "weights.csv", lines.getvalue())
    title = f"{len(weights)} pseudo-points for {prior.n_data} items, by weight"
    pictures.save_png(pictures.gallery(points, weights / prior.n_data, title), out / "gallery.png")
    return {
        "out": str(out),
        "points": len(weights),
        "n_data": prior.n_data,
        "effective_points": (weights.sum().square() / weights.square().sum()).item(),
        "weightless": int((weights == 0).sum()),
    }
