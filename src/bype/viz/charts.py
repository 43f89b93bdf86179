"""Charts: plates of Figure 1, loss curves, differences from the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from bype.models.generation import Plates
from bype.viz.images import grid, to_uint8


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
