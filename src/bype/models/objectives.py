"""Lower bounds on log p(x), as functions of a model and a batch, in nats per example.

With the likelihood `mse` the bounds are in the paper's unit, in which log p(x|z) := -||x - xhat||^2 is not a normalised
density; `bype.evaluate` returns both units.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.precision import product_precision
from bype.distributions.normal import DiagonalNormal
from bype.models.vae import VAE

# Rows (examples times samples) decoded at once on a CPU: they fit into its cache and keep it busy.
IWAE_ROWS = 1024
# Pixels decoded at once on CUDA, where fewer launches matter more than memory.
IWAE_CUDA_FLOATS = 2**26


class ElboTerms(NamedTuple):
    """The two terms of the evidence lower bound in nats, per example, (B,)."""

    log_likelihood: Tensor  # log p(x|z)
    kl: Tensor  # log q(z|x) - log p(z), over all levels
    kl_z1: Tensor | None = None  # with two levels the part of the lower one: log q(z1|x,z2) - log p(z1|z2)

    def bound(self, beta: float | Tensor = 1.0) -> Tensor:
        """log p(x|z) - beta (log q(z|x) - log p(z)), (B,); the evidence lower bound at beta = 1."""
        return self.log_likelihood - beta * self.kl


def kl_by_level(kl: float, kl_z1: float) -> dict[str, float]:
    """The KL terms of two levels: `kl_z1`, log q(z1|x,z2) - log p(z1|z2), and `kl_z2`, log q(z2|x) - log p(z2)."""
    return {"kl_z1": kl_z1, "kl_z2": kl - kl_z1}


def elbo(
    model: VAE,
    x: Tensor,
    *,
    prior: Distribution | None = None,
    index: Tensor | None = None,
    generator: torch.Generator | None = None,
    path: bool = False,
) -> ElboTerms:
    r"""One-sample estimate of the evidence lower bound.

    .. math:: E_{q(z|x)}[\log p(x|z)] - E_{q(z|x)}[\log q(z|x) - \log p(z)]

    With two levels z is (z1, z2), with q(z|x) = q(z2|x) q(z1|x,z2) and p(z) = p(z2) p(z1|z2).

    Source: Eq. 9 of ByPE-VAE (Ai et al., 2021), including the -log N of Eq. 12.

    Args:
        model: The model.
        x: Images, (B, c, h, w).
        prior: p(z), if the caller has already computed it; by default the prior of a training step, whose points are
            encoded in one pass with x.
        index: The rows of x in the training set, (B,), for an exemplar prior.
        generator: The generator of the noise.
        path: Whether the gradient of log q(z|x) is the one through z alone, which has the same expectation and less
            noise (`bype.distributions.normal.DiagonalNormal.rsample_and_log_prob`).
    """
    if prior is None:
        q, prior = model.posterior_and_prior(x, index=index, generator=generator)
    else:
        q = model.encoder(x)
    z, log_q = q.rsample_and_log_prob(generator=generator, path=path)
    terms = model.likelihood_terms(x, z, generator=generator, path=path)
    kl = log_q - prior.log_prob(z)
    return ElboTerms(terms.log_likelihood, kl if terms.kl is None else kl + terms.kl, terms.kl)


def importance_terms(
    model: VAE,
    x: Tensor,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    index: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    r"""The importance-weighted bound with S samples for a training step, as two terms.

    .. math:: \log \frac{1}{S} \sum_{s=1}^S w_s
        = \sum_{s=1}^S \bar{w}_s \log p(x|z_s) - \mathrm{KL}, \qquad w_s = \frac{p(x|z_s) p(z_s)}{q(z_s|x)},
        \quad \bar{w}_s = \frac{w_s}{\sum_r w_r}

    The log-likelihood is the average over the samples by their normalised weights, without a gradient; the KL term is
    what is left of the bound, so that at beta = 1 the two make the bound and its gradient. Unlike `iwae`, this encodes
    a prior's points with x, and its noise is drawn at once.

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: The model.
        x: Images, (B, c, h, w).
        n_samples: The number of samples S; with one, the bound is `elbo`'s.
        prior: As for `elbo`.
        index: As for `elbo`.
        generator: The generator of the noise.
    """
    if prior is None:
        q, prior = model.posterior_and_prior(x, index=index, generator=generator)
    else:
        q = model.encoder(x)
    shape = (n_samples, *q.loc.shape)
    noise = torch.randn(shape, generator=generator, dtype=q.loc.dtype, device=q.loc.device)
    z, log_q = q.rsample_and_log_prob(noise)
    terms = model.likelihood_terms(x, z, generator=generator)
    log_w = terms.log_weight + prior.log_prob(z) - log_q
    bound = log_w.logsumexp(0) - math.log(n_samples)
    weights = log_w.detach().softmax(0)
    log_likelihood = (weights * terms.log_likelihood.detach()).sum(0)
    kl_z1 = None if terms.kl is None else (weights * terms.kl.detach()).sum(0)
    return ElboTerms(log_likelihood, log_likelihood - bound, kl_z1)


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
    r"""The importance-weighted bound on log p(x) in nats, per example, (B,).

    .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad z_s \sim q(z|x)

    With two levels the importance weights are p(x|z1,z2) p(z1|z2) p(z2) / (q(z1|x,z2) q(z2|x)).

    Examples and samples are decoded `rows` at a time with a streaming logsumexp, so that the memory for images does not
    grow with S. The noise is drawn example by example, so that the result depends on `rows` only by rounding. With one
    sample the bound is the evidence lower bound.

    Memory: the noise, 4 S (D + D1) bytes per example in float32 (S = 5000, two levels of 40: 1.6 MB), a few arrays of
    `rows` images (1024 of 3x64x64: 50 MB each), and the activations of the decoder, which convolutional decoders limit
    to 128 MiB on a CPU and 2 GiB on CUDA.

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: The model.
        x: Examples, (B, \*event).
        n_samples: The number of samples S.
        prior: p(z), if the caller has already computed it; by default `model.prior(model.encoder)`.
        generator: The generator of the noise.
        rows: The number of latents decoded at once; by default 1024 on a CPU, and 256 MiB of images on CUDA.

    Raises:
        ValueError: If `n_samples` or `rows` is less than 1.
    """
    if rows is None:
        rows = IWAE_ROWS if x.device.type == "cpu" else max(IWAE_ROWS, IWAE_CUDA_FLOATS // x[0].numel())
    if n_samples < 1 or rows < 1:
        raise ValueError(f"n_samples and rows: expected at least 1 each, got {n_samples} and {rows}")
    p = model.prior(model.encoder) if prior is None else prior
    q = model.encoder(x)
    n_examples, latent_dim = q.loc.shape
    per_pass = max(1, rows // n_samples)  # examples
    step = min(n_samples, rows)  # samples
    bounds = []
    for first in range(0, n_examples, per_pass):
        part = slice(first, min(first + per_pass, n_examples))
        q_part = DiagonalNormal(q.loc[part], q.scale[part])
        noise, lower_noise = _noise(n_samples, (latent_dim, model.lower_dim), q_part.loc, generator)
        log_sums = []
        for s in range(0, n_samples, step):
            z, log_q = q_part.rsample_and_log_prob(noise[s : s + step])
            terms = model.likelihood_terms(x[part], z, None if lower_noise is None else lower_noise[s : s + step])
            log_w = terms.log_weight + p.log_prob(z) - log_q  # (s, b)
            log_sums.append(log_w.logsumexp(0))
        bounds.append(torch.stack(log_sums).logsumexp(0))
    return torch.cat(bounds) - math.log(n_samples)


def _noise(
    n_samples: int, widths: tuple[int, int], like: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    """Noise for both levels, (S, b, width) each, drawn example by example; None for a missing lower level."""
    noise = [
        [torch.randn(n_samples, w, generator=generator, dtype=like.dtype, device=like.device) for w in widths if w]
        for _ in like
    ]
    top, *lower = (torch.stack(level, 1) for level in zip(*noise, strict=True))
    return top, lower[0] if lower else None
