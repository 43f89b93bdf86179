"""The gradient of step (ii), Algorithm 2 of ByPE-VAE (Ai et al., 2021), https://arxiv.org/abs/2107.09286.

With z_1..z_S sampled from the current mixture, g_s the log-likelihoods of B data points, g~_s those of the M
pseudo-points (each centred over s) and r_s = (N/B) sum_b g_{s,b} - sum_m w_m g~_{s,m},

    grad_w = -(1/S) sum_s g~_s r_s,    grad_{u_m} = -(w_m/S) sum_s h_{m,s} r_s,    h_{m,s} = d/du log p(u_m|z_s).

Properties, for a decoder whose log-likelihood is linear in x up to a term free of z (`mse`, `gaussian`, `bernoulli`):
with the whole data set as the batch, r = 0 as soon as the weights sum to N and the weighted points sum to the sum of
the data; and grad_{u_m}/w_m is the same vector for every m, so the gradients of all points are parallel, towards
matching the mean of the data.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.distributions.pixels import EqualMixture, linear_in_x

# Maximum number of elements of the (S, chunk, d) log-likelihood terms in memory if there is no closed form.
PAIR_ELEMENTS = 2**24


class CoresetGradient(NamedTuple):
    """The gradient of the divergence D(U, w) at the (U, w) that the latents were sampled at."""

    pseudo_inputs: Tensor  # (M, c, h, w)
    weights: Tensor  # (M,)


def coreset_gradient(
    likelihoods: Distribution, x: Tensor, pseudo_inputs: Tensor, weights: Tensor, n_data: int
) -> CoresetGradient:
    r"""The gradient of Algorithm 2, from one decode of S latents.

    The gradient at (U, w) = (U_0, w_0), where the latents were sampled, of
    :math:`D = \sum_s \pi_s \log(\pi_s / \rho_s)` with :math:`\pi = \mathrm{softmax}_s(a_s(U, w) - a_s(U_0, w_0))`,
    :math:`\rho = \mathrm{softmax}_s(b_s - a_s(U_0, w_0))`, :math:`a_s = \sum_m w_m \log p(u_m|z_s)` and
    :math:`b_s = \tfrac{N}{B} \sum_b \log p(x_b|z_s)`.

    If log p(x|z) is linear in x, the cost is a few matrix-vector products; for a mixture of such terms, as with several
    samples of z1, matrix products; otherwise automatic differentiation runs over the pairs (z_s, point) in chunks.

    Args:
        likelihoods: p(x|z_s), batch shape (S,), event shape (c, h, w).
        x: B data points, (B, c, h, w).
        pseudo_inputs: The points U, (M, c, h, w).
        weights: The weights w, (M,).
        n_data: The number of data points N.

    Returns:
        The gradient with respect to U, (M, c, h, w), and w, (M,); D is in nats.
    """
    scaled = n_data / len(x)
    if isinstance(likelihoods, EqualMixture) and (linear := linear_in_x(likelihoods.components)) is not None:
        return _gradient_of_mixtures(*linear, x, pseudo_inputs, weights, scaled)
    linear = linear_in_x(likelihoods)
    if linear is None:
        return gradient_by_pairs(likelihoods, x, pseudo_inputs, weights, scaled)
    # log p(x|z_s) = <x, eta_s> - A_s + c(x); centring over s removes c and avoids cancellation.
    eta, log_normaliser = linear
    eta = eta.flatten(1) - eta.flatten(1).mean(0)
    log_normaliser = log_normaliser - log_normaliser.mean()
    u = pseudo_inputs.flatten(1)
    total = scaled * x.flatten(1).sum(0) - weights @ u  # (d,)
    r = eta @ total - (scaled * len(x) - weights.sum()) * log_normaliser  # (S,)
    direction = r @ eta / len(r)  # (d,)
    grad_w = (r @ log_normaliser) / len(r) - u @ direction
    grad_u = -weights[:, None] * direction
    return CoresetGradient(grad_u.view_as(pseudo_inputs), grad_w)


def _gradient_of_mixtures(
    eta: Tensor, log_normaliser: Tensor, x: Tensor, pseudo_inputs: Tensor, weights: Tensor, scaled: float
) -> CoresetGradient:
    """The gradient for log p(x|z_s) = log mean_l exp(<x, eta_ls> - A_ls) + c(x).

    Here h is the mean of eta_ls over the draws l, weighted by each draw's responsibility for x.
    """
    n_draws, n_samples = eta.shape[:2]
    eta = eta.flatten(2) - eta.flatten(2).mean((0, 1))  # (L, S, d), centred as for one draw
    log_normaliser = (log_normaliser - log_normaliser.mean())[..., None]
    chunk = max(1, PAIR_ELEMENTS // (n_draws * n_samples))

    def pairs(points: Tensor) -> Tensor:  # (L, S, chunk)
        return eta @ points.flatten(1).T - log_normaliser

    # In two passes over the points, so that no (S, M) matrix is held.
    parts = list(zip(pseudo_inputs.split(chunk), weights.split(chunk), strict=True))
    total = scaled * torch.stack([pairs(part).logsumexp(0).sum(1) for part in x.split(chunk)]).sum(0)
    total = total - torch.stack([pairs(part).logsumexp(0) @ w for part, w in parts]).sum(0)
    r = total - total.mean()  # (S,)
    grad_u, grad_w = [], []
    for part, w in parts:
        log_terms = pairs(part)
        g_tilde = log_terms.logsumexp(0)  # (S, chunk)
        grad_w.append(-(r @ (g_tilde - g_tilde.mean(0))) / n_samples)
        weighted = (log_terms - g_tilde).exp_() * r[:, None]  # responsibilities times r, (L, S, chunk)
        direction = weighted.flatten(0, 1).T @ eta.flatten(0, 1) / n_samples
        grad_u.append((-w[:, None] * direction).view_as(part))
    return CoresetGradient(torch.cat(grad_u), torch.cat(grad_w))


def gradient_by_pairs(
    likelihoods: Distribution, x: Tensor, pseudo_inputs: Tensor, weights: Tensor, scaled: float
) -> CoresetGradient:
    """The gradient for any likelihood, by automatic differentiation over the pairs (z_s, point), in chunks."""
    n_samples = likelihoods.batch_shape[0]
    chunk = max(1, PAIR_ELEMENTS // (n_samples * math.prod(x.shape[1:])))

    def pairs(points: Tensor) -> Tensor:  # (S, chunk)
        return torch.stack([likelihoods.log_prob(p) for p in points], 1)

    # In two passes over the points, so that no (S, M) matrix is held.
    parts = list(zip(pseudo_inputs.split(chunk), weights.split(chunk), strict=True))
    with torch.no_grad():
        total = scaled * torch.stack([pairs(part).sum(1) for part in x.split(chunk)]).sum(0)
        total = total - torch.stack([pairs(part) @ w for part, w in parts]).sum(0)
        r = total - total.mean()  # (S,)
    grad_u, grad_w = [], []
    for part, w in parts:
        with torch.enable_grad():
            leaf = part.detach().requires_grad_()
            g_tilde = pairs(leaf)  # (S, chunk)
            (gradient,) = torch.autograd.grad(-(r @ g_tilde @ w) / n_samples, leaf)
        grad_u.append(gradient)
        centred = g_tilde.detach() - g_tilde.detach().mean(0)
        grad_w.append(-(r @ centred) / n_samples)
    return CoresetGradient(torch.cat(grad_u), torch.cat(grad_w))
