"""Strategy `elbo`: U and w are learned with the objective's own gradient."""

import torch

from bype.data.images import Images
from bype.models.vae import VAE
from bype.pseudocoreset.strategy import Strategy


class Elbo(Strategy):
    """Strategy `elbo`: U and the weights' logarithms are parameters, moved by the objective's own gradient.

    Every network step moves them (`PseudocoresetPrior(coreset="elbo")`), so that an update has nothing left to do. It
    is a VampPrior with weights and a shared variance under another name.
    """

    learned = True

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Moves nothing."""
        return {}
