"""Step (ii): the strategies that move the pseudocoreset's points U and weights w between network steps."""

from abc import ABC, abstractmethod

import torch

from bype.data import Images
from bype.models import VAE


class Strategy(ABC):
    """How a pseudocoreset learns; called every k epochs, the networks standing still."""

    @abstractmethod
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> bool:
        """Moves `model.prior.pseudo_inputs` and `model.prior.weights` in place.

        Args:
            model: A model whose prior is a `PseudocoresetPrior`.
            data: The training set.
            generator: Where random choices come from.

        Returns:
            Whether anything was moved.
        """


class Fixed(Strategy):
    """Strategy `none`: U and w stay as they started."""

    def update(self, model: VAE, data: Images, generator: torch.Generator) -> bool:
        """Moves nothing."""
        return False


#: The command line's names.
STRATEGIES: dict[str, type[Strategy]] = {"none": Fixed}
