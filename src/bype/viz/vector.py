"""Charts as SVG images for a page: one small chart each, readable at the width of a phone."""

import base64
import io
from typing import TYPE_CHECKING

from bype.core.numbers import readable
from bype.viz.axes import Lines, draw_lines, library_defaults
from bype.viz.report import Picture

if TYPE_CHECKING:  # matplotlib is imported when a chart is drawn
    from matplotlib.figure import Figure


@library_defaults()
def line_chart(
    lines: Lines, title: str, x_label: str, y_label: str, *, skip_start: bool = False, markers: bool = False,
) -> Picture:  # fmt: skip
    """A line for each name; the arguments are those of `bype.viz.axes.draw_lines`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.2), layout="tight")
    draw_lines(figure.subplots(), lines, title, x_label, y_label, skip_start=skip_start, markers=markers)
    ends = "; ".join(f"{name} from {readable(y[0])} to {readable(y[-1])}" for name, (_, y) in lines.items())
    return Picture(_svg_uri(figure), f"{title}: {y_label} by {x_label}. {ends}.")


def _svg_uri(figure: "Figure") -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    data = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "bype"}):  # the same figure gives the same file
        FigureCanvasSVG(figure).print_svg(data, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue().encode()).decode()}"
