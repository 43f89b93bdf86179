"""Generation from chosen components, and interpolation between images."""

from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.distributions.mixtures import NormalMixture, categorical_sample
from bype.models.inputs import ImagesLike
from bype.models.vae import VAE


class Plates(NamedTuple):
    """Components of a prior: the image that each is computed from, and samples from each."""

    points: Tensor  # (k, c, h, w)
    images: Tensor  # (k, n, c, h, w), the means of p(x|z)
    components: Tensor  # (k,), their indices in the mixture
    weights: Tensor  # (k,), their mixing weights


@fixed_torch_state(grad=False)
def plates(
    model: VAE,
    n: int,
    n_points: int = 9,
    *,
    generator: torch.Generator | None = None,
    among: Tensor | None = None,
) -> Plates:
    """Chooses components by their mixing weights, without replacement, and draws n samples from each (Figure 1).

    Args:
        model: The model.
        n: The number of samples per component.
        n_points: The number of components k; fewer if fewer have a positive mixing weight.
        generator: The generator of all samples.
        among: Choose among these components only, (k,); by default among all.

    Raises:
        ValueError: If the prior's components are not made from images.
    """
    n, n_points = whole("n", n, 1), whole("n_points", n_points, 1)
    p = model.prior(model.encoder)
    first = torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device)
    if not isinstance(p, NormalMixture) or model.prior.points_at(first) is None:
        raise ValueError(f"Expected a prior made of points, but got {type(model.prior).__name__}.")
    weights = _restricted(p.log_weights.exp(), among)
    chosen = torch.multinomial(weights, min(n_points, int((weights > 0).sum())), generator=generator)
    points = model.prior.points_at(chosen)
    assert points is not None
    latents = torch.stack([p.component(m).sample((n,), generator=generator) for m in chosen.tolist()])
    return Plates(points, model.generate(latents, generator=generator), chosen, p.log_weights.exp()[chosen])


def _restricted(weights: Tensor, among: Tensor | None) -> Tensor:
    """Mixing weights that are zero outside of some components."""
    if among is None:
        return weights
    kept = torch.zeros_like(weights)
    kept[among] = weights[among]
    return kept


@fixed_torch_state(grad=False)
def sample_among(
    model: VAE,
    n: int,
    among: Tensor,
    *,
    prior: NormalMixture | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws n samples from some components of the prior, by their mixing weights.

    Args:
        model: The model.
        n: The number of samples.
        among: The components, (k,).
        prior: p(z), if the caller has already computed it; by default `model.prior(model.encoder)`.
        generator: The generator of all samples.

    Returns:
        The images (n, c, h, w), ordered by component, and the component of each, (n,).

    Raises:
        ValueError: If the prior is not a mixture, or none of the components has a positive weight.
    """
    p = model.prior(model.encoder) if prior is None else prior
    if not isinstance(p, NormalMixture):
        raise ValueError(f"Expected a mixture prior, but got {type(model.prior).__name__}.")
    weights = _restricted(p.log_weights.exp(), among)
    if not weights.sum() > 0:
        raise ValueError("Expected a component with a positive weight, but all have weight 0.")
    components = categorical_sample(weights / weights.sum(), n, generator).sort().values
    unique, counts = components.unique(return_counts=True)
    drawn = [
        model.sample(count, component=m, prior=p, generator=generator).images
        for m, count in zip(unique.tolist(), counts.tolist(), strict=True)
    ]
    return torch.cat(drawn), components


@fixed_torch_state(grad=False)
def interpolate(model: VAE, start: ImagesLike, end: ImagesLike, steps: int = 11) -> Tensor:
    """Images along the line from one image's posterior mean to another's (Figure 2), (n, steps, c, h, w).

    With two levels z2 is interpolated, and z1 is the mean of p(z1|z2).

    Args:
        model: The model.
        start: The first images, (n, c, h, w).
        end: The last images, (n, c, h, w).
        steps: The number of images, including both ends.

    Raises:
        InputError: If the images do not fit the model, or `steps` is less than 2.
    """
    a, b = (model.encoder(model.as_images(x, name)).loc for x, name in ((start, "start"), (end, "end")))
    if len(a) != len(b):
        raise InputError(f"start and end: expected equally many images, got {len(a)} and {len(b)}")
    return decode_line(model, a, b, steps)


@fixed_torch_state(grad=False)
def decode_line(model: VAE, start: Tensor, end: Tensor, steps: int = 11) -> Tensor:
    """The mean images along the lines between latents, (n, steps, c, h, w).

    Args:
        model: The model.
        start: The first latents, (n, D).
        end: The last latents, (n, D).
        steps: The number of images, including both ends.

    Raises:
        InputError: If `steps` is less than 2.
    """
    steps = whole("steps", steps, 2)
    a, b = start[:, None], end[:, None]
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    return model.generate(torch.lerp(a, b, t), sample_lower=False)
