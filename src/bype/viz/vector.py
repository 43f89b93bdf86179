"""Charts as SVG images for a page: one small chart each, readable at the width of a phone."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bype.viz.charts import COLOURS, library_defaults
from bype.viz.report import Picture
from bype.viz.wording import number

if TYPE_CHECKING:  # matplotlib is imported when a chart is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Line styles that differ without colour.
STYLES = ("-", "--", "-.", ":")


@library_defaults()
def line_chart(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, x_label: str, y_label: str,
    *, skip_start: bool = False, markers: bool = False,
) -> Picture:  # fmt: skip
    """A line for each name.

    Args:
        lines: The values of x and y by name, at least one each; a value that is NaN leaves a gap.
        title: The title.
        x_label: The label of x, with its unit.
        y_label: The label of y, with its unit.
        skip_start: Whether the axis may end at the 0.9 quantile, so that the first epochs do not flatten the others.
        markers: Whether each value has a marker.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4, 3.2), layout="tight")
    axis = figure.subplots()
    for i, (name, (x, y)) in enumerate(lines.items()):
        style, colour = STYLES[i % len(STYLES)], COLOURS[i % len(COLOURS)]
        axis.plot(x, y, style, color=colour, label=name, linewidth=1.6, marker="o" if markers else None)
    axis.set_title(title, fontsize=11)
    axis.set_xlabel(x_label, fontsize=10)
    axis.set_ylabel(y_label, fontsize=10)
    axis.tick_params(labelsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.grid(alpha=0.3)
    if skip_start:
        _limit(axis, [v for _, y in lines.values() for v in y])
    if len(lines) > 1:
        axis.legend(fontsize=9)
    ends = "; ".join(f"{name} from {number(y[0])} to {number(y[-1])}" for name, (_, y) in lines.items())
    return Picture(_svg_uri(figure), f"{title}: {y_label} by {x_label}. {ends}.")


def _limit(axis: "Axes", values: Sequence[float]) -> None:
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return
    low, high = min(known), float(np.quantile(known, 0.9))
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)


def _svg_uri(figure: "Figure") -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    data = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "bype"}):  # the same figure gives the same file
        FigureCanvasSVG(figure).print_svg(data, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue().encode()).decode()}"
