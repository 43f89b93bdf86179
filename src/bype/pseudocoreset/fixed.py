"""Strategy `none`: U and w stay as initialised."""

import torch

from bype.data.images import Images
from bype.models.vae import VAE
from bype.pseudocoreset.strategy import Strategy


class Fixed(Strategy):
    """Strategy `none`: U and w stay as initialised."""

    moves_points = False

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Does nothing."""
        return {}
