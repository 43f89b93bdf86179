"""Generation from chosen components, and interpolation between images."""

from typing import NamedTuple

import torch
from torch import Tensor

from bype.distributions.mixtures import NormalMixture
from bype.models.vae import VAE


class Plates(NamedTuple):
    """Components of a prior: the image that each is computed from, and samples from each."""

    points: Tensor  # (k, c, h, w)
    images: Tensor  # (k, n, c, h, w), the means of p(x|z)
    components: Tensor  # (k,), their indices in the mixture
    weights: Tensor  # (k,), their mixing weights


@torch.no_grad()
def plates(model: VAE, n: int, n_points: int = 9, *, generator: torch.Generator | None = None) -> Plates:
    """Chooses components by their mixing weights, without replacement, and draws n samples from each (Figure 1).

    Args:
        model: The model.
        n: The number of samples per component.
        n_points: The number of components k; fewer if fewer have a positive mixing weight.
        generator: The generator of all samples.

    Raises:
        ValueError: If the prior's components are not made from images.
    """
    p = model.prior(model.encoder)
    first = torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device)
    if not isinstance(p, NormalMixture) or model.prior.points_at(first) is None:
        raise ValueError(f"Expected a prior made of points, but got {type(model.prior).__name__}.")
    weights = p.log_weights.exp()
    chosen = torch.multinomial(weights, min(n_points, int((weights > 0).sum())), generator=generator)
    points = model.prior.points_at(chosen)
    assert points is not None
    latents = torch.stack([p.component(m).sample((n,), generator=generator) for m in chosen.tolist()])
    return Plates(points, model.generate(latents, generator=generator), chosen, weights[chosen])


@torch.no_grad()
def interpolate(model: VAE, start: Tensor, end: Tensor, steps: int = 11) -> Tensor:
    """Images along the line from one image's posterior mean to another's (Figure 2), (n, steps, c, h, w).

    With two levels z2 is interpolated, and z1 is the mean of p(z1|z2).

    Args:
        model: The model.
        start: The first images, (n, c, h, w).
        end: The last images, (n, c, h, w).
        steps: The number of images, including both ends.

    Raises:
        ValueError: If `steps` is less than 2.
    """
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    a, b = model.encoder(start).loc[:, None], model.encoder(end).loc[:, None]
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    return model.generate(torch.lerp(a, b, t), sample_lower=False)
