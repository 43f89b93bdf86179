"""Strategy `published`: step (ii) as in the authors' published code."""

from typing import Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.config import Config
from bype.data.images import Images
from bype.distributions.pixels import EqualMixture, PixelNormal, SquaredError
from bype.models.vae import VAE
from bype.pseudocoreset.adam import Adam
from bype.pseudocoreset.gradient import CoresetGradient, coreset_gradient
from bype.pseudocoreset.strategy import Strategy, data_batch, pseudocoreset


class ReferenceCode(Strategy):
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

    @classmethod
    def from_options(cls, options: Config) -> Self:
        """The strategy with the settings of a run."""
        return cls(options.batch_size, options.coreset_samples, options.coreset_z1 or 1)

    @torch.no_grad()
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """One pass over the data; counts the weights that the shift made negative."""
        points = pseudocoreset(model)
        u, n = points.pseudo_inputs, points.n_data
        stored = points.weights.clone() if self.stored is None else self.stored.to(u.device)
        adam = Adam([u, stored], self.moments)
        negative = 0
        order = torch.randperm(len(data), generator=generator, device=u.device)
        for j, index in enumerate(order.split(self.batch_size)):
            z = model.prior(model.encoder).sample((self.n_samples or len(u),), generator=generator)
            x = data_batch(model, data, index, generator)
            likelihoods = _unit_variance(model.likelihood(z, self.z1_draws, generator=generator))
            gradient = coreset_gradient(likelihoods, x, u, stored, n)
            mean = gradient.pseudo_inputs.flatten(1).mean(1)[:, None, None, None]
            rate = 0.5 / (j + 1)
            adam.step(CoresetGradient(gradient.pseudo_inputs - mean, gradient.weights), [rate, rate])
            stored.clamp_(min=0)
            shifted = stored + (n / len(stored) - stored.mean())
            negative = max(negative, int((shifted < 0).sum()))
            used = shifted.clamp(min=0)
            points.weights.copy_(used * (n / used.sum()))
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
