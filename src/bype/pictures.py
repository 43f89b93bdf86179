"""PNG pictures: grids of images, plates, galleries and curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bype.files import write
from bype.models import Plates

SMALL = 96  # a tile narrower than this is enlarged by whole factors, pixels kept square and sharp
GAP = 2


def to_uint8(images: Tensor) -> np.ndarray:
    """Images (n, c, h, w) in [0, 1] as (n, h, w, 3) bytes; one channel becomes grey, a second or fourth is left out."""
    x = images.detach().float().clamp(0, 1).cpu()
    x = x[:, :3] if x.shape[1] >= 3 else x[:, :1].expand(-1, 3, -1, -1)
    return (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def grid(images: Tensor, columns: int | None = None, *, background: int = 255) -> Image.Image:
    """Images (n, c, h, w) in rows of `columns` (a square by default), small ones enlarged."""
    tiles = to_uint8(images)
    n, h, w, _ = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    factor = max(1, SMALL // max(h, w))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    h, w = h * factor, w * factor
    canvas = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, 3), background, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + (i // columns) * (h + GAP), GAP + (i % columns) * (w + GAP)
        canvas[top : top + h, left : left + w] = tile
    return Image.fromarray(canvas)


def pairs(above: Tensor, below: Tensor, columns: int = 8) -> Image.Image:
    """Images (n, c, h, w) in rows, each with its counterpart under it."""
    blank = above.new_ones(1, *above.shape[1:])
    rows = []
    for start in range(0, len(above), columns):
        for part in (above[start : start + columns], below[start : start + columns]):
            rows.append(torch.cat([part, blank.expand(columns - len(part), -1, -1, -1)]))
    return grid(torch.cat(rows), columns)


def plates(drawn: Plates) -> Image.Image:
    """Figure 1: for each point, its own image beside the samples its component gave."""
    columns = min(3, len(drawn.points))
    rows = -(-len(drawn.points) // columns)
    size = (4.2 * columns, 3.1 * rows)
    figure, axes = _subplots(rows, 2 * columns, size, gridspec_kw={"width_ratios": [1, 2.4] * columns})
    for axis in axes.flat:
        axis.axis("off")
    for i, (point, sampled, m, share) in enumerate(zip(*drawn, strict=True)):
        left, right = axes[i // columns, 2 * (i % columns)], axes[i // columns, 2 * (i % columns) + 1]
        left.imshow(to_uint8(point[None])[0], interpolation="nearest")
        left.set_title(f"point {m}\n{100 * share:.3g} %", fontsize=8)
        right.imshow(np.asarray(grid(sampled)), interpolation="nearest")
    return _figure_image(figure)


def gallery(points: Tensor, shares: Tensor | None, title: str) -> Image.Image:
    """Points (n, c, h, w) with their shares of the weight, heaviest first."""
    order = torch.arange(len(points)) if shares is None else shares.cpu().argsort(descending=True, stable=True)
    columns = min(10 if len(points) <= 100 else 25, len(points))
    rows = -(-len(points) // columns)
    # Drawn by hand: hundreds of axes take a plotting library half a minute.
    tiles = to_uint8(points)
    h, w = tiles.shape[1:3]
    factor = max(1, -(-64 // max(h, w)))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    h, w, label = h * factor, w * factor, 0 if shares is None else 16
    width, top = columns * (w + GAP) + GAP, 22
    canvas = Image.new("RGB", (width, top + rows * (h + label + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    draw.text((width / 2, top / 2), title, fill="black", font=font, anchor="mm")
    for i, m in enumerate(order.tolist()):
        left, upper = GAP + (i % columns) * (w + GAP), top + GAP + (i // columns) * (h + label + GAP)
        canvas.paste(Image.fromarray(tiles[m]), (left, upper + label))
        if shares is not None:
            text = f"{100 * shares[m].item():.2f} %"
            draw.text((left + w / 2, upper + label / 2), text, fill="black", font=font, anchor="mm")
    return canvas


def curves(metrics: Mapping[str, Sequence[Mapping[str, Any]]], unit: str) -> Image.Image:
    """Validation loss over the epochs, and loss = reconstruction + beta KL in training, a line for each run."""
    figure, axes = _subplots(1, 3, (12, 3.6))
    for axis, (key, title) in zip(
        axes.flat,
        [("val_loss", "validation loss (beta = 1)"), ("reconstruction", "reconstruction"), ("kl", "KL term")],
        strict=True,
    ):
        for name, lines in metrics.items():
            axis.plot([m["epoch"] for m in lines], [m[key] for m in lines], label=name, linewidth=1.4)
        axis.set_title(title, fontsize=10)
        _epochs_axis(axis, [m[key] for lines in metrics.values() for m in lines])
    axes.flat[0].set_ylabel(f"per item ({unit})")
    axes.flat[0].legend(fontsize=8)
    return _figure_image(figure)


def _epochs_axis(axis: Any, values: Sequence[float]) -> None:
    axis.set_xlabel("epoch")
    # The first epochs are far off and would flatten the rest: the axis ends where nine tenths of the values do.
    low, high = min(values), float(np.quantile(values, 0.9))
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.grid(alpha=0.3)


def loss_curves(losses: Mapping[str, Sequence[float]], title: str) -> Image.Image:
    """Losses over the epochs 1, 2, ..., a line for each run."""
    figure, axes = _subplots(1, 1, (7, 4.2))
    axis = axes[0, 0]
    for name, values in losses.items():
        axis.plot(range(1, len(values) + 1), values, label=name, linewidth=1.3)
    axis.set_title(title, fontsize=10)
    _epochs_axis(axis, [v for values in losses.values() for v in values])
    axis.legend(fontsize=8)
    return _figure_image(figure)


def dots(names: Sequence[str], ours: Sequence[Sequence[float]], theirs: Sequence[float], label: str) -> Image.Image:
    """A row for each name: the figures of ours, one dot a seed, beside theirs, each less theirs."""
    figure, axes = _subplots(1, 1, (7, 0.9 + 0.28 * len(names)))
    axis = axes[0, 0]
    for row, (values, reference) in enumerate(zip(ours, theirs, strict=True)):
        axis.plot([v - reference for v in values], [row] * len(values), "o", markersize=4, color="C0")
    axis.axvline(0, color="C1", label="the paper's")
    # Room about the paper's line, so that differences of a hundredth do not look large.
    differences = [v - reference for values, reference in zip(ours, theirs, strict=True) for v in values]
    axis.set_xlim(1.1 * min(-0.2, *differences), 1.1 * max(0.2, *differences))
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(f"{label}: ours less the paper's", fontsize=9)
    axis.grid(alpha=0.3, axis="x")
    axis.legend(fontsize=8)
    return _figure_image(figure)


def _subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """A figure that belongs to no global state, and its axes, (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="tight")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _figure_image(figure: Any) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG whole."""
    write(path, lambda p: picture.save(p, format="PNG"))
