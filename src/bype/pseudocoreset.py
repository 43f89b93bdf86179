"""Step (ii): the strategies that move the pseudocoreset's points U and weights w between network steps.

The gradient is that of Algorithm 2 of ByPE-VAE (Ai et al., 2021), https://arxiv.org/abs/2107.09286: with z_1..z_S drawn
from the current mixture, g_s the log-likelihoods of B data points, g~_s those of the M pseudo-points (each centred over
s) and r_s = (N/B) sum_b g_{s,b} - sum_m w_m g~_{s,m},

    grad_w = -(1/S) sum_s g~_s r_s,    grad_{u_m} = -(w_m/S) sum_s h_{m,s} r_s,    h_{m,s} = d/du log p(u_m|z_s).

What is true of it: with the whole data as the batch and a decoder whose log-likelihood is linear in x (`mse`,
`gaussian`, `bernoulli`), r = 0 as soon as the weights sum to N and the weighted points sum to the data's sum; and
grad_{u_m}/w_m is the same vector for every m, so that all points shift alike, towards matching the data's mean.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.data import Images
from bype.distributions import EqualMixture, PixelNormal, SquaredError, linear_in_x
from bype.floats import running_sum
from bype.graphs import Step, captured
from bype.models import VAE
from bype.priors import PseudocoresetPrior

# Elements of the (S, chunk, d) log-likelihood terms held at once where there is no closed form.
PAIR_ELEMENTS = 2**24


class CoresetGradient(NamedTuple):
    """The gradient of the divergence D(U, w) at the point its latents were drawn at."""

    pseudo_inputs: Tensor  # (M, c, h, w)
    weights: Tensor  # (M,)


def coreset_gradient(
    likelihoods: Distribution, x: Tensor, pseudo_inputs: Tensor, weights: Tensor, n_data: int
) -> CoresetGradient:
    r"""The gradient of Algorithm 2, from one decode of S latents.

    It is the gradient at (U, w) = (U_0, w_0), where the latents were drawn, of
    :math:`D = \sum_s \pi_s \log(\pi_s / \rho_s)` with :math:`\pi = \mathrm{softmax}_s(a_s(U, w) - a_s(U_0, w_0))`,
    :math:`\rho = \mathrm{softmax}_s(b_s - a_s(U_0, w_0))`, :math:`a_s = \sum_m w_m \log p(u_m|z_s)` and
    :math:`b_s = \tfrac{N}{B} \sum_b \log p(x_b|z_s)`.

    Where log p(x|z) is linear in x, everything is a few products of a matrix and a vector; where it is a mixture of
    such, as with several draws of z1, products of two matrices; otherwise automatic differentiation goes over the pairs
    in chunks.

    Args:
        likelihoods: p(x|z_s), batch shape (S,), event shape (c, h, w).
        x: B data points, (B, c, h, w).
        pseudo_inputs: The points U, (M, c, h, w).
        weights: The weights w, (M,).
        n_data: The number of data points N.
    """
    scaled = n_data / len(x)
    if isinstance(likelihoods, EqualMixture) and (linear := linear_in_x(likelihoods.components)) is not None:
        return _gradient_of_mixtures(*linear, x, pseudo_inputs, weights, scaled)
    linear = linear_in_x(likelihoods)
    if linear is None:
        return _gradient_by_pairs(likelihoods, x, pseudo_inputs, weights, scaled)
    # log p(x|z_s) = <x, eta_s> - A_s + c(x); centring over s removes c and keeps digits.
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
    """For log p(x|z_s) = log mean_l exp(<x, eta_ls> - A_ls) + c(x): h is eta_ls averaged by each draw's share of x."""
    n_draws, n_samples = eta.shape[:2]
    eta = eta.flatten(2) - eta.flatten(2).mean((0, 1))  # (L, S, d), as with one draw
    log_normaliser = (log_normaliser - log_normaliser.mean())[..., None]
    chunk = max(1, PAIR_ELEMENTS // (n_draws * n_samples))

    def pairs(points: Tensor) -> Tensor:  # (L, S, chunk)
        return eta @ points.flatten(1).T - log_normaliser

    g = torch.stack([pairs(part).logsumexp(0).sum(1) for part in x.split(chunk)]).sum(0)
    g_tilde = torch.cat([pairs(part).logsumexp(0) for part in pseudo_inputs.split(chunk)], 1)  # (S, M)
    g_tilde = g_tilde - g_tilde.mean(0)
    r = scaled * (g - g.mean()) - g_tilde @ weights  # (S,)
    grad_u = []
    for part, w in zip(pseudo_inputs.split(chunk), weights.split(chunk), strict=True):
        shares = pairs(part).softmax(0) * r[:, None]
        direction = shares.flatten(0, 1).T @ eta.flatten(0, 1) / n_samples
        grad_u.append((-w[:, None] * direction).view_as(part))
    return CoresetGradient(torch.cat(grad_u), -(r @ g_tilde) / n_samples)


def _gradient_by_pairs(
    likelihoods: Distribution, x: Tensor, pseudo_inputs: Tensor, weights: Tensor, scaled: float
) -> CoresetGradient:
    n_samples = likelihoods.batch_shape[0]
    chunk = max(1, PAIR_ELEMENTS // (n_samples * math.prod(x.shape[1:])))

    def pairs(points: Tensor) -> Tensor:  # (S, chunk)
        return torch.stack([likelihoods.log_prob(p) for p in points], 1)

    with torch.no_grad():
        g = sum(pairs(part).sum(1) for part in x.split(chunk))
        g_tilde = torch.cat([pairs(part) for part in pseudo_inputs.split(chunk)], 1)
        r = scaled * g - g_tilde @ weights
        r = r - r.mean()
        grad_w = -(r @ (g_tilde - g_tilde.mean(0))) / n_samples
    grad_u = []
    for part, w in zip(pseudo_inputs.split(chunk), weights.split(chunk), strict=True):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(-(r @ pairs(leaf) @ w) / n_samples, leaf)
        grad_u.append(gradient)
    return CoresetGradient(torch.cat(grad_u), grad_w)


def project_to_simplex(v: Tensor, total: float) -> Tensor:
    """The Euclidean projection of v, (M,), onto {w >= 0, sum w = total}, exact, by sorting.

    Source: efficient projections onto the l1-ball (Duchi et al., 2008), Figure 1.

    >>> project_to_simplex(torch.tensor([3.0, 1.0, -5.0]), 2.0)
    tensor([2., 0., 0.])
    """
    # In float64, and less the largest, which changes nothing: a sum of large numbers would lose the total's digits.
    v, dtype = v.double(), v.dtype
    v = v - v.max()
    ordered = v.sort(descending=True).values
    counts = torch.arange(1, len(v) + 1, device=v.device)
    thresholds = (running_sum(ordered) - total) / counts
    # Read on the device, for a recorded step may not wait for it. There is always one, unless v has a NaN.
    last = (ordered > thresholds).sum(0, keepdim=True).clamp(min=1) - 1
    return (v - thresholds.gather(0, last)).clamp(min=0).to(dtype)


class Strategy(ABC):
    """How a pseudocoreset learns; called every k epochs, the networks standing still."""

    #: Whether U and w are parameters that every network step moves.
    learned = False
    #: Whether a step of its own may be recorded as a CUDA graph; a trainer sets it to its own choice.
    graph = True

    @abstractmethod
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Moves `model.prior.pseudo_inputs` and `model.prior.weights` in place.

        Args:
            model: A model whose prior is a `PseudocoresetPrior`.
            data: The training set.
            generator: Where random choices come from.

        Returns:
            Figures of its own, for the metrics.
        """

    def state(self) -> dict[str, Tensor]:
        """What the next update depends on beside U and w."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most strategies keep nothing)
        """The inverse of `state`."""


class Fixed(Strategy):
    """Strategy `none`: U and w stay as they started."""

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Moves nothing."""
        return {}


class Elbo(Strategy):
    """Strategy `elbo`: U and the weights' logarithms are parameters, moved by the objective's own gradient.

    Every network step moves them (`PseudocoresetPrior(coreset="elbo")`), so that an update has nothing left to do. It
    is a VampPrior with weights and a shared variance under another name.
    """

    learned = True

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Moves nothing."""
        return {}


def _coreset(model: VAE) -> PseudocoresetPrior:
    if not isinstance(model.prior, PseudocoresetPrior):
        raise ValueError(f"Expected a model with a pseudocoreset prior, but got {type(model.prior).__name__}.")
    return model.prior


def _data_batch(model: VAE, data: Images, index: Tensor, generator: torch.Generator) -> Tensor:
    return model.observe(data.scaled(index, dtype=_coreset(model).pseudo_inputs.dtype), generator)


class Prepared(NamedTuple):
    """An inner step of `Paper`, as it is run, and what it was made for."""

    key: tuple[int, ...]
    known: tuple[object, ...]
    run: Step
    adam: "_Adam"


class Paper(Strategy):
    """Strategy `paper`: Algorithm 2, some steps of it at each update.

    After each step U is clamped to [0, 1] and w projected onto {w >= 0, sum w = N}. Adam's moments start afresh at
    every update; Adam and the projection are ours, the paper leaves both open.

    Args:
        steps: Inner steps; the letter of Algorithm 2 is 1.
        lr: Adam's rate on U; that on w is lr N/M.
        n_samples: Latents S drawn anew at every step; by default M.
        batch_size: Data points B of each step, without replacement.
        z1_draws: With two levels, draws of z1 for each latent z2 (`TwoLevelVAE.likelihood`, which is biased).
    """

    def __init__(
        self,
        steps: int = 100,
        lr: float = 1e-3,
        n_samples: int | None = None,
        batch_size: int = 100,
        z1_draws: int = 1,
    ) -> None:
        self.steps, self.lr, self.n_samples, self.batch_size = steps, lr, n_samples, batch_size
        self.z1_draws = z1_draws
        self.prepared: Prepared | None = None

    @torch.no_grad()
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Algorithm 2."""
        prior = _coreset(model)
        # On CUDA the inner step is recorded once, for the objects it then knows (and holds: their ids stay theirs).
        known = (model, data, generator)
        key = (*map(id, known), prior.pseudo_inputs.data_ptr(), prior.weights.data_ptr())
        if self.prepared is None or self.prepared.key != key:
            step, adam = self.prepare(model, data, generator)
            moved = [prior.pseudo_inputs, prior.weights, *adam.tensors()]
            run = captured(step, moved, generator, "step (ii)") if self.graph else step
            self.prepared = Prepared(key, known, run, adam)
        self.prepared.adam.reset()
        for _ in range(self.steps):
            self.prepared.run()
        return {}

    def prepare(self, model: VAE, data: Images, generator: torch.Generator) -> tuple[Step, "_Adam"]:
        """One inner step, as it is taken eagerly, and the moments it moves."""
        prior = _coreset(model)
        u, w = prior.pseudo_inputs, prior.weights
        m, n = len(w), prior.n_data
        adam, rates = _Adam([u, w]), [self.lr, self.lr * n / m]

        def step() -> None:
            z = prior(model.encoder).sample((self.n_samples or m,), generator=generator)
            index = torch.randperm(len(data), generator=generator, device=w.device)[: self.batch_size]
            likelihoods = model.likelihood(z, self.z1_draws, generator=generator)
            gradient = coreset_gradient(likelihoods, _data_batch(model, data, index, generator), u, w, n)
            adam.step(gradient, rates)
            u.clamp_(0, 1)
            w.copy_(project_to_simplex(w, n))

        return step, adam


class Published(Strategy):
    """Strategy `published`: step (ii) as the authors' published code does it, kept for comparison.

    One full pass of mini-batches at each update; Adam with the rate 0.5/(j + 1), j restarting at 0 with each update
    while the moments persist, and j + 1 the exponent of both bias corrections; the gradient of U less each image's
    pixel mean; decoder variance 1; U unbounded. The stored w is clipped at 0; where it is used it is shifted to mean
    N/M, and a weight that the shift makes negative counts as 0. The mixture's shares are those, normalised.

    Args:
        batch_size: Data points of each mini-batch.
        n_samples: Latents S drawn at every mini-batch; by default M.
        z1_draws: With two levels, draws of z1 for each latent z2, the same for g, g~ and h (the code draws anew).
    """

    def __init__(self, batch_size: int = 100, n_samples: int | None = None, z1_draws: int = 1) -> None:
        self.batch_size, self.n_samples, self.z1_draws = batch_size, n_samples, z1_draws
        self.stored: Tensor | None = None  # w as the code stores it: clipped, not shifted
        self.moments: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """One pass over the data; counts the weights that the shift made negative."""
        prior = _coreset(model)
        u, n = prior.pseudo_inputs, prior.n_data
        stored = prior.weights.clone() if self.stored is None else self.stored.to(u.device)
        adam = _Adam([u, stored], self.moments)
        negative = 0
        order = torch.randperm(len(data), generator=generator, device=u.device)
        for j, index in enumerate(order.split(self.batch_size)):
            z = prior(model.encoder).sample((self.n_samples or len(u),), generator=generator)
            x = _data_batch(model, data, index, generator)
            likelihoods = _unit_variance(model.likelihood(z, self.z1_draws, generator=generator))
            gradient = coreset_gradient(likelihoods, x, u, stored, n)
            mean = gradient.pseudo_inputs.flatten(1).mean(1)[:, None, None, None]
            rate = 0.5 / (j + 1)
            adam.step(CoresetGradient(gradient.pseudo_inputs - mean, gradient.weights), [rate, rate])
            stored.clamp_(min=0)
            shifted = stored + (n / len(stored) - stored.mean())
            negative = max(negative, int((shifted < 0).sum()))
            used = shifted.clamp(min=0)
            prior.weights.copy_(used * (n / used.sum()))
        self.stored, self.moments = stored, adam.moments()
        return {"coreset_negative_weights": float(negative)}

    def state(self) -> dict[str, Tensor]:
        """The stored w and Adam's moments."""
        return {} if self.stored is None else {"weights": self.stored, **self.moments}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        own = {k: v.clone() for k, v in state.items()}
        self.stored = own.pop("weights", None)
        self.moments = own


def _unit_variance(p: Distribution) -> Distribution:
    """The decoder's normal with variance 1 in place of its own; other distributions as they are."""
    if isinstance(p, EqualMixture):
        return EqualMixture(_unit_variance(p.components))
    return PixelNormal(p.loc, p.loc.new_ones(())) if isinstance(p, SquaredError | PixelNormal) else p


class _Adam:
    """Adam in place on (U, w), with rates given at each step and moments that can be carried from update to update."""

    def __init__(self, params: list[Tensor], moments: dict[str, Tensor] | None = None) -> None:
        moments = moments or {}
        self.params = params
        self.first = [moments.get(f"exp_avg.{i}", torch.zeros_like(p)).to(p.device) for i, p in enumerate(params)]
        self.second = [moments.get(f"exp_avg_sq.{i}", torch.zeros_like(p)).to(p.device) for i, p in enumerate(params)]
        self.count = torch.zeros((), dtype=torch.float64, device=params[0].device)

    def step(self, gradient: CoresetGradient, rates: list[float]) -> None:
        self.count += 1
        corrections = 1 - 0.9**self.count, 1 - 0.999**self.count
        for p, g, m, v, rate in zip(self.params, gradient, self.first, self.second, rates, strict=True):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.sub_(rate * (m / corrections[0]) / ((v / corrections[1]).sqrt() + 1e-8))

    def reset(self) -> None:
        for t in self.tensors():
            t.zero_()

    def tensors(self) -> list[Tensor]:
        return [*self.first, *self.second, self.count]

    def moments(self) -> dict[str, Tensor]:
        return {f"exp_avg.{i}": m for i, m in enumerate(self.first)} | {
            f"exp_avg_sq.{i}": v for i, v in enumerate(self.second)
        }


@torch.no_grad()
def coreset_figures(prior: PseudocoresetPrior, data: Images) -> dict[str, float]:
    """||sum_m w_m u_m / N - mean x|| and the share of the values of U outside [0, 1].

    The first is the distance from what Algorithm 2 can at best reach: the data's mean.
    """
    total = torch.zeros(data.shape, dtype=torch.float64, device=data.pixels.device)
    for x in data.batches(5000):
        total += x.double().sum(0)
    weighted = torch.einsum("m,m...->...", prior.weights.double(), prior.pseudo_inputs.double()) / prior.n_data
    outside = (prior.pseudo_inputs < 0) | (prior.pseudo_inputs > 1)
    return {
        "coreset_mean_distance": (weighted - total / len(data)).norm().item(),
        "coreset_outside": outside.double().mean().item(),
    }


#: The command line's names.
STRATEGIES: dict[str, type[Strategy]] = {"paper": Paper, "none": Fixed, "published": Published, "elbo": Elbo}
