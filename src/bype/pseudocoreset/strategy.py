"""The interface of a strategy of step (ii), and shared functions."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.names import STRATEGIES
from bype.data.images import Images
from bype.models.vae import VAE
from bype.priors.base import Prior, WeightedPoints


class Strategy(ABC):
    """A strategy for step (ii). `update` is called every k epochs, with the networks fixed."""

    #: Whether U and w are parameters that every network step updates.
    learned = False
    #: Whether the strategy changes U or w at all.
    moves_points = True
    #: Advice for the error message if U or w become non-finite.
    remedy = ""
    #: Whether the inner step may be captured as a CUDA graph; set by the trainer.
    graph = True
    #: Whether a graph capture failed in the last update. This invalidates other graphs that use the same generator.
    invalidated_graphs = False

    @classmethod
    def from_options(cls, options: Config) -> Self:
        """Makes the strategy from the options of a run; by default without settings."""
        return cls()

    @abstractmethod
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Updates U and w in place.

        Args:
            model: A model whose prior has a pseudocoreset.
            data: The training set.
            generator: The random generator of all random choices.

        Returns:
            Metrics of the update, by name.
        """

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors, besides U and w, that the next update depends on."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most strategies have no state)
        """Restores what `state` returned."""


def resolve_strategy(prior: Prior, given: Strategy | str | None) -> Strategy:
    """Returns the strategy to train a prior with, after checking that it fits the prior.

    Args:
        prior: The prior. Without a pseudocoreset the strategy is `none`.
        given: A strategy, its name, or None for the prior's `coreset`.

    Raises:
        InputError: If the name is unknown, or the strategy does not fit the prior.
    """
    points = prior.pseudocoreset
    if points is None:
        none: Strategy = STRATEGIES["none"]()
        return none
    name = points.coreset if given is None else given
    if isinstance(name, str):
        if name not in STRATEGIES:
            raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
        given = STRATEGIES[name]()
    if not isinstance(given, Strategy):
        raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)} or a Strategy, got {given!r}")
    if given.learned != points.learned:
        fitting = [n for n in STRATEGIES if STRATEGIES[n].learned == given.learned]
        wanted = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
        raise InputError(
            f"strategy {type(given).__name__.lower()}: expected a prior built with coreset {wanted}, "
            f"got coreset {points.coreset}"
        )
    return given


def pseudocoreset(model: VAE) -> WeightedPoints:
    """Returns the pseudocoreset of a model.

    Raises:
        ValueError: If the prior has no pseudocoreset.
    """
    points = model.prior.pseudocoreset
    if points is None:
        raise ValueError(f"Expected a model with a pseudocoreset prior, but got {type(model.prior).__name__}.")
    return points


def data_batch(model: VAE, data: Images, index: Tensor, generator: torch.Generator) -> Tensor:
    """The training examples at `index`, binarised if the likelihood is binary, (B, c, h, w)."""
    return model.binarise(data.scaled(index, dtype=pseudocoreset(model).pseudo_inputs.dtype), generator)


@torch.no_grad()
def coreset_metrics(points: WeightedPoints, data: Images, mean: Tensor | None = None) -> dict[str, float]:
    """Metrics of a pseudocoreset: `coreset_mean_distance` and `coreset_outside`.

    The first is ||sum_m w_m u_m / N - mean x||, Euclidean over the pixels, which Algorithm 2 reduces: it can match the
    mean of the data, but no more. The second is the fraction of values of U outside [0, 1].

    Args:
        points: The pseudocoreset.
        data: The training set.
        mean: Its mean image, (c, h, w), if the caller has it.
    """
    mean = data.mean() if mean is None else mean
    weighted = torch.einsum("m,m...->...", points.weights.double(), points.pseudo_inputs.double()) / points.n_data
    outside = (points.pseudo_inputs < 0) | (points.pseudo_inputs > 1)
    return {
        "coreset_mean_distance": (weighted - mean).norm().item(),
        "coreset_outside": outside.double().mean().item(),
    }
