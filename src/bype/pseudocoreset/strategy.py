"""The interface of a strategy of step (ii), and what strategies share."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bype.data.images import Images
from bype.models.vae import VAE
from bype.priors.pseudocoreset import PseudocoresetPrior


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


def coreset_prior(model: VAE) -> PseudocoresetPrior:
    """The pseudocoreset prior of a model; a ValueError where it has another one."""
    if not isinstance(model.prior, PseudocoresetPrior):
        raise ValueError(f"Expected a model with a pseudocoreset prior, but got {type(model.prior).__name__}.")
    return model.prior


def data_batch(model: VAE, data: Images, index: Tensor, generator: torch.Generator) -> Tensor:
    """Training items at `index` as the model takes them."""
    return model.binarise(data.scaled(index, dtype=coreset_prior(model).pseudo_inputs.dtype), generator)


@torch.no_grad()
def coreset_metrics(prior: PseudocoresetPrior, data: Images) -> dict[str, float]:
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
