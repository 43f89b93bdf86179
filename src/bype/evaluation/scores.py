"""The log-likelihood of each item by itself, and how unusual it is among reference items."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.precision import flush_denormals
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.evaluation.likelihood import Progress
from bype.evaluation.metrics import bits_per_dimension, in_nats
from bype.models.inputs import ImagesLike
from bype.models.vae import VAE

#: Latents decoded at once.
ROWS = 1024


class Scores(NamedTuple):
    """Scores of items, (n,) each."""

    log_likelihood: Tensor  # importance-weighted, nats
    elbo: Tensor  # the evidence lower bound, nats
    bpd: Tensor | None  # bits per dimension; None for data without levels
    more_unusual_than: Tensor | None  # percent of the reference items with a higher log-likelihood; None without them


@fixed_torch_state(grad=False)
def score(
    model: VAE,
    items: ImagesLike,
    n_samples: int = 500,
    *,
    reference: Tensor | None = None,
    prior: Distribution | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    r"""Scores each item by itself: its log-likelihood, its bound, bits per dimension, and how unusual it is.

    .. math:: \log \frac{1}{S} \sum_{s=1}^S w_s, \quad \frac{1}{S} \sum_{s=1}^S \log w_s, \qquad
        w_s = \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \quad z_s \sim q(z|x)

    Every item is scored alone and with the same noise, so that its figures do not depend on the other items or their
    order. (`bype.log_likelihood` draws new noise for each image and scores batches, which is faster.)

    Args:
        model: The model.
        items: Images in any form that `bype.iwae` takes.
        n_samples: Importance samples S.
        reference: Log-likelihoods of reference items in nats, such as `score(model, data.test).log_likelihood`.
        prior: p(z); by default the model's.
        seed: Seed of the noise, and under a binary likelihood of the binarisation.
        progress: Called with the number of scored items and the total.

    Raises:
        InputError: If the items do not fit the model, or `n_samples` is less than 1.
    """
    n_samples, seed = whole("samples", n_samples, 1), whole("seed", seed)
    items = model.checked_images(items, "items")
    if reference is not None and not len(reference):
        raise InputError("reference: expected at least one log-likelihood, got none")
    model.eval()
    p = model.prior(model.encoder) if prior is None else prior
    rows = []
    with flush_denormals():
        for x in items.batches(1, dtype=model.dtype):
            rows.append(_bounds(model, x, p, n_samples, seed))
            if progress is not None:
                progress(len(rows), len(items))
    d = math.prod(items.shape)
    both = in_nats(model, torch.stack(rows).double(), d)
    log_p, elbo = both.unbind(1)
    levels = model.levels if items.levels is None else items.levels
    unusual = None if reference is None else more_unusual_than(log_p, reference)
    return Scores(log_p, elbo, bits_per_dimension(model, -log_p, d, levels), unusual)


def more_unusual_than(log_likelihood: Tensor, reference: Tensor) -> Tensor:
    """The percentage of reference items with a higher log-likelihood than each item, (n,) float64.

    Args:
        log_likelihood: The log-likelihoods of the items, (n,).
        reference: Those of the reference items, (m,).
    """
    ordered = reference.to(log_likelihood).sort().values
    higher = len(ordered) - torch.searchsorted(ordered, log_likelihood.contiguous(), right=True)
    return 100 * higher.double() / len(ordered)


def _bounds(model: VAE, x: Tensor, p: Distribution, n_samples: int, seed: int) -> Tensor:
    """The importance-weighted bound and the ELBO of one item, (2,), in the unit of the likelihood."""
    generator = torch.Generator(x.device).manual_seed(seed + Stream.ITEMS)
    x = model.binarise(x, generator)
    noise = shared_noise(model, n_samples, generator)
    return bounds_with(model, x, p, noise)[0]


class SharedNoise(NamedTuple):
    """Noise of S importance samples that all items share."""

    top: Tensor  # (S, 1, D)
    lower: Tensor | None  # with two levels (S, 1, lower_dim)


def shared_noise(model: VAE, n_samples: int, generator: torch.Generator) -> SharedNoise:
    """Draws noise for `bounds_with`."""
    parameter = next(model.parameters())
    top, lower = (
        torch.randn(n_samples, 1, w, generator=generator, dtype=parameter.dtype, device=parameter.device)
        for w in (model.encoder.latent_dim, model.lower_dim)
    )
    return SharedNoise(top, lower if model.lower_dim else None)


def bounds_with(model: VAE, x: Tensor, p: Distribution, noise: SharedNoise) -> Tensor:
    """The importance-weighted bound and the ELBO of each item with the same noise, (B, 2), in the unit of the
    likelihood.

    Args:
        model: The model.
        x: The items as the model takes them, (B, c, h, w).
        p: The prior p(z).
        noise: The noise.
    """
    q, log_w = model.encoder(x), []
    n_samples, step = len(noise.top), max(1, ROWS // len(x))
    for s in range(0, n_samples, step):
        z, log_q = q.rsample_and_log_prob(noise.top[s : s + step].expand(-1, len(x), -1))
        lower = None if noise.lower is None else noise.lower[s : s + step].expand(-1, len(x), -1)
        log_w.append(model.likelihood_terms(x, z, lower).log_weight + p.log_prob(z) - log_q)
    weights = torch.cat(log_w).double()
    return torch.stack([weights.logsumexp(0) - math.log(n_samples), weights.mean(0)], 1)
