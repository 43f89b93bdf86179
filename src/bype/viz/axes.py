"""Drawing on matplotlib's axes: lines, images, a map of classes, histograms. Every chart of bype is made of these."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from bype.core.numbers import readable
from bype.viz.images import to_uint8
from bype.viz.palette import COLOURS, MARKERS, REST, STYLES

if TYPE_CHECKING:  # matplotlib is imported when a chart is drawn
    from matplotlib.axes import Axes

#: Points of x and y for each name, at least one each.
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]
#: Classes with a colour and marker each; the others are drawn in grey.
MAX_CLASSES = len(COLOURS) * len(MARKERS)


@contextmanager
def library_defaults() -> Iterator[None]:
    """matplotlib with bype's settings: the user's backend, style and rc file have no effect inside."""
    backend = os.environ.pop("MPLBACKEND", None)  # read on import, where a backend that is not installed is an error
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        from cycler import cycler

        matplotlib.rc("axes", titlesize=11, labelsize=10, prop_cycle=cycler(color=COLOURS))
        matplotlib.rc("axes", unicode_minus=False, **{"formatter.useoffset": False})
        matplotlib.rc(("xtick", "ytick"), labelsize=9)  # type: ignore[arg-type]
        matplotlib.rc("legend", fontsize=9)
        yield


def draw_lines(
    axis: "Axes", lines: Lines, title: str, x_label: str, y_label: str, *, skip_start: bool = False,
    markers: bool = False,
) -> None:  # fmt: skip
    """Draws a line for each name.

    Args:
        axis: The axes.
        lines: The values of x and y by name; a value that is NaN leaves a gap.
        title: The title.
        x_label: The label of x, with its unit.
        y_label: The label of y, with its unit.
        skip_start: Whether the axis may end at the 0.9 quantile, so that the first epochs do not flatten the others.
        markers: Whether each value has a marker.
    """
    from matplotlib.ticker import MaxNLocator

    for i, (name, (x, y)) in enumerate(lines.items()):
        style, colour = STYLES[i % len(STYLES)], COLOURS[i % len(COLOURS)]
        axis.plot(x, y, style, color=colour, label=name, linewidth=1.6, marker="o" if markers else None)
    label_axes(axis, title, x_label, y_label)
    known = sorted({v for x, _ in lines.values() for v in x})
    if markers and len(known) <= 10:
        axis.set_xticks(known)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if skip_start:
        _limit(axis, [v for _, y in lines.values() for v in y])
    if len(lines) > 1:
        axis.legend()


def label_axes(axis: "Axes", title: str, x_label: str, y_label: str, *, grid: str = "both") -> None:
    """Sets the title, both labels and a grid (`both`, `x` or `y`)."""
    axis.set_title(title)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(visible=True, axis=grid, alpha=0.3)  # type: ignore[arg-type]


def _limit(axis: "Axes", values: Sequence[float]) -> None:
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return
    low, high = min(known), float(np.quantile(known, 0.9))
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)


def draw_picture(axis: "Axes", picture: Image.Image, title: str) -> None:
    """Shows a picture, without ticks."""
    axis.imshow(np.asarray(picture), interpolation="nearest")
    axis.set_title(title)
    axis.axis("off")


def draw_weighted(axis: "Axes", images: Tensor, weights: Tensor, title: str) -> None:
    """Shows images (n, c, h, w) in their order, eight in a row, each with its weight in percent below."""
    for i, (tile, weight) in enumerate(zip(to_uint8(images), weights.tolist(), strict=True)):
        left, top = 1.1 * (i % 8), -1.35 * (i // 8)
        axis.imshow(tile, extent=(left, left + 1, top - 1, top), interpolation="nearest")
        axis.text(left + 0.5, top - 1.03, f"{readable(100 * weight)} %", ha="center", va="top", fontsize=8)
    axis.set_xlim(-0.1, 1.1 * min(8, len(images)))
    axis.set_ylim(-1.35 * -(-len(images) // 8), 0.1)
    axis.set_title(title)
    axis.axis("off")


def draw_classes(axis: "Axes", points: Tensor, labels: Sequence[str], title: str, names: tuple[str, str]) -> None:
    """Draws points with a colour, a marker and a legend entry for each class.

    Args:
        axis: The axes.
        points: The places, (n, 2).
        labels: The class of each, or none.
        title: The title.
        names: The names of both coordinates, with their unit if they have one.
    """
    x = points.detach().cpu().numpy()
    classes = sorted(set(labels), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    own = np.array(labels) if labels else np.full(len(x), "")
    size = 14 if len(x) > 1000 else 24
    styles = [(colour, marker) for marker, colour in product(MARKERS, COLOURS)]
    for name, (colour, marker) in zip(classes, styles, strict=False):
        mask = own == name
        axis.scatter(
            x[mask, 0],
            x[mask, 1],
            s=size,
            c=colour,
            marker=marker,
            alpha=0.75,
            linewidths=0,
            label=name or "unlabelled",
        )
    rest = ~np.isin(own, classes[:MAX_CLASSES])
    if rest.any():
        label = f"{len(classes) - MAX_CLASSES} more classes" if classes else None
        axis.scatter(x[rest, 0], x[rest, 1], s=size, c=REST, alpha=0.6, linewidths=0, label=label)
    for name in classes[:MAX_CLASSES]:
        place = np.median(x[own == name], axis=0)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        axis.annotate(name[:20], place, fontsize=9, ha="center", va="center", weight="bold", bbox=box, color="black")
    if classes:
        columns = 1 + (min(len(classes), MAX_CLASSES) > 20)
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6, ncols=columns, title="class")
    axis.set_title(title)
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.set_xticks([])
    axis.set_yticks([])


def draw_histogram(axis: "Axes", values: Mapping[str, np.ndarray], title: str, x_label: str, y_label: str) -> None:
    """Draws how often values occur, in percent of each name's values; all names share their bins."""
    everything = np.concatenate(list(values.values()))
    bins = np.histogram_bin_edges(everything, min(60, max(5, round(len(everything) ** 0.5))))
    for i, (name, own) in enumerate(values.items()):
        share = np.full(len(own), 100 / len(own))
        axis.hist(
            own, bins.tolist(), weights=share, label=name, alpha=0.55 if len(values) > 1 else 0.85, color=COLOURS[i]
        )
    label_axes(axis, title, x_label, y_label)
    if len(values) > 1:
        axis.legend()
