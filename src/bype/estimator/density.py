"""What a fitted model says of each row: its latents, its log-likelihood, its component."""

import math

import numpy as np
import torch
from torch import Tensor

from bype.core.precision import flush_denormals
from bype.core.seeds import Stream
from bype.distributions.mixtures import NormalMixture
from bype.evaluation.metrics import in_nats
from bype.evaluation.scores import bounds_with, shared_noise
from bype.models.vae import VAE

#: Latents decoded or encoded at once.
AT_ONCE = 8192
#: Latents compared with all components at once.
COMPARED = 2000


def latent_means(model: VAE, rows: Tensor) -> Tensor:
    """The means of q(z|x), (n, D)."""
    return torch.cat([model.encoder(x).loc for x in rows.split(AT_ONCE)])


def log_likelihoods(model: VAE, rows: Tensor, n_samples: int) -> Tensor:
    """The importance-weighted log-likelihood of each row in nats, (n,), with the same noise for every row.

    Args:
        model: The model.
        rows: The rows, (n, c, h, w).
        n_samples: Importance samples per row.
    """
    noise = shared_noise(model, n_samples, torch.Generator(rows.device).manual_seed(Stream.EVALUATION))
    with flush_denormals():
        p = model.prior(model.encoder)
        parts = rows.split(max(1, AT_ONCE // n_samples))
        scores = torch.cat([bounds_with(model, x, p, noise)[:, 0] for x in parts])
    return in_nats(model, scores, math.prod(rows.shape[1:])).double()


def components(model: VAE, rows: Tensor) -> np.ndarray:
    r"""The component of the prior with the largest responsibility for each row's latent mean, (n,).

    .. math:: \arg\max_m \log \pi_m + \log \mathcal{N}(\mu(x) \mid \mu_m, \sigma_m^2)

    It is 0 for a prior that is no mixture.
    """
    p, means = model.prior(model.encoder), latent_means(model, rows)
    if not isinstance(p, NormalMixture):
        return np.zeros(len(means), np.int64)
    scale = p.scale if p.scale.dim() else p.scale.expand(p.loc.shape)
    precision = scale.square().reciprocal()
    constant = p.log_weights - scale.log().sum(1) - 0.5 * (p.loc.square() * precision).sum(1)
    linear, square = (p.loc * precision).T, precision.T
    best = [(constant + z @ linear - 0.5 * z.square() @ square).argmax(1) for z in means.split(COMPARED)]
    return torch.cat(best).cpu().numpy()
