"""The colours of all pictures and pages, in one place.

The colours of data have a contrast of at least 3 to white (WCAG 2.2, 1.4.11), so that all charts have a white
background, and differ by at least 25 in CIELAB for full colour vision, protanopia, deuteranopia and tritanopia.
"""

from typing import NamedTuple

#: Colours of lines and classes. Found by a random search over sRGB for the largest smallest distance between two.
COLOURS = (
    "#0072b2", "#d55e00", "#0f491f", "#a251ff", "#c6865f", "#000000", "#8a9599", "#492456", "#0600ff", "#120077",
)  # fmt: skip
#: Markers that differ without colour.
MARKERS = ("o", "^", "s", "D", "v")
#: Line styles that differ without colour.
STYLES = ("-", "--", "-.", ":")
#: Points without a class, and frames of images.
REST, FRAME = "#767676", "#bbbbbb"


class Theme(NamedTuple):
    """The colours of a page."""

    text: str
    soft: str  # text of less importance
    back: str
    card: str
    line: str
    link: str


LIGHT = Theme("#1a1a1a", "#4a4a4a", "#ffffff", "#f3f4f6", "#c3c7cd", "#0b57a4")
DARK = Theme("#ececec", "#c4c4c4", "#16181c", "#22262c", "#4b515a", "#8cc4ff")
PRINT = Theme("#000000", "#333333", "#ffffff", "#ffffff", "#999999", "#000000")


def style_sheet() -> str:
    """The colours as CSS: the properties `--text`, `--soft`, ... in each medium, and the classes `.g0`, `.g1`, ..."""
    lines = []
    for medium, theme in (("all", LIGHT), ("(prefers-color-scheme: dark)", DARK), ("print", PRINT)):
        properties = "; ".join(f"--{name}: {value}" for name, value in theme._asdict().items())
        lines.append(f"@media {medium} {{ :root {{ {properties} }} }}")
    return "\n".join([*lines, *(f".g{i} {{ fill: {colour} }}" for i, colour in enumerate(COLOURS))])
