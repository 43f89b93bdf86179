"""Charts: plates of Figure 1, loss curves, differences from the paper."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bype.core.numbers import readable
from bype.models.generation import Plates
from bype.viz.axes import draw_lines, label_axes, library_defaults
from bype.viz.images import grid, to_uint8
from bype.viz.palette import COLOURS, MARKERS

if TYPE_CHECKING:  # matplotlib is imported when a chart is drawn
    from matplotlib.figure import Figure

#: The terms of the loss in `metrics.jsonl`, and their titles.
TERMS = {"val_loss": "validation loss (beta = 1)", "reconstruction": "reconstruction term", "kl": "KL term"}


@library_defaults()
def plates(samples: Plates) -> Image.Image:
    """Figure 1: for each point, its image and samples of its component, with the component's weight in percent."""
    columns = min(3, len(samples.points))
    rows = -(-len(samples.points) // columns)
    size = (4.2 * columns, 3.1 * rows + 0.4)
    figure, axes = subplots(rows, 2 * columns, size, width_ratios=[1, 2.4] * columns)
    figure.suptitle("Points of the prior with their mixing weights, and samples of their components", fontsize=16)
    for axis in axes.flat:
        axis.axis("off")
    for i, (point, images, m, weight) in enumerate(zip(*samples, strict=True)):
        left, right = axes[i // columns, 2 * (i % columns)], axes[i // columns, 2 * (i % columns) + 1]
        left.imshow(to_uint8(point[None])[0], interpolation="nearest")
        left.set_title(f"point {m}\n{readable(100 * weight.item())} %", fontsize=13)
        right.imshow(np.asarray(grid(images)), interpolation="nearest")
    return figure_image(figure)


@library_defaults()
def curves(metrics: Mapping[str, Sequence[Mapping[str, Any]]], unit: str) -> Image.Image:
    """Validation loss, training reconstruction and training KL term by epoch, one line per run.

    Args:
        metrics: For each run, the lines of its `metrics.jsonl`.
        unit: The unit of the losses, for the axis label.
    """
    figure, axes = subplots(1, 3, (9.7, 3.3))
    for axis, (key, title) in zip(axes.flat, TERMS.items(), strict=True):
        lines = {name: ([m["epoch"] for m in own], [m[key] for m in own]) for name, own in metrics.items()}
        draw_lines(axis, lines, title, "epoch", f"{unit} per example", skip_start=True)
    return figure_image(figure)


@library_defaults()
def loss_curves(losses: Mapping[str, Sequence[float]], title: str, unit: str) -> Image.Image:
    """Losses by epoch, one line per run; the values are those of epochs 1, 2, ..., in `unit` per example."""
    figure, axes = subplots(1, 1, (7, 4.2))
    lines = {name: (range(1, len(values) + 1), values) for name, values in losses.items()}
    draw_lines(axes[0, 0], lines, title, "epoch", f"{unit} per example", skip_start=True)
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
        axis.plot([v - reference for v in values], [row] * len(values), "o", markersize=4, color=COLOURS[0])
    axis.axvline(0, color=COLOURS[1], label="the paper's")
    # At least 0.2 to both sides, so that differences of 0.01 do not look large.
    differences = [v - reference for values, reference in zip(ours, theirs, strict=True) for v in values]
    axis.set_xlim(1.1 * min(-0.2, *differences), 1.1 * max(0.2, *differences))
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    title = f"{label}: differences from the paper"
    label_axes(axis, title, f"ours minus the paper's ({unit}); one dot per seed", "", grid="x")
    axis.legend()
    return figure_image(figure)


@library_defaults()
def lines_by_number(
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]],
    x_label: str,
    y_label: str,
    *,
    names: Sequence[str] = (),
    log: bool = False,
) -> Image.Image:
    """A metric by a whole number, such as a size: a line per name through the means, and a dot per seed.

    Args:
        panels: For each panel, by its title, and each name in it, the values of the seeds by number.
        x_label: The name of the number.
        y_label: The name of the metric, with its unit.
        names: All names that charts of this kind have, so that a name has the same colour in each.
        log: Whether the axis of the number is logarithmic.
    """
    figure, axes = subplots(1, len(panels), (min(6.0, 9.7 / len(panels)) * len(panels), 4))
    styles = list(dict.fromkeys([*names, *(name for values in panels.values() for name in values)]))
    for axis, (title, values) in zip(axes[0], panels.items(), strict=True):
        for name, by_number in values.items():
            place = styles.index(name)
            marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
            means = [float(np.mean(seeds)) for seeds in by_number.values()]
            axis.plot(list(by_number), means, label=name, marker=marker, color=colour, linewidth=1.3)
            for number, seeds in by_number.items():
                axis.plot([number] * len(seeds), seeds, marker, markersize=4, color=colour, alpha=0.5)
        if log:
            axis.set_xscale("log")
        numbers = sorted({number for by_number in values.values() for number in by_number})
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
        label_axes(axis, title, x_label, y_label)
        axis.legend()
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
