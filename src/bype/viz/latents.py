"""Pictures of latents: a map of classes, and nearest neighbours with captions."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from bype.viz.axes import draw_classes, library_defaults
from bype.viz.charts import figure_image, subplots

#: The axes of a map by t-SNE, whose values have no unit and no meaning of their own.
TSNE_NAMES = ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)")


class ClassMap(NamedTuple):
    """A map of latents."""

    points: Tensor  # (n, 2)
    labels: Sequence[str]  # the class of each, or none
    title: str


def class_map(points: Tensor, labels: Sequence[str], title: str) -> Image.Image:
    """A map of latents by t-SNE with a colour, a marker and a legend entry for each class.

    Args:
        points: The places, (n, 2).
        labels: The class of each, or none.
        title: The title.
    """
    return class_maps([ClassMap(points, labels, title)])


@library_defaults()
def class_maps(maps: Sequence[ClassMap]) -> Image.Image:
    """Maps, two in a row; of the same classes, each has the same colour and marker."""
    columns, (width, height) = min(2, len(maps)), (8.4, 6.6) if len(maps) == 1 else (4.8, 4.0)
    rows = -(-len(maps) // columns)
    figure, axes = subplots(rows, columns, (width * columns, height * rows))
    for axis in axes.flat[len(maps) :]:
        axis.remove()
    for axis, one in zip(axes.flat, maps, strict=False):
        draw_classes(axis, one.points, one.labels, one.title, TSNE_NAMES)
    return figure_image(figure)
