"""Lower bounds on log p(x), as functions of a model and a batch. Everything in nats per item.

Under the likelihood `mse` the bounds are in the paper's unit, for which log p(x|z) := -||x - xhat||^2 is no normalised
density; `bype.evaluate` gives both units.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.precision import product_precision
from bype.distributions.normal import DiagonalNormal
from bype.models.vae import VAE

# Rows (items times samples) decoded at once: small enough for a processor's cache, large enough to keep it busy.
IWAE_ROWS = 1024
# On CUDA, where launches count and there is room, pixels decoded at once.
IWAE_CUDA_FLOATS = 2**26


class ElboTerms(NamedTuple):
    """The two terms of the evidence lower bound, per item, (B,)."""

    log_likelihood: Tensor  # log p(x|z)
    kl: Tensor  # log q(z|x) - log p(z), over all levels
    kl_z1: Tensor | None = None  # of two levels, the lower one's part of it: log q(z1|x,z2) - log p(z1|z2)

    def bound(self, beta: float | Tensor = 1.0) -> Tensor:
        """log p(x|z) - beta (log q(z|x) - log p(z)), (B,); the evidence lower bound at beta = 1."""
        return self.log_likelihood - beta * self.kl


def kl_by_level(kl: float, kl_z1: float) -> dict[str, float]:
    """Two levels' KL terms: `kl_z1`, log q(z1|x,z2) - log p(z1|z2), and the rest, log q(z2|x) - log p(z2)."""
    return {"kl_z1": kl_z1, "kl_z2": kl - kl_z1}


def elbo(
    model: VAE,
    x: Tensor,
    *,
    prior: Distribution | None = None,
    index: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    r"""One-sample estimate of the evidence lower bound.

    .. math:: E_{q(z|x)}[\log p(x|z)] - E_{q(z|x)}[\log q(z|x) - \log p(z)]

    Of two levels z is (z1, z2), with q(z|x) = q(z2|x) q(z1|x,z2) and p(z) = p(z2) p(z1|z2).

    Source: Eq. 9 of ByPE-VAE (Ai et al., 2021), with the -log N of Eq. 12 kept.

    Args:
        model: The model.
        x: Images, (B, c, h, w).
        prior: p(z), where the caller has it already; by default the training step's prior, whose points are encoded
            in one pass with x.
        index: The rows of x in the training set, (B,), for an exemplar prior.
        generator: Where the noise comes from.
    """
    if prior is None:
        q, prior = model.posterior_and_prior(x, index=index, generator=generator)
    else:
        q = model.encoder(x)
    z, log_q = q.rsample_and_log_prob(generator=generator)
    given = model.likelihood_terms(x, z, generator=generator)
    kl = log_q - prior.log_prob(z)
    return ElboTerms(given.log_likelihood, kl if given.kl is None else kl + given.kl, given.kl)


@product_precision(tf32=False)
def iwae(
    model: VAE,
    x: Tensor,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> Tensor:
    r"""The importance-weighted bound on log p(x), per item, (B,).

    .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad z_s \sim q(z|x)

    Of two levels the weights are over both, p(x|z1,z2) p(z1|z2) p(z2) / (q(z1|x,z2) q(z2|x)).

    Items and samples are decoded `rows` at a time and summed as a stream, so that memory does not grow with S. The
    noise is drawn item by item: the result does not depend on `rows` but for rounding. The bound at one sample is the
    evidence lower bound.

    What is held at once: the noise, 4 S (D + D1) bytes an item in float32 (S = 5000, two levels of 40: 1.6 MB), a few
    arrays of `rows` images (1024 of 3x64x64: 50 MB each), and the decoder's activations, which a convolutional one
    keeps under 128 MiB by itself on a CPU, under 2 GiB on CUDA.

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: The model.
        x: Items, (B, \*event).
        n_samples: The number of samples S.
        prior: p(z), where the caller has it already; by default `model.prior(model.encoder)`.
        generator: Where the noise comes from.
        rows: How many latents are decoded at once; by default 1024 on a CPU, on CUDA images of 256 MiB.

    Raises:
        ValueError: If `n_samples` or `rows` is not positive.
    """
    if rows is None:
        rows = IWAE_ROWS if x.device.type == "cpu" else max(IWAE_ROWS, IWAE_CUDA_FLOATS // x[0].numel())
    if n_samples < 1 or rows < 1:
        raise ValueError(f"Expected positive `n_samples` and `rows`, but got {n_samples} and {rows}.")
    p = model.prior(model.encoder) if prior is None else prior
    q = model.encoder(x)
    n_items, latent_dim = q.loc.shape
    per_pass = max(1, rows // n_samples)  # items
    step = min(n_samples, rows)  # samples
    bounds = []
    for first in range(0, n_items, per_pass):
        items = slice(first, min(first + per_pass, n_items))
        q_items = DiagonalNormal(q.loc[items], q.scale[items])
        noise, lower = _noise(n_samples, (latent_dim, model.lower_dim), q_items.loc, generator)
        parts = []
        for s in range(0, n_samples, step):
            z, log_q = q_items.rsample_and_log_prob(noise[s : s + step])
            given = model.likelihood_terms(x[items], z, None if lower is None else lower[s : s + step])
            log_w = given.log_weight + p.log_prob(z) - log_q  # (s, b)
            parts.append(log_w.logsumexp(0))
        bounds.append(torch.stack(parts).logsumexp(0))
    return torch.cat(bounds) - math.log(n_samples)


def _noise(
    n_samples: int, widths: tuple[int, int], like: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    """Noise for both levels, (S, b, width) each, drawn item after item; None for a level that is not there."""
    drawn = [
        [torch.randn(n_samples, w, generator=generator, dtype=like.dtype, device=like.device) for w in widths if w]
        for _ in like
    ]
    top, *lower = (torch.stack(level, 1) for level in zip(*drawn, strict=True))
    return top, lower[0] if lower else None
