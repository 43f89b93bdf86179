"""Export of a pseudocoreset: its points, a table of weights and nearest training examples, and a gallery."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from bype.core.errors import InputError
from bype.core.files import refuse_foreign, write, write_csv
from bype.data.images import Dataset
from bype.export.nearest import nearest_items
from bype.export.rows import save_rows
from bype.models.vae import VAE
from bype.viz import images as pictures

FILES = ("points.npy", "weights.csv", "gallery.png", "points.csv")
GALLERY = 1000  # points of the picture at most; more would make it unreadably large
COLUMNS = ("point", "weight", "share", "nearest_label", "nearest_item", "distance", "source")


def _nearest_columns(points: Tensor, data: Dataset | None) -> list[list[str]]:
    """For each point label, row, distance and source of the nearest training example; empty without data."""
    if data is None:
        return [[""] * 4] * len(points)
    columns = []
    for item, distance in zip(*(t.tolist() for t in nearest_items(points, data.train)), strict=True):
        labels = data.train.labels
        label = "" if labels is None else data.label_name(int(labels[item]))
        columns.append([label, str(item), f"{distance:.6g}", data.source("train", item)])
    return columns


def _is_export(folder: Path) -> bool:
    table = folder / "weights.csv"
    return table.is_file() and table.read_bytes()[:200].startswith(",".join(COLUMNS[:3]).encode())


def export_coreset(model: VAE, data: Dataset | None, out: Path) -> dict[str, object]:
    """Writes a pseudocoreset as points.npy, weights.csv and gallery.png; of a table points.csv in place of the picture.

    points.npy is float32 (M, c, h, w). weights.csv has one line per point, in order of decreasing weight: the row in
    points.npy (`point`), w_m (`weight`), the mixing weight w_m/N (`share`), and the nearest training example: its
    label, or the name of its class if the set has names (`nearest_label`), its row in the training set
    (`nearest_item`), its Euclidean distance (`distance`), and its file or its row in the user's array (`source`).
    gallery.png shows the points of largest weight, at most `GALLERY`; points.csv has the rows of points.npy in the
    units and with the columns of the table.

    Args:
        model: A model with a pseudocoreset prior.
        data: The data the model was trained on; without them the columns on the nearest training example are empty.
        out: The folder.

    Returns:
        A summary: `out`; `points`, the number M; `n_data`, N; `effective_points`, (sum w)^2 / sum w^2; `weightless`,
        the number of points with w_m = 0.

    Raises:
        InputError: If the prior is not a pseudocoreset prior, or the folder cannot be written.
        RunExistsError: If the folder contains files of these names that are not from an earlier export.
    """
    prior = model.prior.pseudocoreset
    if prior is None:
        raise InputError(f"coreset: expected a model with prior bype, got {type(model.prior).__name__}")
    refuse_foreign(out, FILES, own=_is_export(out))
    points, weights = prior.pseudo_inputs.detach(), prior.weights.detach()
    nearest = _nearest_columns(points, data)
    order = weights.argsort(descending=True, stable=True).tolist()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.save(f, points.float().cpu().numpy())

    shares = [(m, weights[m].item()) for m in order]
    lines = [[str(m), f"{weight:.6g}", f"{weight / prior.n_data:.6g}", *nearest[m]] for m, weight in shares]
    write_csv(out / "weights.csv", COLUMNS, lines)  # written first: it identifies the folder as an export
    table = model.input_spec.table
    if table is not None:
        save_rows(out / "points.csv", table, points)
    write(out / "points.npy", fill)
    if table is None:
        names = [f"{m}: {nearest[m][0]}" if nearest[m][0] else str(m) for m in order[:GALLERY]]
        _save_gallery(points[order], weights[order] / prior.n_data, names, prior.n_data, out / "gallery.png")
    return {
        "out": str(out),
        "points": len(weights),
        "n_data": prior.n_data,
        "effective_points": (weights.sum().square() / weights.square().sum()).item(),
        "weightless": int((weights == 0).sum()),
    }


def _save_gallery(points: Tensor, shares: Tensor, names: Sequence[str], n_data: int, path: Path) -> None:
    """A picture of the points, in this order, the first of them named."""
    title = f"{len(points)} pseudo-points for {n_data} training examples, by weight"
    if len(points) > GALLERY:
        title += f": the first {GALLERY}"
    if any(":" in name for name in names):
        title += " (point: label of the nearest example)"
    pictures.save_png(pictures.gallery(points[:GALLERY], shares[:GALLERY], title, names), path)
