"""Generation from chosen components, and between images."""

from typing import NamedTuple

import torch
from torch import Tensor

from bype.distributions.mixtures import NormalMixture
from bype.models.vae import VAE


class Plates(NamedTuple):
    """Components of a prior, the image each is made of, and samples of each."""

    points: Tensor  # (k, c, h, w)
    images: Tensor  # (k, n, c, h, w), the means of p(x|z)
    components: Tensor  # (k,)
    shares: Tensor  # (k,), of the mixture


@torch.no_grad()
def plates(model: VAE, n: int, n_points: int = 9, *, generator: torch.Generator | None = None) -> Plates:
    """Components drawn by their shares, without replacement, and n samples of each (Figure 1).

    Args:
        model: The model.
        n: Samples of each component.
        n_points: How many components; fewer where fewer have a share.
        generator: Where the draws come from.

    Raises:
        ValueError: If the prior's components are not made of images.
    """
    p = model.prior(model.encoder)
    first = torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device)
    if not isinstance(p, NormalMixture) or model.prior.points_at(first) is None:
        raise ValueError(f"Expected a prior made of points, but got {type(model.prior).__name__}.")
    shares = p.log_weights.exp()
    drawn = torch.multinomial(shares, min(n_points, int((shares > 0).sum())), generator=generator)
    points = model.prior.points_at(drawn)
    assert points is not None
    latents = torch.stack([p.component(m).sample((n,), generator=generator) for m in drawn.tolist()])
    return Plates(points, model.generate(latents, generator=generator), drawn, shares[drawn])


@torch.no_grad()
def interpolate(model: VAE, start: Tensor, end: Tensor, steps: int = 11) -> Tensor:
    """Images along the line from one image's posterior mean to another's (Figure 2), (n, steps, c, h, w).

    Of two levels z2 moves on the line, and z1 is the mean of p(z1|z2).

    Args:
        model: The model.
        start: Images, (n, c, h, w).
        end: Images, (n, c, h, w).
        steps: Images from start to end, both counted.

    Raises:
        ValueError: If `steps` is less than 2.
    """
    if steps < 2:
        raise ValueError(f"Expected at least 2 `steps`, but got {steps}.")
    a, b = model.encoder(start).loc[:, None], model.encoder(end).loc[:, None]
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    return model.generate(torch.lerp(a, b, share), sample_lower=False)
