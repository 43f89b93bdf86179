"""Pictures made by models, or of arrays: reconstructions, samples, points, interpolations."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.distributions.mixtures import NormalMixture
from bype.models import generation
from bype.models.inputs import ImagesLike
from bype.plot.sources import Array, Source, Trained, drawn, tensor
from bype.viz.axes import draw_picture, draw_weighted
from bype.viz.images import grid, pairs

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes


def reconstructions(
    source: Source | Array, images: ImagesLike | None = None, *, n: int = 16, ax: "Axes | None" = None
) -> "Axes":
    """Images in odd rows, each with its reconstruction below, the mean of p(x|z) at the mean of q(z|x).

    Args:
        source: A run or model; or the original images, (n, c, h, w).
        images: The images to reconstruct, by default the first test images of a run; with original images, their
            reconstructions, (n, c, h, w).
        n: The number of images.
        ax: The axes to draw on.

    Raises:
        InputError: If there are no images, or they do not fit the model.
    """
    n = whole("n", n, 1)
    if isinstance(source, Tensor | np.ndarray):
        if not isinstance(images, Tensor | np.ndarray):
            raise InputError("reconstructions: expected the reconstructions of the images as an array, got none")
        above, below = tensor(source)[:n], tensor(images)[:n]
    else:
        trained = Trained(source)
        above = trained.images(images, n)
        below = trained.model.reconstruct(above)
    picture = pairs(above, below)
    return drawn(ax, (6, 4), lambda axis: draw_picture(axis, picture, "images, and below their reconstructions"))


def samples(
    source: Source | Array, n: int = 36, *, component: int | None = None, seed: int = 0, ax: "Axes | None" = None
) -> "Axes":
    """Samples in a grid: the means of p(x|z) at latents from the prior.

    Args:
        source: A run or model; or the samples, (n, c, h, w).
        n: The number of samples.
        component: Of a run or model, sample this component of the prior only.
        seed: Seed of the samples.
        ax: The axes to draw on.

    Raises:
        InputError: If the prior has no such component.
    """
    n = whole("n", n, 1)
    if isinstance(source, Tensor | np.ndarray):
        x = tensor(source)[:n]
    else:
        trained = Trained(source)
        generator = torch.Generator(trained.model.input_spec.device).manual_seed(seed)
        try:
            x = trained.model.sample(n, component=component, generator=generator).images
        except ValueError as e:
            raise InputError(f"samples: {e}") from None
    of = "" if component is None else f" of component {component}"
    return drawn(ax, (5, 5), lambda axis: draw_picture(axis, grid(x), f"samples{of}"))


@fixed_torch_state(grad=False)
def pseudocoreset(
    source: Source | Array, weights: Array | None = None, *, n: int = 40, ax: "Axes | None" = None
) -> "Axes":
    """The points of a prior with their mixing weights in percent, the largest first.

    Args:
        source: A run or model with a prior made of points; or the points, (M, c, h, w).
        weights: With points, their weights, (M,).
        n: The largest number of points that are shown.
        ax: The axes to draw on.

    Raises:
        InputError: If the prior has no points, or there are no weights for them.
    """
    n = whole("n", n, 1)
    if isinstance(source, Tensor | np.ndarray):
        if weights is None:
            raise InputError("pseudocoreset: expected the weights of the points, got none")
        points, w = tensor(source), tensor(weights)
        order = w.argsort(descending=True, stable=True)[:n]
        shown = points[order]
    else:
        trained = Trained(source)
        p = trained.model.prior(trained.model.encoder)
        w = p.log_weights.exp() if isinstance(p, NormalMixture) else torch.zeros(0)
        order = w.argsort(descending=True, stable=True)[:n]
        found = trained.model.prior.points_at(order) if len(order) else None
        if found is None:
            raise InputError(
                f"pseudocoreset: expected a prior made of points, got {type(trained.model.prior).__name__}"
            )
        shown = found
    heading = f"{len(order)} of {len(w)} points, by mixing weight"
    weighted = w[order] / w.sum()
    return drawn(ax, (7, 5.8), lambda axis: draw_weighted(axis, shown, weighted, heading))


def interpolation(
    source: Source | Array,
    start: ImagesLike | None = None,
    end: ImagesLike | None = None,
    *,
    steps: int = 11,
    ax: "Axes | None" = None,
) -> "Axes":
    """Images along straight lines in z, a row for each pair of images.

    Args:
        source: A run or model; or the images, (n, steps, c, h, w).
        start: The first images; by default the first four test images of a run.
        end: The last images; by default the next four.
        steps: The number of images in a row, both ends included.
        ax: The axes to draw on.

    Raises:
        InputError: If only one end is given, or the images do not fit the model.
    """
    if isinstance(source, Tensor | np.ndarray):
        path = tensor(source)
    else:
        trained = Trained(source)
        if (start is None) != (end is None):
            raise InputError("interpolation: expected start and end, or none of them, got one")
        if start is None or end is None:
            x = trained.images(None, 8)
            start, end = x[: len(x) // 2], x[len(x) // 2 : len(x) // 2 * 2]
        path = generation.interpolate(trained.model, start, end, steps)
    picture = grid(path.flatten(0, 1), path.shape[1])
    return drawn(ax, (7, 3), lambda axis: draw_picture(axis, picture, "each row: a straight line between two latents"))
