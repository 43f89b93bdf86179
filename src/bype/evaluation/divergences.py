"""KL divergences between priors."""

import torch

from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images
from bype.distributions.mixtures import IsotropicMixture
from bype.models.vae import VAE


@fixed_torch_state(grad=False)
def prior_divergences(model: VAE, training: Images, seed: int = 0, n_draws: int = 10_000) -> dict[str, float]:
    r"""Monte Carlo estimates of the KL divergences between the pseudocoreset and the full exemplar prior, in nats.

    .. math:: KL(p(z|U,w) \,\|\, p(z|X)) \quad\text{and}\quad KL(p(z|X) \,\|\, p(z|U,w))

    Both priors are mixtures of the form of Eq. 12 with the model's sigma: p(z|U,w) over the pseudo-points with their
    weights, p(z|X) over all training examples with equal weights. The samples come from the first argument.

    Args:
        model: A model with a pseudocoreset prior.
        training: The training set X.
        seed: Seed of the samples.
        n_draws: Number of samples per estimate.

    Returns:
        The two divergences, `kl_prior` and `kl_prior_reverse`.
    """
    generator = torch.Generator(training.pixels.device).manual_seed(seed + Stream.EVALUATION)
    coreset: IsotropicMixture = model.eval().prior(model.encoder)
    loc = model.encoder.means(training.batches(500, dtype=model.dtype))  # not binarised, as a prior's points
    exemplar = IsotropicMixture(loc, coreset.scale, loc.new_full((len(loc),), 1 / len(loc)).log())

    def divergence(p: IsotropicMixture, q: IsotropicMixture) -> float:
        z = p.sample((n_draws,), generator=generator)
        return (p.log_prob(z) - q.log_prob(z)).double().mean().item()

    return {"kl_prior": divergence(coreset, exemplar), "kl_prior_reverse": divergence(exemplar, coreset)}
