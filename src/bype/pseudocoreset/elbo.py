"""Strategy `elbo`: U and w are learned by the gradient of the objective."""

import torch

from bype.data.images import Images
from bype.models.vae import VAE
from bype.pseudocoreset.strategy import Strategy


class Elbo(Strategy):
    """Strategy `elbo`: U and the logarithms of the weights are parameters, updated by the gradient of the objective.

    Every network step updates them (`PseudocoresetPrior(coreset="elbo")`), so `update` does nothing. The result is a
    VampPrior with mixing weights and a shared variance.
    """

    learned = True

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Does nothing."""
        return {}
