"""Plates: the samples of single components of a prior, beside the images of their points (Figure 1)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.distributions.mixtures import IsotropicMixture
from bype.evaluation.classifier import TILE, Classifier
from bype.models.vae import VAE


class _Block(NamedTuple):
    """Some plates."""

    points: Tensor  # (k, c, h, w), in [0, 1]
    samples: Tensor  # (k, n, c, h, w)


@fixed_torch_state(grad=False)
def plate_agreement(model: VAE, classifier: Classifier, n: int = 16, seed: int = 0) -> float:
    """The share of a component's samples that a classifier labels as the image of the component's point, in percent.

    The mean over all components with a positive weight.

    Args:
        model: A model whose prior is made of points.
        classifier: A classifier trained on data alone.
        n: Samples per component.
        seed: The seed of the samples.

    Raises:
        InputError: If the prior's components are not made from images.
    """
    agreeing = []
    for points, samples in _all_plates(model, n, seed):
        own = classifier.predict(points)
        agreeing.append(classifier.predict(samples.flatten(0, 1)).view(len(points), n) == own[:, None])
    return 100 * torch.cat(agreeing).double().mean().item()


@fixed_torch_state(grad=False)
def plate_variance(model: VAE, n: int = 16, seed: int = 0) -> float:
    r"""The share of the samples' variance that lies within the plates, in percent; needs no labels.

    .. math:: 100 \, \frac{\sum_m \frac{1}{n-1} \sum_i \|x_{mi} - \bar x_m\|^2}
        {\sum_m \frac{1}{n-1} \sum_i \|x_{mi} - \bar x_m\|^2 + V}

    with V the variance between components, an unbiased estimate, at least 0, of the sum of
    :math:`\|\mathrm{E}[x_m] - \mathrm{E}[x]\|^2` over the components with a positive weight, taken equally. At 0 all
    samples of a plate are the same, without diversity; at 100 the plates are alike, and no clusters.

    Args:
        model: A model whose prior is made of points.
        n: Samples per component, at least two.
        seed: The seed of the samples.

    Raises:
        InputError: If the prior's components are not made from images, or `n` is less than 2.
    """
    n = whole("n", n, 2)
    within, means = [], []
    for _, samples in _all_plates(model, n, seed):
        x = samples.flatten(2).double()
        within.append(x.var(1).sum(1))
        means.append(x.mean(1))
    inside, centres = torch.cat(within), torch.cat(means)
    k = len(centres)
    # The means of n samples vary by inside / n about their components' own.
    apart = (centres - centres.mean(0)).square().sum() - (k - 1) / k * (inside / n).sum()
    total = inside.sum() + apart.clamp(min=0)
    return 100 * (inside.sum() / total).item() if total > 0 else 0.0


def _all_plates(model: VAE, n: int, seed: int) -> Iterator[_Block]:
    """The plates of all components with a positive weight, in blocks."""
    model.eval()
    p = model.prior(model.encoder)
    device = next(model.parameters()).device
    first = torch.zeros(1, dtype=torch.long, device=device)
    if not isinstance(p, IsotropicMixture) or model.prior.points_at(first) is None:
        raise InputError(f"plates: expected a prior made of points, got {type(model.prior).__name__}")
    generator = torch.Generator(device).manual_seed(seed + Stream.AUGMENTATION)
    for rows in (p.log_weights > -torch.inf).nonzero()[:, 0].split(max(1, TILE // n)):
        points = model.prior.points_at(rows)
        assert points is not None
        noise = torch.randn(len(rows), n, p.loc.shape[1], generator=generator, device=device, dtype=p.loc.dtype)
        samples = model.generate(p.loc[rows, None] + p.scale * noise, generator=generator)
        yield _Block(points.float().clamp(0, 1), samples.float())
