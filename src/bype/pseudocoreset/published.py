"""Strategy `published`: step (ii) as in the published code of the paper's authors."""

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
    """Strategy `published`: step (ii) as in the published code of the paper's authors, for comparison.

    Each update is one full pass over the data in mini-batches j = 0, 1, ..., with these settings:

    - Adam with the learning rate 0.5/(j + 1); j restarts at 0 in each update, while the moments persist; j + 1 is the
      exponent of both bias corrections.
    - Each image's pixel mean is subtracted from the gradient of U; U is unbounded.
    - The decoder's variance is 1 in g, g~ and h.
    - The stored w is clipped at 0. The gradient uses this w. In the mixture, w is shifted to mean N/M, weights that
      become negative are set to 0, and the result is normalised to sum to N.

    Args:
        batch_size: Data points per mini-batch.
        n_samples: Number of latents S sampled per mini-batch; by default M.
        z1_draws: With two levels, samples of z1 for each latent z2. The same samples are used for g, g~ and h; the
            published code samples separately for each.
    """

    def __init__(self, batch_size: int = 100, n_samples: int | None = None, z1_draws: int = 1) -> None:
        self.batch_size, self.n_samples, self.z1_draws = batch_size, n_samples, z1_draws
        self.stored: Tensor | None = None  # w as the code stores it: clipped, not shifted
        self.moments: dict[str, Tensor] = {}

    @classmethod
    def from_options(cls, options: Config) -> Self:
        """Makes the strategy from the options of a run."""
        return cls(options.batch_size, options.coreset_samples, options.coreset_z1 or 1)

    @torch.no_grad()
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Makes one pass over the data.

        Returns:
            `coreset_negative_weights`: the maximum over the mini-batches of the number of weights that the shift made
            negative.
        """
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
        """Restores what `state` returned."""
        own = {k: v.clone() for k, v in state.items()}
        self.stored = own.pop("weights", None)
        self.moments = own


def _unit_variance(p: Distribution) -> Distribution:
    """A normal likelihood with its variance replaced by 1; other distributions are returned unchanged."""
    if isinstance(p, EqualMixture):
        return EqualMixture(_unit_variance(p.components))
    return PixelNormal(p.loc, p.loc.new_ones(())) if isinstance(p, SquaredError | PixelNormal) else p
