"""Generation from chosen components, and interpolation between images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.distributions.mixtures import NormalMixture, categorical_sample
from bype.models.inputs import ImagesLike
from bype.models.vae import DECODED_AT_ONCE, VAE, Samples


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
) -> Samples:
    """Draws n samples from some components of the prior, by their mixing weights.

    Args:
        model: The model.
        n: The number of samples.
        among: The components, (k,).
        prior: p(z), if the caller has already computed it; by default `model.prior(model.encoder)`.
        generator: The generator of all samples.

    Returns:
        The samples, ordered by component.

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
    return sample_each(model, unique.tolist(), counts.tolist(), prior=p, generator=generator)


@fixed_torch_state(grad=False)
def sample_each(
    model: VAE,
    components: Sequence[int],
    counts: Sequence[int],
    *,
    prior: NormalMixture | None = None,
    generator: torch.Generator | None = None,
) -> Samples:
    """Draws a number of samples from each of some components of the prior, in their order.

    Args:
        model: The model.
        components: The components.
        counts: The number of samples of each.
        prior: p(z), if it is known already.
        generator: The generator of all samples.

    Raises:
        ValueError: If the prior has no such component.
    """
    p = model.prior(model.encoder) if prior is None else prior
    parts = [
        model.sample(count, component=m, prior=p, generator=generator)
        for m, count in zip(components, counts, strict=True)
    ]
    indices = torch.tensor(components, device=parts[0].latents.device)
    return Samples(
        torch.cat([part.images for part in parts]),
        torch.cat([part.latents for part in parts]),
        indices.repeat_interleave(torch.tensor(counts, device=indices.device)),
    )


@fixed_torch_state(grad=False)
def sample_rows(model: VAE, latents: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Samples of p(x|z), as a model of a table stores its rows, (n, 1, 1, D); one for each latent, (n, D)."""
    parts = [model.decoder(z).sample(generator=generator) for z in latents.split(DECODED_AT_ONCE)]
    return torch.cat(parts)


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


def step_sizes(lines: Tensor) -> Tensor:
    """The Euclidean distances between the neighbouring images of lines, (n, steps - 1), of (n, steps, c, h, w)."""
    return (lines[:, 1:] - lines[:, :-1]).flatten(2).norm(dim=2)
