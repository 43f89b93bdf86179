"""Charts: plates of Figure 1, loss curves, differences from the paper."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bype.models.generation import Plates
from bype.viz.images import grid, to_uint8

if TYPE_CHECKING:  # matplotlib is imported when a chart is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Colours that differ for colour-blind readers too: those of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@contextmanager
def library_defaults() -> Iterator[None]:
    """matplotlib with its own defaults: the user's backend, style and rc file have no effect inside."""
    backend = os.environ.pop("MPLBACKEND", None)  # read on import, where a backend that is not installed is an error
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        from cycler import cycler

        matplotlib.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)
        yield


@library_defaults()
def plates(samples: Plates) -> Image.Image:
    """Figure 1: for each point, its image and samples of its component, with the component's weight in percent."""
    columns = min(3, len(samples.points))
    rows = -(-len(samples.points) // columns)
    size = (4.2 * columns, 3.1 * rows)
    figure, axes = subplots(rows, 2 * columns, size, width_ratios=[1, 2.4] * columns)
    for axis in axes.flat:
        axis.axis("off")
    for i, (point, images, m, weight) in enumerate(zip(*samples, strict=True)):
        left, right = axes[i // columns, 2 * (i % columns)], axes[i // columns, 2 * (i % columns) + 1]
        left.imshow(to_uint8(point[None])[0], interpolation="nearest")
        left.set_title(f"point {m}\n{100 * weight:.3g} %", fontsize=9)
        right.imshow(np.asarray(grid(images)), interpolation="nearest")
    return figure_image(figure)


@library_defaults()
def curves(metrics: Mapping[str, Sequence[Mapping[str, Any]]], unit: str) -> Image.Image:
    """Validation loss, training reconstruction and training KL term by epoch, one line per run.

    Args:
        metrics: For each run, the lines of its `metrics.jsonl`.
        unit: The unit of the losses, for the axis label.
    """
    figure, axes = subplots(1, 3, (12, 3.6))
    for axis, (key, title) in zip(
        axes.flat,
        [("val_loss", "validation loss (beta = 1)"), ("reconstruction", "reconstruction"), ("kl", "KL term")],
        strict=True,
    ):
        for name, lines in metrics.items():
            axis.plot([m["epoch"] for m in lines], [m[key] for m in lines], label=name, linewidth=1.4)
        axis.set_title(title, fontsize=10)
        _epochs_axis(axis, [m[key] for lines in metrics.values() for m in lines])
        axis.set_ylabel(f"{unit} per example")
    axes.flat[0].legend(fontsize=9)
    return figure_image(figure)


def _epochs_axis(axis: "Axes", values: Sequence[float]) -> None:
    axis.set_xlabel("epoch")
    # The losses of the first epochs are much higher and would flatten the rest: the axis ends at the 0.9 quantile.
    low, high = min(values), float(np.quantile(values, 0.9))
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.grid(alpha=0.3)


@library_defaults()
def loss_curves(losses: Mapping[str, Sequence[float]], title: str, unit: str) -> Image.Image:
    """Losses by epoch, one line per run; the values are those of epochs 1, 2, ..., in `unit` per example."""
    figure, axes = subplots(1, 1, (7, 4.2))
    axis = axes[0, 0]
    for name, values in losses.items():
        axis.plot(range(1, len(values) + 1), values, label=name, linewidth=1.3)
    axis.set_title(title, fontsize=10)
    axis.set_ylabel(f"{unit} per example")
    _epochs_axis(axis, [v for values in losses.values() for v in values])
    axis.legend(fontsize=9)
    return figure_image(figure)


@library_defaults()
def dots(
    names: Sequence[str], ours: Sequence[Sequence[float]], theirs: Sequence[float], label: str, unit: str
) -> Image.Image:
    """Differences from the paper's values, one row per name and one dot per seed.

    Args:
        names: The names of the rows.
        ours: For each row, our value for each seed.
        theirs: For each row, the paper's value.
        label: The name of the metric, for the axis label.
        unit: Its unit.
    """
    figure, axes = subplots(1, 1, (7, 1.2 + 0.28 * len(names)))
    axis = axes[0, 0]
    for row, (values, reference) in enumerate(zip(ours, theirs, strict=True)):
        axis.plot([v - reference for v in values], [row] * len(values), "o", markersize=4, color="C0")
    axis.set_title(f"{label}: differences from the paper", fontsize=10)
    axis.axvline(0, color="C1", label="the paper's")
    # At least 0.2 to both sides, so that differences of 0.01 do not look large.
    differences = [v - reference for values, reference in zip(ours, theirs, strict=True) for v in values]
    axis.set_xlim(1.1 * min(-0.2, *differences), 1.1 * max(0.2, *differences))
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel(f"ours minus the paper's ({unit}); one dot per seed", fontsize=9)
    axis.grid(alpha=0.3, axis="x")
    axis.legend(fontsize=9)
    return figure_image(figure)


@library_defaults()
def lines_by_number(
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], x_label: str, y_label: str, *, log: bool = False
) -> Image.Image:
    """A metric by a whole number, such as a size: a line per name through the means, and a dot per seed.

    Args:
        panels: For each panel, by its title, and each name in it, the values of the seeds by number.
        x_label: The name of the number.
        y_label: The name of the metric, with its unit.
        log: Whether the axis of the number is logarithmic.
    """
    figure, axes = subplots(1, len(panels), (6 * len(panels), 4))
    styles = list(dict.fromkeys(name for values in panels.values() for name in values))
    for axis, (title, values) in zip(axes[0], panels.items(), strict=True):
        for name, by_number in values.items():
            place = styles.index(name)
            marker, colour = "os^Dv"[place % 5], COLOURS[place % len(COLOURS)]
            means = [float(np.mean(seeds)) for seeds in by_number.values()]
            axis.plot(list(by_number), means, label=name, marker=marker, color=colour, linewidth=1.3)
            for number, seeds in by_number.items():
                axis.plot([number] * len(seeds), seeds, marker, markersize=4, color=colour, alpha=0.5)
        if log:
            axis.set_xscale("log")
        numbers = sorted({number for by_number in values.values() for number in by_number})
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9)
    return figure_image(figure)


def subplots(
    rows: int, columns: int, size: tuple[float, float], width_ratios: Sequence[float] | None = None
) -> tuple["Figure", np.ndarray]:
    """A figure outside pyplot's global state, and its axes, (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="tight")
    return figure, figure.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)


def figure_image(figure: "Figure") -> Image.Image:
    """A figure as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
