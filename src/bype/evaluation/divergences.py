"""KL divergences between priors."""

import torch

from bype.core.seeds import Stream
from bype.data.images import Images
from bype.distributions.mixtures import IsotropicMixture
from bype.models.vae import VAE


@torch.no_grad()
def prior_divergences(model: VAE, training: Images, seed: int = 0, n_draws: int = 10_000) -> dict[str, float]:
    r"""`kl_prior`, :math:`KL(p(z|U,w) \| p(z|X))`, and `kl_prior_reverse`, nats, by draws from the first argument.

    Both are mixtures of Eq. 12's form with the model's sigma: over the pseudo-points with their weights, and over all
    training items with equal ones.

    Args:
        model: A model with a pseudocoreset prior.
        training: The training set X.
        seed: Seed of the draws.
        n_draws: How many draws each estimate takes.
    """
    generator = torch.Generator(training.pixels.device).manual_seed(seed + Stream.EVALUATION)
    coreset: IsotropicMixture = model.eval().prior(model.encoder)
    loc = model.encoder.means(training.batches(500, dtype=model.dtype))  # grey, as a prior's points are
    exemplar = IsotropicMixture(loc, coreset.scale, loc.new_full((len(loc),), 1 / len(loc)).log())

    def divergence(p: IsotropicMixture, q: IsotropicMixture) -> float:
        z = p.sample((n_draws,), generator=generator)
        return (p.log_prob(z) - q.log_prob(z)).double().mean().item()

    return {"kl_prior": divergence(coreset, exemplar), "kl_prior_reverse": divergence(exemplar, coreset)}
